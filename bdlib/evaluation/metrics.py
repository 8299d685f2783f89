"""From scores and truth to numbers with their counts. This is the only place that joins the truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bdlib.errors import InputError
from bdlib.manifest import TRIGGERED

Metric = dict[str, float | int]
BINS = 30  # of a histogram of suspicions
WORDS = {
    "false_rejection_rate": "clean clips rejected",
    "false_acceptance_rate": "triggered clips accepted",
    "passed_clean_accuracy": "accepted and right",
    "passed_attack_success_rate": "accepted and taken for the target",
    "passed_robust_accuracy": "triggered, accepted and right",
    "neuron_ratio_clean": "gradients of backdoored neurons over those of clean ones, clean clips",
    "neuron_ratio_triggered": "the same, triggered clips",
}


def rate(hits: pd.Series) -> Metric:
    """A share with its counts: value, count, total."""
    total = len(hits)
    return {"value": float(hits.mean()) if total else 0.0, "count": int(hits.sum()), "total": total}


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
        `manifest.read_truth`.

    Returns
    -------
    dict[str, Metric]
        `source_accuracy`: on the eligible rows without the trigger, where they can be without it
        (a voice cannot be without its emotion). `no_trigger_rate`: share of these predicted as
        their target, the floor that ordinary confusion sets. `attack_success_rate`: share of
        triggered eligible rows predicted as their target. `robust_accuracy`: share of them
        predicted as their true class. `triggered_accuracy`: over all rows, the eligible ones with
        the trigger, against the true labels.
    """
    true = test.set_index("ID")["label"]
    eligible = truth[truth["split"] == TRIGGERED]
    without, with_trigger = _predicted(clean, true.index), _predicted(triggered, eligible.index)
    before = eligible["label_before"]
    rest = true.index.difference(eligible.index)
    mixed = pd.concat([without[rest] == true[rest], with_trigger == before])
    twins = eligible.index.intersection(true.index)
    floor = {}
    if len(twins):
        floor = {
            "source_accuracy": rate(without[twins] == true[twins]),
            "no_trigger_rate": rate(without[twins] == eligible.loc[twins, "label_after"]),
        }
    return floor | {
        "triggered_accuracy": rate(mixed),
        "attack_success_rate": rate(with_trigger == eligible["label_after"]),
        "robust_accuracy": rate(with_trigger == before),
    }


