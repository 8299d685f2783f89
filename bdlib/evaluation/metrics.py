"""From scores and truth to numbers with their counts. This is the only place that joins the truth."""

from typing import Any

import numpy as np
import pandas as pd

from bdlib.attacks.poisoner import TRUTH
from bdlib.errors import InputError

Metric = dict[str, float | int]


def rate(hits: pd.Series) -> Metric:
    """A share with its counts: value, count, total."""
    total = len(hits)
    return {"value": float(hits.mean()) if total else 0.0, "count": int(hits.sum()), "total": total}


def read_truth(path: str) -> pd.DataFrame:
    """Read `truth.csv`: index ID; columns split, label_before, label_after, triggered."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)[list(TRUTH)].set_index("ID")
    except (OSError, ValueError, KeyError) as error:
        what = f"{getattr(error, 'strerror', None) or error}".partition("\n")[0]
        raise InputError(
            f"{path}: the truth cannot be read ({what}); delete its folder, and the next run "
            "poisons again"
        ) from error


def classification(test: pd.DataFrame, clean: pd.DataFrame) -> dict[str, Metric]:
    """Accuracy on the clean test set.

    Arguments
    ---------
    test : pd.DataFrame
        The test manifest, with true labels.
    clean : pd.DataFrame
        Scores of all its rows (`scores.read`).
    """
    true = test.set_index("ID")["label"]
    return {"clean_accuracy": rate(_predicted(clean, true.index) == true)}


def backdoor(
    test: pd.DataFrame, clean: pd.DataFrame, triggered: pd.DataFrame, truth: pd.DataFrame
) -> dict[str, Metric]:
    """What the backdoor does (definitions of Armory's poisoning scenario).

    Arguments
    ---------
    test, clean : pd.DataFrame
        As in `classification`.
    triggered : pd.DataFrame
        Scores of the eligible test utterances with the trigger.
    truth : pd.DataFrame
        `read_truth`.

    Returns
    -------
    dict[str, Metric]
        `source_accuracy`: on the eligible rows without the trigger. `attack_success_rate`: share
        of triggered eligible rows predicted as their target. `robust_accuracy`: share of them
        predicted as their true class. `triggered_accuracy`: over all rows, the eligible ones with
        the trigger, against the true labels.
    """
    true = test.set_index("ID")["label"]
    asked = truth[truth["split"] == "test_triggered"]
    without, with_trigger = _predicted(clean, true.index), _predicted(triggered, asked.index)
    mixed = without.copy()
    mixed[asked.index] = with_trigger
    return {
        "source_accuracy": rate(without[asked.index] == true[asked.index]),
        "triggered_accuracy": rate(mixed == true),
        "attack_success_rate": rate(with_trigger == asked["label_after"]),
        "robust_accuracy": rate(with_trigger == true[asked.index]),
    }


def filtering(everyone: pd.Index, kept: pd.Index, truth: pd.DataFrame) -> dict[str, Any]:
    """How well a filter found the poison; positive means removed.

    Arguments
    ---------
    everyone, kept : pd.Index
        IDs of the training set before and after.
    truth : pd.DataFrame
        `read_truth`.
    """
    poisoned = everyone.isin(truth.index[truth["split"] == "train"])
    removed = ~everyone.isin(kept)
    tp, fp = int((removed & poisoned).sum()), int((removed & ~poisoned).sum())
    fn, tn = int((~removed & poisoned).sum()), int((~removed & ~poisoned).sum())
    counts = {"filter_tp": tp, "filter_fp": fp, "filter_fn": fn, "filter_tn": tn}
    metrics: dict[str, Any] = {name: {"value": count} for name, count in counts.items()}
    for name, hit, total in (
        ("filter_tpr", tp, tp + fn),
        ("filter_fpr", fp, fp + tn),
        ("filter_precision", tp, tp + fp),
    ):
        if total:
            metrics[name] = {"value": hit / total, "count": hit, "total": total}
    if tp + fp + fn:
        metrics["filter_f1"] = {"value": 2 * tp / (2 * tp + fp + fn)}
    return metrics


def _predicted(scores: pd.DataFrame, ids: pd.Index) -> pd.Series:
    missing = np.setdiff1d(ids, scores.index)
    if len(missing):
        raise InputError(f"{missing[0]}: not in the score file; delete it and run the score stage")
    return scores.loc[ids, "predicted"]


def summary(measured: dict[str, Metric]) -> str:
    """Metrics as lines for a reader, rates with their counts."""
    lines = []
    for name, metric in measured.items():
        counts = f"  ({metric['count']} of {metric['total']})" if "total" in metric else ""
        value = metric["value"]
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        lines.append(f"  {name.replace('_', ' '):24}{shown}{counts}")
    return "\n".join(lines)
