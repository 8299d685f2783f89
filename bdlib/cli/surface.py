"""A pruned classifier at all pairs of rates in one record (EmoBack, Figures 3 and 4)."""

from typing import Any

import numpy as np
import pandas as pd

from bdlib.cli import poison
from bdlib.cli.experiment import Experiment
from bdlib.defenses.repair.pruning import LAST
from bdlib.defenses.repair.surface import Cell, surface
from bdlib.evaluation import metrics
from bdlib.models.classifier import SpeechClassifier

PRUNING_RATES = tuple(number / 10 for number in range(10))
CONV_RATES = (LAST, *PRUNING_RATES[1:])


def measure(
    experiment: Experiment, classifier: SpeechClassifier, skip_layers: str
) -> dict[str, Any]:
    """Clean accuracy and, of an attack, its success rate, by share of the layers and pruning rate.

    Arguments
    ---------
    experiment : Experiment
        With its test sets.
    classifier : SpeechClassifier
        The undefended one.
    skip_layers : str
        See `Pruning`.

    Returns
    -------
    dict[str, Any]
        `pruning_surface`: as `value` the number of cells, the rates, and for each metric a list of
        lists of shares, a list for each of `conv_rates`.
    """
    clean = list(experiment.batches("valid"))
    answers = {
        split: _predicted(experiment, split, surface(
            classifier, clean, experiment.batches(split), CONV_RATES, PRUNING_RATES, skip_layers
        ))
        for split in experiment.splits[2:]
    }  # fmt: skip
    test = experiment.poisoned.rows(poison.CLEAN)
    truth = experiment.poisoned.truth() if experiment.poisoned.attack else None

    def measured(cell: Cell) -> dict[str, Any]:
        good = answers[poison.CLEAN][cell]
        found = metrics.classification(test, good)
        if truth is not None:
            found |= metrics.backdoor(test, good, answers[poison.TRIGGERED][cell], truth)
        return found

    cells = [[measured((share, rate)) for rate in PRUNING_RATES] for share in CONV_RATES]
    shown = [name for name in ("clean_accuracy", "attack_success_rate") if name in cells[0][0]]
    levels = {
        name: [[round(cell[name]["value"], 5) for cell in row] for row in cells] for name in shown
    }
    about = {"value": len(CONV_RATES) * len(PRUNING_RATES), "conv_rates": list(CONV_RATES)}
    return {"pruning_surface": {**about, "pruning_rates": list(PRUNING_RATES), **levels}}


def _predicted(experiment: Experiment, split: str, found: dict) -> dict[Cell, pd.DataFrame]:
    """Logits by cell as tables of predicted classes, by ID."""
    ids = [name for batch in experiment.batches(split) for name in batch.ids]
    names = np.array(experiment.classes)
    return {
        cell: pd.DataFrame({"predicted": names[logits.argmax(1).cpu().numpy()]}, index=ids)
        for cell, logits in found.items()
    }
