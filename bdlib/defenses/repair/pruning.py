"""Channels that sleep on clean speech are cut: the first half of fine-pruning.

Liu et al., RAID 2018 (arXiv:1805.12185), there in the last convolution; EmoBack section 5.5.1, there in
a share of all convolutions, and without the fine-tuning that follows.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import share
from bdlib.defenses.repair.layers import Layer, activations, watched_layers
from bdlib.defenses.repair.shrink import shrink
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier

LAST = -1.0


@dataclass
class Pruning(RepairDefense):
    """Zeroes the least active channels of the last convolutions.

    Of L layers, counted backwards in the order in which they run, each loses the share
    `pruning_rate` of its channels, rounded down: those of the lowest mean activation on clean
    validation clips. L is `conv_rate` of all convolutions, rounded down, as the paper's equal results
    of the x-vector (five layers) at 0.2 and 0.3, and at 0.4 and 0.5, tell; at least one.

    Arguments
    ---------
    pruning_rate : float
        In [0, 1].
    conv_rate : float
        In [0, 1], or -1 for the last convolution alone.
    skip_layers : str
        A regular expression; convolutions in whose names it is found are left alone and not counted
        (``attention|asp|se_block|downsample|fc``).
    surface : bool
        Whether ten rates and ten shares of the layers are measured too, all pairs of them.
    shrink : bool
        Whether channels that are cut are taken out (`shrink`), so that the network is smaller.

    Raises
    ------
    InputError
        If a rate is out of range, the expression is none, or there is no convolution.
    """

    pruning_rate: float = 0.2
    conv_rate: float = 0.5
    skip_layers: str = ""
    surface: bool = False
    shrink: bool = False

    clean_share = 0.0

    def __post_init__(self) -> None:
        share("pruning_rate", self.pruning_rate)
        if self.conv_rate != LAST and not 0 <= self.conv_rate <= 1:
            raise InputError(
                f"`conv_rate` is {self.conv_rate}: give a share of the convolutions, 0 to 1, or -1 for "
                "the last alone"
            )
        try:
            re.compile(self.skip_layers)
        except re.error as error:
            raise InputError(
                f"`skip_layers` is {self.skip_layers}: no regular expression ({error})"
            ) from error

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`."""
        every = without(
            watched_layers(classifier, next(iter(clean.validation()))), self.skip_layers
        )
        chosen = last(every, self.conv_rate)
        means = activations(classifier, chosen, clean.validation())
        for layer in chosen:
            prune(layer, sleepers(means[layer.name], self.pruning_rate))
        return shrink(classifier, clean.validation()) if self.shrink else classifier


def without(every: Sequence[Layer], skip_layers: str) -> list[Layer]:
    """The layers in whose names an expression is not found; all, if it is empty.

    Raises
    ------
    InputError
        If none is left.
    """
    kept = [layer for layer in every if not (skip_layers and re.search(skip_layers, layer.name))]
    if not kept:
        left = (
            f"`skip_layers` is {skip_layers}: no convolution is left" if every else "no convolution"
        )
        raise InputError(f"{left}; pruning needs one")
    return kept


def last(every: Sequence[Layer], conv_rate: float) -> list[Layer]:
    """The last layers by the floor rule; -1 is the very last alone.

    Example
    -------
    >>> [len(last(range(5), rate)) for rate in (-1, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)]
    [1, 1, 1, 1, 2, 2, 5]
    """
    count = 1 if conv_rate == LAST else max(1, _share(conv_rate, len(every)))
    return list(every)[-count:]


def sleepers(means: Tensor, pruning_rate: float) -> Tensor:
    """Numbers of the least active channels, of mean activations (C,), the least active first."""
    return means.argsort(stable=True)[: _share(pruning_rate, len(means))]


@torch.no_grad()
def prune(layer: Layer, channels: Tensor) -> None:
    """Make channels zero for every input, in place.

    The scale and shift of the normalisation that reads them go too: its shift would leak through.
    """
    for module in filter(None, (layer.conv, layer.norm)):
        for parameter in filter(lambda p: p is not None, (module.weight, module.bias)):
            parameter[channels] = 0.0


def _share(rate: float, count: int) -> int:
    """Rounded down, but not for what binary fractions lose: 0.6 of 5 is 3, 0.29 of 100 is 29."""
    return math.floor(rate * count + 1e-9)
