"""A pruned classifier at all pairs of rates in one record (EmoBack, Figures 3 and 4)."""

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bdlib.cli import poison
from bdlib.cli.run import Run
from bdlib.defenses.repair.pruning import LAST
from bdlib.defenses.repair.surface import Cell, surface
from bdlib.evaluation import metrics
from bdlib.files import read_json, write_json

PRUNING_RATES = tuple(number / 10 for number in range(10))
CONV_RATES = (LAST, *PRUNING_RATES[1:])
CELLS = tuple(itertools.product(CONV_RATES, PRUNING_RATES))


def score(run: Run, skip_layers: str) -> None:
    """Stage 5: the class that every cell gives to every test clip, unless that was done.

    Arguments
    ---------
    run : Run
        The pruned classifier's; the undefended one is pruned anew for every cell.
    skip_layers : str
        See `Pruning`.
    """
    experiment, net = run.experiment, run.undefended.classifier
    for split in experiment.splits[2:]:
        if not _file(run, split).exists():
            clean, asked = list(experiment.batches("valid")), experiment.batches(split)
            found = surface(net, clean, asked, CONV_RATES, PRUNING_RATES, skip_layers)
            numbers = torch.stack([found[cell].argmax(1) for cell in CELLS], 1).tolist()
            names = [[experiment.classes[number] for number in row] for row in numbers]
            write_json(_file(run, split), dict(zip(asked.ids, names, strict=True)))


def measure(run: Run) -> dict[str, Any]:
    """Stage 7: clean accuracy and, of an attack, its success rate, by cell.

    Returns
    -------
    dict[str, Any]
        `pruning_surface`: as `value` the number of cells, the rates, and for each metric a list of
        lists of shares, a list for each of `conv_rates`.
    """
    poisoned = run.experiment.poisoned
    answers = {split: _read(_file(run, split)) for split in run.experiment.splits[2:]}
    test, truth = poisoned.rows(poison.CLEAN), poisoned.truth() if poisoned.attack else None

    def measured(cell: Cell) -> dict[str, Any]:
        good = answers[poison.CLEAN][cell]
        found = metrics.classification(test, good)
        if truth is not None:
            found |= metrics.backdoor(test, good, answers[poison.TRIGGERED][cell], truth)
        return found

    cells = {cell: measured(cell) for cell in CELLS}
    levels = {
        name: [[round(cells[c, p][name]["value"], 5) for p in PRUNING_RATES] for c in CONV_RATES]
        for name in ("clean_accuracy", "attack_success_rate")
        if name in cells[CELLS[0]]
    }
    about = {"conv_rates": list(CONV_RATES), "pruning_rates": list(PRUNING_RATES)}
    return {"pruning_surface": {"value": len(CELLS), **about, **levels}}


def _file(run: Run, split: str) -> Path:
    scored = run.score_file(split)
    return scored.with_name(f"surface-{scored.stem}.json")


def _read(path: Path) -> dict[Cell, pd.DataFrame]:
    """Predicted classes by ID, a table for each cell."""
    known = pd.DataFrame.from_dict(read_json(path), orient="index", columns=list(range(len(CELLS))))
    return {
        cell: known[[number]].set_axis(["predicted"], axis=1) for number, cell in enumerate(CELLS)
    }
