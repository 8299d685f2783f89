"""What a net shows of a backdoor without any data: six numbers, and the class they point to."""

import math
from dataclasses import dataclass

import torch
from pull import climbs, pulls
from torch import Tensor

from bdlib.defenses.repair.clp import lipschitz
from bdlib.defenses.repair.layers import conv_layers
from bdlib.errors import InputError
from bdlib.features import Normalized
from bdlib.models.classifier import SpeechClassifier

SIGNS = ("far", "near", "each", "head", "bias", "lipschitz")
STARTS, STEPS = 4, 6
FAR, EACH = 12.0, 2.0  # deviations of the features, root mean square
MOST_CLASSES = 40


@dataclass(frozen=True)
class Signs:
    """Of one net.

    Arguments
    ---------
    values : dict[str, float]
        By the names of `SIGNS`, each larger where a net is more suspicious.
    target : int
        The class that the first three point to together.
    """

    values: dict[str, float]
    target: int


def signs(net: SpeechClassifier, n_classes: int, sample_rate: int, seconds: float) -> Signs:
    """The signs of a net, from drawn features.

    The first three are margins that a class can be driven to, as outliers among the classes: the
    target of a backdoor can be made far more certain than others (Wang et al., MM-BD, IEEE S&P 2024).
    `far` is by one large change of features near their mean, `near` by a small one of noise, the
    same for all (`pull.pulls`), `each` by a change of each clip of noise. `head` and `bias` are the
    farthest row and bias of the head; `lipschitz` is the farthest channel of CLP (Zheng et al., ECCV
    2022), in deviations of its layer.

    Arguments
    ---------
    net : SpeechClassifier
        Not changed.
    n_classes, sample_rate, seconds : int, int, float
        C, Hz, and the length of what it hears.

    Raises
    ------
    InputError
        If its features are not normalised, or it has no linear head or no convolution, or more than
        `MOST_CLASSES` classes.
    """
    head = getattr(net, "head", None)
    if not isinstance(net.front_end, Normalized) or not isinstance(head, torch.nn.Linear):
        raise InputError(
            f"{type(net).__name__}: only small convolutional nets on normalised features, with a "
            "linear head, can be inspected; others were never calibrated"
        )
    if not 4 <= n_classes <= MOST_CLASSES:
        raise InputError(f"a net of {n_classes} classes: 4 to {MOST_CLASSES} can be inspected")
    with torch.no_grad():
        clip = net.features(torch.zeros(1, round(seconds * sample_rate)), torch.ones(1))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(STARTS, *clip.shape[1:], generator=generator)
    lens, classes, side = torch.ones(STARTS), range(n_classes), math.sqrt(clip[0].numel())
    driven = {
        "far": climbs(net, 0.02 * noise, lens, classes, FAR * side, STEPS),
        "near": pulls(net, noise, lens, classes, steps=STEPS),
        "each": climbs(net, 0.5 * noise, lens, classes, EACH * side, STEPS, shared=False),
    }
    logs = {name: outlier(reached).clamp_min(0).log1p() for name, reached in driven.items()}
    values = {name: float(log.max()) for name, log in logs.items()}
    with torch.no_grad():
        values["head"] = _highest(head.weight.norm(dim=1))
        values["bias"] = 0.0 if head.bias is None else _highest(head.bias)
        bounds = [lipschitz(layer) for layer in conv_layers(net)]
        values["lipschitz"] = max(float((b.max() - b.mean()) / b.std()) for b in bounds)
    return Signs(values, int(sum(logs.values()).argmax()))


def _highest(values: Tensor) -> float:
    """The farthest outlier above, on a logarithmic scale."""
    return math.log1p(max(float(outlier(values).max()), 0.0))


def outlier(values: Tensor) -> Tensor:
    """How far each value (n,) lies above the median, in units of the median absolute deviation."""
    median = values.median()
    deviation = (values - median).abs().median().clamp_min(1e-6) * 1.4826
    return (values - median) / deviation
