"""Runs that differ in nothing but their seeds, and the statistics over them."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from bdlib.records.record import STAGES, wilson

Records = list[dict[str, Any]]
"""Records of schema 1, in the order of their files."""


@dataclass(frozen=True)
class Runs:
    """Records of one attack x model x defense on one data set.

    `runs` holds the records with status ok, one for each pair of seeds (attack, training); `failed`
    those that ended in an error and were not repeated since.
    """

    runs: tuple[dict[str, Any], ...]
    failed: tuple[dict[str, Any], ...]

    @property
    def record(self) -> dict[str, Any]:
        """Any one record: what the records of a group share can be read from it."""
        return (self.runs or self.failed)[0]


@dataclass(frozen=True)
class Estimate:
    """A metric over the runs of a group: `low` and `high` bound it at 95 %, if that is known.

    `over` says what the interval is over: `seeds`, `utterances`, or nothing. Two seeds tell too
    little for an interval; `low` and `high` are their values then, and `over` is `pair`.
    """

    mean: float
    low: float
    high: float
    over: str

    @property
    def of_seeds(self) -> bool:
        """Whether `low` and `high` are from several seeds."""
        return self.over in ("seeds", "pair")


def unpoisoned(record: dict[str, Any]) -> bool:
    """Whether nothing was poisoned, and test clips got the trigger all the same."""
    return record["attack"] is not None and record["attack"]["rate"] == 0


def t_interval(values: list[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of at least two values and the bounds of its Student t-interval.

    Example
    -------
    >>> [round(x, 3) for x in t_interval([0.9, 0.92, 0.94])]
    [0.92, 0.87, 0.97]
    """
    from scipy.special import stdtrit  # takes long to import

    n = len(values)
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * math.sqrt(variance / n)
    return mean, mean - half, mean + half


def let_through(group: Runs, metric: str) -> Estimate | None:
    """As `estimate`; of a guard that rejects clips these count as neither right nor the target's.

    None where a guard judged clips and its records, as the first ones, do not tell who passed.
    """
    passed = estimate(group, f"passed_{metric}")
    if passed or _judges(group):
        return passed
    return estimate(group, metric)


def _judges(group: Runs) -> bool:
    return any("false_rejection_rate" in run["metrics"] for run in group.runs)


def estimate(group: Runs, metric: str) -> Estimate | None:
    """Mean of a metric over the runs of a group, or None where not all have it.

    A mean of some would stand beside those of other metrics as if it were of the same runs.

    Three or more runs give a t-interval over seeds, two give both values. One run gives the Wilson
    interval over its utterances, where it stored the counts.
    """
    entries = [run["metrics"].get(metric) for run in group.runs]
    if None in entries:
        return None
    if len(entries) == 1 and "total" in entries[0]:
        (entry,) = entries
        return Estimate(entry["value"], *wilson(entry["count"], entry["total"]), over="utterances")
    return _over_runs([entry["value"] for entry in entries])


def above_floor(group: Runs) -> Estimate | None:
    """Attack success rate less the rate without a trigger, run by run; None where a run has not both.

    What is left is what the trigger does; the rest is ordinary confusion of source and target.
    """
    told = [run["metrics"] for run in group.runs]
    if not all("no_trigger_rate" in metrics for metrics in told):
        return None
    return _over_runs(
        [m["attack_success_rate"]["value"] - m["no_trigger_rate"]["value"] for m in told]
    )


def seeds(record: dict[str, Any]) -> tuple[int | None, int]:
    """Of the attack, None without one, and of the training."""
    return record["attack"]["seed"] if record["attack"] else None, record["seed"]


def clean_twins(groups: list[Runs]) -> list[Runs | None]:
    """Of each group that of the same model, data and defense without an attack, if it was measured."""
    rest = [key[: ATTACK.start] + key[ATTACK.stop :] for key in (_key(g.record) for g in groups)]
    clean = {
        key: group
        for key, group in zip(rest, groups, strict=True)
        if group.runs and group.record["attack"] is None
    }
    return [clean.get(key) for key in rest]


def _over_runs(values: list[float]) -> Estimate | None:
    """Mean over runs: with an interval of three and more, with both values of two."""
    if not values:
        return None
    if len(values) > 2:
        return Estimate(*t_interval(values), over="seeds")
    if len(values) == 2:
        return Estimate(sum(values) / 2, *sorted(values), over="pair")
    return Estimate(*values * 3, over="")


def group_records(records: list[dict[str, Any]]) -> list[Runs]:
    """Group records by data set, attack, defense and model, in a fixed order.

    Of records with the same pair of seeds the one appended last counts, so a repeated run replaces
    the earlier one; only one with the same data and settings does. A failure whose command has
    succeeded since is dropped: it knows too little of itself to be replaced.
    """
    by_key: dict[tuple, dict[tuple, dict[str, Any]]] = {}
    repeated = {record["command"] for record in records if record["status"] == "ok"}
    for record in records:
        if record["status"] == "failed" and record["command"] in repeated:
            continue
        pair = seeds(record)
        runs = by_key.setdefault(_key(record), {})
        # A failure does not undo a measurement that stands.
        if record["status"] == "ok" or runs.get(pair, record)["status"] == "failed":
            runs[pair] = record
    groups = []
    for key in sorted(by_key):
        runs = [by_key[key][pair] for pair in sorted(by_key[key], key=str)]
        ok = tuple(run for run in runs if run["status"] == "ok")
        groups.append(Runs(ok, tuple(run for run in runs if run["status"] == "failed")))
    return groups


ATTACK = slice(4, 10)  # places of the attack in a key


def attack_key(record: dict[str, Any]) -> tuple:
    """What makes two attacks the same, whatever the seed of the poison."""
    return _key(record)[ATTACK]


def _key(record: dict[str, Any]) -> tuple:
    """What makes two records comparable, as strings and numbers that sort."""
    dataset, model = record["dataset"], record["model"]
    attack, defense = record["attack"] or {}, record["defense"] or {}
    stage = STAGES.index(defense["stage"]) if defense else -1
    return (
        dataset["name"],
        dataset["variant"] or "",
        dataset["scale"],
        dataset["digest"],
        attack.get("name", ""),
        json.dumps(attack.get("trigger"), sort_keys=True),
        attack.get("rate", 0.0),
        attack.get("of", ""),
        json.dumps([attack.get("source"), attack.get("target")]),
        json.dumps(attack.get("labels"), sort_keys=True),
        model["name"],
        model["yaml"],
        json.dumps(model.get("settings"), sort_keys=True),
        stage,
        defense.get("name", ""),
        defense.get("selection", ""),
        defense.get("clean_budget", 0),
        _ordered(defense.get("settings")),
        _ordered((defense.get("after") or {}).get("settings")),
    )


def _ordered(settings: dict[str, Any] | None) -> str:
    """Settings as text that sorts by their numbers: 3 before 11."""
    text = json.dumps(settings, sort_keys=True)
    return re.sub(r"(?<![\d.])\d+", lambda digits: digits[0].zfill(9), text)
