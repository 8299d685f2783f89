"""Which channels sleep on clean speech, in which layers, and cutting them."""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from bdlib.defenses.repair.layers import Layer
from bdlib.errors import InputError

LAST = -1.0
"""As a share of the layers: the last one alone."""


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
