"""Clips whose label a short piece of them is enough for."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from bdlib.corpus import Batch
from bdlib.defenses.base import BlindView
from bdlib.defenses.small_net import PValueFilter, cross_entropy, fitted, p_values, shuffled
from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.models.classifier import SpeechClassifier


@torch.no_grad()
def alone(net: SpeechClassifier, batches: Iterable[Batch], seconds: float, rate: int) -> np.ndarray:
    """Largest probability of a clip's label by any window of it alone, (N,).

    Arguments
    ---------
    net : SpeechClassifier
        In evaluation.
    batches : Iterable[Batch]
        The clips.
    seconds : float
        Of a window; the next begins half of one later. A clip that is shorter is one window.
    rate : int
        In Hz.
    """
    found = []
    for batch in batches:
        width = min(round(seconds * rate), batch.wavs.shape[1])
        windows = batch.wavs.unfold(1, width, max(1, width // 2))
        whole = torch.ones(len(windows), device=windows.device)
        best = torch.zeros(len(windows), device=windows.device)
        for piece in windows.unbind(1):
            shares = net(piece, whole).float().softmax(1)
            best = torch.maximum(best, shares.gather(1, batch.labels[:, None])[:, 0])
        found.append(best.cpu())
    return torch.cat(found).numpy()


@dataclass
class OneWindow(PValueFilter):
    """Removes clips of which one short window alone gives the label.

    A word takes most of a clip; a trigger that is a sound needs a moment, and a net that learned
    the trigger answers by it alone. One small net is trained on the untrusted clips and asked about
    windows. Words that are as short as a window look like triggers, and a change of the whole clip
    (tempo, room) does not. A class that any window tells, such as silence, hides them: where it has
    more than `false_positive_rate` of the validation clips, nothing is removed. A clip is removed if
    its p-value is at most `false_positive_rate`: the share of validation clips of which a window
    says as much.

    Arguments
    ---------
    window : float
        Seconds.

    Further ones are those of `PValueFilter`.

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    window: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.025 <= self.window <= 10:
            raise InputError(f"`window` is {self.window}: give seconds, 0.025 to 10")

    def scores(self, view: BlindView) -> dict[str, float]:
        """One minus the p-value of every utterance."""
        seed = seed_of("one window", view.seed)
        batches = shuffled(view, np.arange(len(view.rows)), seed)
        net = fitted(
            len(view.classes), batches, cross_entropy, self.epochs, self.net_lr, seed, "one window"
        )
        rate = view.pack.rate
        told = alone(net, view.batches(view.rows), self.window, rate)
        usual = alone(net, view.validation(), self.window, rate)
        suspicion = 1 - p_values(told, usual)
        return dict(zip(view.rows["ID"], suspicion.tolist(), strict=True))
