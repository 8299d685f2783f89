"""Attacks x repairs, a table for each model, with DER from pairs of records."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from bdlib.report.budgets import by_budget
from bdlib.report.groups import Records, Runs, attack_key, estimate, group_records, unpoisoned
from bdlib.report.labels import (
    attack_label,
    attack_titles,
    data_labels,
    defense_label,
    flat,
    imitations,
    named_apart,
    policy_label,
    trigger_label,
)
from bdlib.report.table import INTERVALS, SCALES, Grid, Table, percent

DER = "defense_effectiveness"
METRICS = {
    "clean_accuracy": "clean accuracy [%]",
    "attack_success_rate": "attack success rate [%]",
    "robust_accuracy": "robust accuracy [%]",
    DER: "defense effectiveness rating [%]",
}
STEALTH = {
    "stealth_snr_db": "SNR [dB]",
    "stealth_lsd_db": "LSD [dB]",
    "stealth_pesq": "PESQ",
    "stealth_stoi": "STOI",
}
NOTES = {
    "robust_accuracy": "Robust accuracy: triggered clips classified as their true class.",
    DER: "DER: half of 1 + the fall of the attack success rate - the fall of the clean accuracy, "
    "from the undefended classifier of the same seeds; 50 is a repair that does nothing. "
    "A rise counts as no fall, so 50 may also be a repair after which the trigger works better.",
}

Metrics = dict[str, dict[str, Any]]
"""Of a record: value, and count and total where it is a rate, by the name of the metric."""

OTHER = " *"
OTHER_NETS = "*: of other seeds, or of another training, than the undefended classifier of the row."
REFUSED = " †"
REFUSALS = (
    "†: of at least one seed the repair was refused, as no rate kept enough accuracy on clean validation "
    "clips; the undefended classifier stands."
)


def build(records: Records) -> list[Table]:
    """A table for every data set, scale, budget and model that was repaired, with a grid a metric.

    Arguments
    ---------
    records : list of dict
        Records of schema 1, in the order of their files.
    """
    some = [record for record in rated(records) if shown(record)]
    keys = dict.fromkeys(_key(group.record) for group in group_records(some))
    parts = {key: [record for record in some if _key(record) == key] for key in keys}
    return [
        _table(key, group_records(chosen), budget)
        for key, part in parts.items()
        if any(map(repaired, part))
        for budget, chosen in by_budget(part, trained)
    ]


def _key(record: dict[str, Any]) -> tuple[str, str, str, str]:
    """Of which table a record is, budgets apart."""
    dataset = record["dataset"]
    told = (dataset["name"], dataset["variant"] or "", dataset["scale"])
    return (*told, record["model"]["name"])


def rated(records: Records) -> Records:
    """Records under attack, with DER where a repaired classifier's undefended one was measured as well."""
    measured = [
        record
        for record in records
        if record["status"] == "ok" and record["attack"] and not unpoisoned(record)
    ]
    before = undefended(measured)
    return [
        {**record, "metrics": {**record["metrics"], DER: {"value": rating}}}
        if (rating := _rating(record, before)) is not None
        else record
        for record in measured
    ]


def undefended(records: Records) -> dict[str, dict[str, Any]]:
    """The records of classifiers that were not repaired, by `net`, and the last of them by `trained`."""
    found = [record for record in records if shown(record) and not repaired(record)]
    return {which(record): record for which in (trained, net) for record in found}


