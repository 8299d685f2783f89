"""What the pictures of view models show: logits of single views, and energies (MVJ section 3)."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.models.wide_resnet import WideResNet


@torch.inference_mode()
def votes(classifier: WideResNet, wav: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What each view of one utterance says.

    A logit is the log-likelihood log p(x^tau, y) of the view and the class up to one constant, and
    what Eq. 7 adds up over views. The log softmax, log p(y | x^tau), would hide which views the
    model finds likely at all, and with that which of them decide.

    Arguments
    ---------
    classifier : WideResNet
        On any device; it is put in evaluation mode.
    wav : Tensor
        (samples,) in [-1, 1], on any device.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Features (T, F), and logits (views, C) of the views beginning at frames 0, 1, 2, ...

    Raises
    ------
    InputError
        If the utterance is shorter than a view.
    """
    wavs = wav[None].to(_device(classifier.eval()))
    features = classifier.features(wavs, torch.ones(1, device=wavs.device))
    logits = classifier.view_logits(features).float()
    return features[0].cpu().numpy(), logits[0].cpu().numpy()


@torch.inference_mode()
def energies(
    classifier: WideResNet, batches: Iterable[Batch], noise: torch.Generator | None = None
) -> np.ndarray:
    """Energy of every utterance, ``-log sum_{tau, y} exp f(x^tau)_y`` over views and classes.

    It is the energy of Grathwohl et al. (2020, Eq. 5) with views summed as in Eq. 7 of MVJ: low
    where the model finds an utterance likely. Twice as many views lower it by up to log 2, so only
    utterances of one length compare.

    Arguments
    ---------
    classifier : WideResNet
        On any device; it is put in evaluation mode.
    batches : Iterable[Batch]
        The utterances. What of them is triggered is for the caller to know.
    noise : torch.Generator | None
        On the CPU. If given, N(0, 1) is drawn in place of the features, in their shape: inputs on
        the scale of normalised features that are no speech. The batch size does not matter.

    Returns
    -------
    np.ndarray
        (N,) float64 in the order of the batches; (0,) without batches.

    Raises
    ------
    InputError
        If the utterances are shorter than a view.
    """
    device, found = _device(classifier.eval()), [torch.zeros(0, dtype=torch.float64)]
    for batch in batches:
        features = classifier.features(batch.wavs.to(device), batch.lens.to(device))
        if noise is not None:
            clips = [torch.randn(features.shape[1:], generator=noise) for _ in features]
            features = torch.stack(clips).to(device)
        logits = classifier.view_logits(features).double()
        found.append(-logits.flatten(1).logsumexp(1).cpu())
    return torch.cat(found).numpy()


def _device(classifier: WideResNet) -> torch.device:
    return next(classifier.parameters()).device
