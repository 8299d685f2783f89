"""Channels that sleep on clean speech are cut: the first half of fine-pruning.

Liu et al., RAID 2018 (arXiv:1805.12185), there in the last convolution; EmoBack section 5.5.1, there in
a share of all convolutions, and without the fine-tuning that follows.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import share
from bdlib.defenses.repair.dormant import LAST, last, prune, sleepers, without
from bdlib.defenses.repair.layers import activations, watched_layers
from bdlib.defenses.repair.shrink import shrink
from bdlib.defenses.repair.surface import Cell, surface
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier

PRUNING_RATES = tuple(number / 10 for number in range(10))
CONV_RATES = (LAST, *PRUNING_RATES[1:])


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

    @property
    def grid(self) -> tuple[Cell, ...]:
        """All pairs of ten shares of the layers and ten rates, where a surface is asked for."""
        return tuple(itertools.product(CONV_RATES, PRUNING_RATES)) if self.surface else ()

    def grid_answers(
        self, classifier: SpeechClassifier, clean: Sequence[Batch], clips: Iterable[Batch]
    ) -> Tensor:
        """See `RepairDefense`; at a fraction of the work of pruning anew for each pair."""
        logits = surface(classifier, clean, clips, CONV_RATES, PRUNING_RATES, self.skip_layers)
        return torch.stack([logits[cell].argmax(1) for cell in self.grid], 1)

    def grid_metrics(self, measured: Mapping[Cell, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Clean accuracy and ASR of every cell (EmoBack, Figures 3 and 4).

        Returns
        -------
        dict[str, dict[str, Any]]
            `pruning_surface`: as `value` the number of cells, the rates, and for each metric a list
            of lists of shares, a list for each of `conv_rates`.
        """
        levels = {
            name: [
                [round(measured[layers, rate][name]["value"], 5) for rate in PRUNING_RATES]
                for layers in CONV_RATES
            ]
            for name in ("clean_accuracy", "attack_success_rate")
            if name in measured[self.grid[0]]
        }
        rates = {"conv_rates": list(CONV_RATES), "pruning_rates": list(PRUNING_RATES)}
        return {"pruning_surface": {"value": len(self.grid), **rates, **levels}}