def before_repair(
    record: dict[str, Any], before: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """The undefended classifier, of those that `undefended` gives, which a repair is compared with.

    Where its own training was not measured, another of the same data, settings and seed.
    """
    return before.get(net(record), before.get(trained(record)))


def trained(record: dict[str, Any]) -> str:
    """What a repaired classifier shares with the undefended one: all but the repair."""
    model = record["model"]
    shared = [record["dataset"]["digest"], record["attack"], record["seed"]]
    return json.dumps([*shared, model["name"], model.get("settings")], sort_keys=True)


def net(record: dict[str, Any]) -> str:
    """`trained`, and when: what was trained anew, on another machine perhaps, is another net."""
    return f"{trained(record)} {_training(record)}"


def _training(record: dict[str, Any]) -> str | None:
    """When the net was trained, if it is told."""
    return record.get("parts", {}).get("training", {}).get("time")


def _rating(record: dict[str, Any], before: dict[str, dict[str, Any]]) -> float | None:
    base = before_repair(record, before)
    if not repaired(record) or base is None:
        return None
    return defense_effectiveness(base["metrics"], record["metrics"])


def _other_training(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two records tell of different trainings, though of the same data, settings and seed."""
    times = [_training(record) for record in (one, other)]
    return None not in times and times[0] != times[1]


def defense_effectiveness(before: Metrics, after: Metrics) -> float | None:
    """DER: ``(1 + max(0, fall of ASR) - max(0, fall of clean accuracy)) / 2`` (Zhu et al. 2023).

    Arguments
    ---------
    before, after : Metrics
        Of the undefended and of the defended classifier, on one test set.

    Returns
    -------
    float | None
        Within [0, 1], 0.5 for a defense that does nothing; None without attack.
    """
    names = ("attack_success_rate", "clean_accuracy")
    if not all(name in metrics for name in names for metrics in (before, after)):
        return None
    success, accuracy = (max(0.0, before[n]["value"] - after[n]["value"]) for n in names)
    return (1 + success - accuracy) / 2


def repaired(record: dict[str, Any]) -> bool:
    """Whether a record is of a repaired classifier."""
    return (record["defense"] or {}).get("stage") == "repair"


def shown(record: dict[str, Any]) -> bool:
    """Undefended (a training that is itself a defense counts) or repaired.

    Not where a filter came first: what is repaired then is no undefended classifier.
    """
    defense = record["defense"] or {}
    filtered = (defense.get("after") or {}).get("stage") == "filter"
    return defense.get("stage") in (None, "training", "repair") and not filtered


def refused(record: dict[str, Any]) -> bool | None:
    """Whether clean validation clips forbade a repair, so that its numbers are those of none.

    None where the record does not tell.
    """
    told = record["metrics"].get("repaired")
    return told and bool(told["tried"]) and not told["value"]


def _table(key: tuple[str, str, str, str], groups: list[Runs], budget: str) -> Table:
    name, variant, scale, model = key
    metrics = [
        metric
        for metric in METRICS
        if any(metric in run["metrics"] for group in groups for run in group.runs)
    ]
    policies = {policy_label(group.record["attack"]) for group in groups}
    attacks = _attack_names(groups, trigger_label if len(policies) == 1 else attack_label)
    grids = [_grid(METRICS[metric], attacks, groups, metric) for metric in metrics]
    notes = [f"All attacks: {policy}." for policy in policies if len(policies) == 1]
    notes += [NOTES[metric] for metric in metrics if metric in NOTES]
    marked = any(cell.endswith(OTHER) for grid in grids for row in grid.rows for cell in row)
    notes += [OTHER_NETS] if marked else []
    notes += [REFUSALS] if any(refused(run) for group in groups for run in group.runs) else []
    estimates = [estimate(group, metric) for group in groups for metric in metrics]
    notes += dict.fromkeys(INTERVALS[e.over] for e in estimates if e and e.over)
    notes += imitations(group.record["attack"] for group in groups)
    title = f"{model} and its repairs{budget}; {name} {variant}, {SCALES[scale]}"
    return Table(name, variant, scale, title, tuple(grids), tuple(notes))


def _grid(title: str, attacks: list[str], groups: list[Runs], metric: str) -> Grid:
    defenses = named_apart([(_defense_name(g.record), _defense(g.record)) for g in groups])
    places = list(zip(attacks, defenses, strict=True))
    nets = {place: _nets(group) for place, group in zip(places, groups, strict=True)}
    texts = [
        percent(estimate(group, metric)) + REFUSED * any(map(refused, group.runs))
        for group in groups
    ]
    cells = {
        (attack, defense): text + OTHER * (bool(text) and _other(nets, attack, defense))
        for (attack, defense), text in zip(places, texts, strict=True)
    }
    shown = [
        column
        for column in sorted(set(defenses), key=lambda name: (name != "none", name))
        if any(cells.get((attack, column)) for attack in attacks)
    ]
    heard = {title: _heard(attacks, groups, of) for of, title in STEALTH.items()}
    heard = {title: column for title, column in heard.items() if column}
    rows = [
        (attack, *(column.get(attack, "") for column in heard.values()),
         *(cells.get((attack, column), "") for column in shown))
        for attack in dict.fromkeys(attacks)
    ]  # fmt: skip
    return Grid(title, ("Attack", *heard, *shown), tuple(rows))


def _attack_names(groups: list[Runs], label: Callable[[dict[str, Any]], str]) -> list[str]:
    """Attacks by `label`, no two alike, with the data and the training where these differ."""
    told = {attack_key(group.record): group.record["attack"] for group in groups}
    titles = dict(zip(told, attack_titles(list(told.values()), label), strict=True))
    data = data_labels([group.record["dataset"] for group in groups])
    names = []
    for record in (group.record for group in groups):
        name = titles[attack_key(record)], data[record["dataset"]["digest"]]
        settings = flat(record["model"].get("settings") or {})
        names.append(("; ".join(filter(None, name)), settings))
    return named_apart(names)


def _nets(group: Runs) -> dict[int, dict[str, Any]]:
    """Records by seed."""
    return {run["seed"]: run for run in group.runs}


def _other(nets: dict[tuple[str, str], dict[int, Any]], attack: str, defense: str) -> bool:
    """Whether a cell is of other nets than the undefended classifier of its row."""
    own = nets[attack, defense]
    base = nets.get((attack, "none"), own)
    return base.keys() != own.keys() or any(_other_training(base[seed], own[seed]) for seed in own)


def _defense_name(record: dict[str, Any]) -> str:
    return defense_label(record["defense"]) if repaired(record) else "none"


def _defense(record: dict[str, Any]) -> dict[str, Any]:
    return flat((record["defense"] or {}).get("settings") or {}) if repaired(record) else {}


def _heard(attacks: Sequence[str], groups: Sequence[Runs], metric: str) -> dict[str, str]:
    """A measure of stealth by attack, where it was measured."""
    heard = [
        (attack, estimate(group, metric)) for attack, group in zip(attacks, groups, strict=True)
    ]
    return {attack: f"{measured.mean:.2f}" for attack, measured in heard if measured}