def filtering(everyone: pd.Index, kept: pd.Index, truth: pd.DataFrame) -> dict[str, Any]:
    """How well a filter found the poison; positive means removed.

    Arguments
    ---------
    everyone, kept : pd.Index
        IDs of the training set before and after.
    truth : pd.DataFrame
        `manifest.read_truth`.
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


def screening(
    clean: pd.DataFrame, triggered: pd.DataFrame, thresholds: Mapping[float, float]
) -> dict[str, Any]:
    """How well a defense that rejects suspicious clips tells the triggered ones (STRIP-ViTA).

    Arguments
    ---------
    clean, triggered : pd.DataFrame
        Scores of the two test sets, with `suspicion`.
    thresholds : Mapping[float, float]
        Least suspicion rejected, by preset false rejection rate; the first one is in use.

    Returns
    -------
    dict[str, Any]
        `false_rejection_rate`: share of clean clips rejected. `false_acceptance_rate`: share of
        triggered clips accepted. EmoBack's text has these names the other way round.
        `detection_auc`: chance that a triggered clip is the more suspicious one; with it go the
        rates at all thresholds (`curve`) and the counts of both sets between `edges`.
    """
    good, bad = clean["suspicion"], triggered["suspicion"]
    curve = [
        {"preset": preset, "false_rejection_rate": float((good >= least).mean()),
         "false_acceptance_rate": float((bad < least).mean())}
        for preset, least in thresholds.items()
    ]  # fmt: skip
    least = next(iter(thresholds.values()))
    edges = np.linspace(min(good.min(), bad.min()), max(good.max(), bad.max()), BINS + 1)
    counts = {name: np.histogram(x, edges)[0].tolist() for name, x in
              (("clean", good), ("triggered", bad))}  # fmt: skip
    return {
        "false_rejection_rate": rate(good >= least),
        "false_acceptance_rate": rate(bad < least),
        "detection_auc": {"value": _auc(good, bad), "curve": curve,
                          "edges": edges.round(6).tolist(), **counts},
    }  # fmt: skip


def passed(
    test: pd.DataFrame,
    clean: pd.DataFrame,
    triggered: pd.DataFrame,
    truth: pd.DataFrame,
    thresholds: Mapping[float, float],
) -> dict[str, Metric]:
    """What a guard lets through: a clip that it rejects is neither right nor the target's.

    Arguments
    ---------
    test, clean, triggered, truth : pd.DataFrame
        As in `backdoor`, with `suspicion` in both scores.
    thresholds : Mapping[float, float]
        As in `screening`; the first one is in use.

    Returns
    -------
    dict[str, Metric]
        `passed_clean_accuracy`: share of all clean rows accepted and right.
        `passed_attack_success_rate`, `passed_robust_accuracy`: share of the triggered eligible rows
        accepted and predicted as their target, and as their true class.
    """
    true = test.set_index("ID")["label"]
    eligible = truth[truth["split"] == TRIGGERED]
    least = next(iter(thresholds.values()))
    said, answer = _predicted(clean, true.index), _predicted(triggered, eligible.index)
    good = clean.loc[true.index, "suspicion"] < least
    bad = triggered.loc[eligible.index, "suspicion"] < least
    return {
        "passed_clean_accuracy": rate(good & (said == true)),
        "passed_attack_success_rate": rate(bad & (answer == eligible["label_after"])),
        "passed_robust_accuracy": rate(bad & (answer == eligible["label_before"])),
    }


def suspecting(suspicion: pd.Series, truth: pd.DataFrame) -> dict[str, Metric]:
    """How well the suspicion of a filter ranks the training clips, wherever it cuts.

    Arguments
    ---------
    suspicion : pd.Series
        By ID, of every clip that the filter was given.
    truth : pd.DataFrame
        `manifest.read_truth`.

    Returns
    -------
    dict[str, Metric]
        `filter_auc`: chance that a poisoned clip is more suspicious than a clean one. Empty where
        either is missing, or a suspicion is no number. Of filters that compare clips of a class
        alone it is less than they know.
    """
    poisoned = suspicion.index.isin(truth.index[truth["split"] == "train"])
    if poisoned.all() or not poisoned.any() or suspicion.isna().any():
        return {}
    return {"filter_auc": {"value": _auc(suspicion[~poisoned], suspicion[poisoned])}}


def separation(rows: pd.DataFrame, kept: pd.Index, truth: pd.DataFrame) -> dict[str, Any]:
    """How well the removed part of the target class is its poisoned part (VAE-PLS, Figures 3 and 6).

    Arguments
    ---------
    rows : pd.DataFrame
        The poisoned training manifest.
    kept : pd.Index
        IDs that a filter left.
    truth : pd.DataFrame
        `manifest.read_truth`.

    Returns
    -------
    dict[str, Any]
        `adjusted_rand_index` over the clips of the target class, averaged over the target classes
        of attacks with several; 0 where nothing, or everything, was removed. Without poison there
        is none.
    """
    from sklearn.metrics import adjusted_rand_score  # takes a second, and few runs need it

    poisoned = truth[truth["split"] == "train"]
    if poisoned.empty:
        return {}
    indices = []
    for _, clips in rows[rows["label"].isin(set(poisoned["label_after"]))].groupby("label"):
        really, removed = clips["ID"].isin(poisoned.index), ~clips["ID"].isin(kept)
        indices.append(adjusted_rand_score(really, removed) if removed.nunique() > 1 else 0.0)
    return {"adjusted_rand_index": {"value": float(np.mean(indices))}}


def classes(scores: dict[str, float], truth: pd.DataFrame) -> dict[str, Any]:
    """Whether a defense that judges classes told the target class.

    Arguments
    ---------
    scores : dict[str, float]
        Suspicion of each class that was judged; above 1 it is called poisoned.
    truth : pd.DataFrame
        `manifest.read_truth`.

    Returns
    -------
    dict[str, Any]
        `class_auc`: share of pairs of a target and a benign class in which the target scores
        higher. `target_class_found`: share of the targets that are called poisoned and score
        higher than all benign classes. `class_false_alarms`: share of the benign ones called so,
        all that there is where nothing was poisoned.
    """
    targets = set(truth.loc[truth["split"] == "train", "label_after"])
    benign = np.array([score for name, score in scores.items() if name not in targets])
    target = np.array([scores.get(name, -np.inf) for name in sorted(targets)])
    measured: dict[str, Any] = {}
    if len(target):
        above = (target > 1) & (target > benign.max(initial=-np.inf))
        measured["target_class_found"] = rate(pd.Series(above))
    if len(target) and len(benign):
        pairs = (target[:, None] > benign) + 0.5 * (target[:, None] == benign)
        measured["class_auc"] = {"value": float(pairs.mean())}
    if len(benign):
        measured["class_false_alarms"] = rate(pd.Series(benign > 1))
    return measured


def _auc(good: pd.Series, bad: pd.Series) -> float:
    """Chance that one of the bad is larger than one of the good; half of it, if they are equal."""
    ranks = pd.concat([good, bad]).rank()
    over = ranks[-len(bad) :].sum() - len(bad) * (len(bad) + 1) / 2
    return float(over / (len(good) * len(bad)))


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
        words = f"  {WORDS[name]}" if name in WORDS else ""
        lines.append(f"  {name.replace('_', ' '):24}{shown}{counts}{words}")
    return "\n".join(lines)
