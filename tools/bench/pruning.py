"""A surface of prunings, 10 rates and 10 shares of the layers at most, beside pruning cell by cell.

Cell by cell, each copy of the classifier is ranked, pruned and run through. The surface ranks once,
computes features and what lies below the first pruned layer once a batch, and answers once for cells
that cut the same channels. Both must give the same answers. They take turns, so that a slow moment
strikes both; noise of three seconds stands for speech. The last line is one JSON object.
"""

import argparse
import copy
import itertools
import json
from collections.abc import Sequence

import torch
from shared.timing import facts, options, precision, ratio, summary, turns

from bdlib.cli.command import guarded
from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData
from bdlib.defenses.repair.pruning import CONV_RATES, PRUNING_RATES, Pruning
from bdlib.defenses.repair.surface import Cell, surface
from bdlib.files import COMMON
from bdlib.models.classifier import SpeechClassifier
from bdlib.stages.document import Document

SIZES = {
    "quick": {"rates": 5, "clips": 2, "batches": 1, "samples": 8000},
    "cuda": {"rates": 10, "clips": 64, "batches": 4, "samples": 48000},
    "cpu": {"rates": 10, "clips": 16, "batches": 2, "samples": 48000},
}


def drawn(args: argparse.Namespace, seed: int) -> list[Batch]:
    """Batches of noise."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Batch(
            [],
            0.1 * torch.randn(args.clips, args.samples, generator=generator),
            torch.ones(args.clips),
            torch.zeros(args.clips, dtype=torch.long),
        ).to(args.device)
        for _ in range(args.batches)
    ]


@torch.no_grad()
def apart(
    net: SpeechClassifier, clean: list[Batch], batches: list[Batch], cells: Sequence[Cell]
) -> dict[Cell, torch.Tensor]:
    """Logits by cell, one pruned copy after the other."""
    data, logits = CleanData(lambda size: None, lambda: clean, 0, 0), {}
    for conv_rate, rate in cells:
        pruned = Pruning(rate, conv_rate).repair(copy.deepcopy(net), data)
        answers = [pruned(batch.wavs, batch.lens) for batch in batches]
        logits[conv_rate, rate] = torch.cat(answers)
    return logits


def measure(args: argparse.Namespace) -> dict:
    """All figures for the sizes asked for."""
    torch.manual_seed(0)
    yaml = COMMON.parent / "RAVDESS" / "hparams" / "xvector_small.yaml"
    net = Document(yaml).build()["model"]["classifier"](n_classes=24).to(args.device).eval()
    clean, batches = drawn(args, 0), drawn(args, 1)
    rates = CONV_RATES[: args.rates], PRUNING_RATES[: args.rates]

    def together() -> dict[Cell, torch.Tensor]:
        with precision(args):
            return surface(net, clean, batches, *rates)

    def separate() -> dict[Cell, torch.Tensor]:
        with precision(args):
            return apart(net, clean, batches, list(itertools.product(*rates)))

    one, other = together(), separate()
    same = [bool((one[cell].argmax(1) == other[cell].argmax(1)).all()) for cell in other]
    seconds = turns({"surface": together, "apart": separate}, args)
    gain, total = ratio(seconds["apart"], seconds["surface"]), args.clips * args.batches
    return {
        "name": "pruning",
        "ratio": gain["median"],
        "over": "time of pruning cell by cell over that of the whole surface",
        "ratio_spread": gain,
        "cells": len(one),
        "distinct_cells": len({tuple(logits.flatten().tolist()) for logits in one.values()}),
        "same_answers": sum(same) / len(same),
        "utterances_times_cells_per_s": {
            name: summary([total * len(one) / value for value in values], 1)
            for name, values in seconds.items()
        },
    }


def main() -> None:
    """Command line."""
    args = options(__doc__, SIZES)
    print(json.dumps(measure(args) | vars(args) | facts(args.device)))


if __name__ == "__main__":
    with guarded():
        main()
