"""Numbers of EmoBack's figures, from records of attacks whose trigger is an attribute."""

from collections import defaultdict
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import ttest_ind

from bdlib.report.groups import Estimate, Runs, estimate, group_records, seeds
from bdlib.report.published import Published

METRICS = {"clean_accuracy": "clean accuracy", "attack_success_rate": "attack success rate"}
PREPROCESSING = {"quantise": "quantum", "median_filter": "window", "squeeze": "ratio"}

Means = dict[str, float]
"""Mean by the name of the metric, as a share of one."""


class Case(NamedTuple):
    """A model and an attack: `value` of the attribute triggers, `target` is a gender or a class."""

    model: str
    value: str
    target: str
    rate: float

    def __str__(self) -> str:
        return f"{self.model}, {self.value}, {self.target}, {100 * self.rate:g} %"


def natural(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The measured records whose attack has an attribute as its trigger.

    Targets that were drawn by their gender are told by it, so that several seeds are one case.
    """
    return [
        _by_gender(record)
        for record in records
        if record["status"] == "ok" and "value" in ((record["attack"] or {}).get("labels") or {})
    ]


def _by_gender(record: dict[str, Any]) -> dict[str, Any]:
    attack, gender = record["attack"], record["attack"]["labels"].get("target_gender")
    if gender is None:
        return record
    labels = attack["labels"] | {"target_class": gender}
    return record | {"attack": attack | {"target": gender, "labels": labels}}


def case_of(record: dict[str, Any]) -> Case:
    """What the runs of one curve share."""
    attack, labels = record["attack"], record["attack"]["labels"]
    target = labels.get("target_gender") or attack["target"]
    return Case(record["model"]["name"], labels["value"].lower(), target, attack["rate"])


def attacked(records: list[dict[str, Any]]) -> dict[Case, dict[str, Estimate]]:
    """Figure 2: clean accuracy and attack success rate of undefended models, by case."""
    by_case = _undefended(records)
    estimates = {c: {m: estimate(group, m) for m in METRICS} for c, group in by_case.items()}
    return {case: e for case, e in sorted(estimates.items()) if all(e.values())}


def gender_tests(points: dict[Case, dict[str, Estimate]]) -> dict[str, tuple[float, float]]:
    """Section 6.1.3: t and p of a two-sample t-test of male against female targets, by metric.

    Over the means of all poisoned cases that are there for both; empty where there are fewer than two.
    """
    pairs = [
        (points[case], points[case._replace(target="female")])
        for case in points
        if case.target == "male" and case.rate and case._replace(target="female") in points
    ]
    if len(pairs) < 2:
        return {}
    tests = {}
    for metric in METRICS:
        sides = [[one[metric].mean for one in side] for side in zip(*pairs, strict=True)]
        if any(len(set(side)) > 1 for side in sides):  # else there is no deviation to compare with
            test = ttest_ind(*sides)
            tests[metric] = (float(test.statistic), float(test.pvalue))
    return tests


def pruned(records: list[dict[str, Any]]) -> dict[Case, dict[str, Any]]:
    """Figures 3 and 4: of each case the newest record's metrics at all pairs of rates."""
    return _newest(records, "pruning", "pruning_surface")


def screened(records: list[dict[str, Any]]) -> dict[Case, dict[str, Any]]:
    """Figure 5: of each case the means over seeds of the area and of both rates at every preset."""
    by_case = {}
    for group in _groups(records, "strip_vita"):
        entries = [run["metrics"].get("detection_auc") for run in group.runs]
        if entries and all(entries):
            curve = pd.DataFrame([point for entry in entries for point in entry["curve"]])
            curve = curve.groupby("preset", as_index=False).mean().to_dict("records")
            value = sum(entry["value"] for entry in entries) / len(entries)
            by_case[case_of(group.record)] = {"value": value, "curve": curve}
    return dict(sorted(by_case.items()))


def entropies(records: list[dict[str, Any]]) -> dict[Case, dict[str, Any]]:
    """Figure 6: of each case the newest record's histogram of suspicions."""
    return _newest(records, "strip_vita", "detection_auc")


def preprocessed(
    records: list[dict[str, Any]],
) -> dict[Case, dict[str, list[tuple[float, str, Means]]]]:
    """Figure 7: by case and defense, the strength, how it is called, and the metrics.

    The weakest is the undefended model of the same seeds, by which targets are drawn, called ``none``.
    """
    plain = _undefended(records)
    by_case: dict[Case, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for defense, setting in PREPROCESSING.items():
        met: dict[Case, set[tuple[int | None, int]]] = defaultdict(set)
        for group in _groups(records, defense):
            settings, case = group.record["defense"]["settings"], case_of(group.record)
            met[case] |= {seeds(run) for run in group.runs}
            level = settings[setting]
            zeros = "*" if settings.get("mode") == "zero_insert" else ""
            strength = -level if defense == "squeeze" else level
            by_case[case][defense].append((strength, f"{level:g}{zeros}", _means(group)))
        for case, curves in by_case.items():
            undefended = plain[case].runs if case in plain else ()
            runs = tuple(run for run in undefended if seeds(run) in met[case])
            if runs:
                curves[defense].append((float("-inf"), "none", _means(Runs(runs, ()))))
    return {
        case: {name: sorted(curve, key=lambda point: point[:2]) for name, curve in curves.items()}
        for case, curves in sorted(by_case.items())
    }


def stated(published: list[Published], dataset: str) -> dict[Case, float]:
    """Attack success rates that the paper states in its text, by case, of the full-size models."""
    return {
        Case(number.model, number.attack.removeprefix("emotion_"), number.target_class, number.rate):
        number.value
        for number in published
        if number.dataset == dataset and number.metric == "attack_success_rate" and number.rate
        and number.attack.startswith("emotion_") and not number.defense
    }  # fmt: skip


def _defense(record: dict[str, Any]) -> str | None:
    return (record["defense"] or {}).get("name")


def _undefended(records: list[dict[str, Any]]) -> dict[Case, Runs]:
    """Of groups that differ in their settings alone, one stands for all.

    It is the one whose test asked most clips, and of these the one with most seeds.
    """

    def weight(group: Runs) -> tuple[int, int]:
        return group.record["attack"].get("eligible", 0), len(group.runs)

    by_case: dict[Case, Runs] = {}
    for group in _groups(records, None):
        case = case_of(group.record)
        if case not in by_case or weight(group) > weight(by_case[case]):
            by_case[case] = group
    return by_case


def _newest(records: list[dict[str, Any]], defense: str, metric: str) -> dict[Case, dict[str, Any]]:
    by_case = {
        case_of(record): record["metrics"][metric]
        for record in records
        if _defense(record) == defense and metric in record["metrics"]
    }
    return dict(sorted(by_case.items()))


def _groups(records: list[dict[str, Any]], defense: str | None) -> list[Runs]:
    return group_records([record for record in records if _defense(record) == defense])


def _means(group: Runs) -> Means:
    estimates = {metric: estimate(group, metric) for metric in METRICS}
    return {metric: known.mean for metric, known in estimates.items() if known}
