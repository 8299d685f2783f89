"""Which repair is best over all attacks, models and seeds that all of them met."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from bdlib.report.budgets import by_budget
from bdlib.report.groups import Records
from bdlib.report.labels import defense_label, flat, named_apart
from bdlib.report.matrix import (
    DER,
    before_repair,
    net,
    rated,
    refused,
    shown,
    undefended,
)
from bdlib.report.table import SCALES, Grid, Table

REMOVED = 0.2  # attack success rate below which a backdoor counts as removed
NOTES = (
    "Over all pairs of a repair and a classifier; rank 1 is the best DER of a classifier, and equal "
    "ones share their mean rank, and the best.",
    "Repairs that did not meet all these classifiers are left out.",
    "Refused: clean validation clips forbade every rate, and the undefended classifier counts.",
)
AGAIN = (
    "{} of the {} pairs are of another training than their undefended classifier, of the same data, "
    "settings and seed."
)
COLUMNS = (
    *("Repair", "Mean rank", "Best", "DER [%]", "Fall of ASR [points]"),
    *("Fall of clean accuracy [points]", f"ASR below {100 * REMOVED:g} %", "Refused"),
)


BRIEF = tuple(column for column in COLUMNS if column not in ("Best", "DER [%]"))


@dataclass(frozen=True)
class Row:
    """What a repair made of one classifier; all but the names are shares of one."""

    repair: str
    classifier: str
    again: bool  # of another training of it than the undefended one
    der: float
    success: float
    success_fall: float
    accuracy_fall: float
    refused: bool | None


def build(records: Records) -> list[Table]:
    """A table for each data set, scale and budget with which two repairs or more met the same classifiers.

    And another of the first seed alone, if more repairs met its classifiers than those of all seeds.

    Arguments
    ---------
    records : list of dict
        Records of schema 1.
    """
    tasks: dict[tuple[str, str, str], Records] = defaultdict(list)
    for record in filter(shown, rated(records)):
        dataset = record["dataset"]
        tasks[dataset["name"], dataset["variant"] or "", dataset["scale"]].append(record)
    compared = [
        (key, words + budget, rows)
        for key, task in sorted(tasks.items())
        for budget, chosen in by_budget(task, net)
        for words, rows in _by_seeds(chosen, undefended(task))
    ]
    return [_table(key, words, rows) for key, words, rows in compared if len(_repairs(rows)) > 1]


def brief(table: Table) -> Table:
    """The table in five columns."""
    (grid,) = table.grids
    places = [grid.columns.index(column) for column in BRIEF]
    rows = tuple(tuple(row[place] for place in places) for row in grid.rows)
    return replace(table, grids=(Grid("", BRIEF, rows),))


def _by_seeds(
    records: Records, before: dict[str, dict[str, Any]]
) -> Iterator[tuple[str, list[Row]]]:
    """What is compared of all seeds, and of the first alone where it met more repairs, with words for a title."""
    rows = _compared(records, before)
    yield "", rows
    first = min((record["seed"] for record in records), default=0)
    alone = _compared([record for record in records if record["seed"] == first], before)
    if len(_repairs(alone)) > len(_repairs(rows)):
        yield f", seed {first} alone", alone


def _repairs(rows: list[Row]) -> set[str]:
    return {row.repair for row in rows}


def _compared(records: Records, before: dict[str, dict[str, Any]]) -> list[Row]:
    """One row for each repair of each classifier: of as many pairs as there are where all met all."""
    chosen = [record for record in records if DER in record["metrics"]]
    bases = [
        base for record in chosen if (base := before_repair(record, before))
    ]  # all: it is of DER
    settings = [flat(record["defense"].get("settings") or {}) for record in chosen]
    names = [defense_label(record["defense"]) for record in chosen]
    labels = named_apart(list(zip(names, settings, strict=True)))
    rows = {}  # of a repeated run the last one counts
    for repair, record, base in zip(labels, chosen, bases, strict=True):
        classifier = net(base)
        rows[repair, classifier] = Row(
            repair,
            classifier,
            again=net(record) != classifier,
            der=_value(record, DER),
            success=_value(record, "attack_success_rate"),
            success_fall=_fall(base, record, "attack_success_rate"),
            accuracy_fall=_fall(base, record, "clean_accuracy"),
            refused=refused(record),
        )
    met: dict[str, set[str]] = defaultdict(set)
    for repair, classifier in rows:
        met[repair].add(classifier)

    def pairs(some: set[str]) -> int:
        return len(some) * sum(some <= own for own in met.values())

    shared = {frozenset(own) for own in met.values()}
    while wider := {one & other for one in shared for other in shared} - shared:
        shared |= wider
    common = max(shared, key=lambda some: (pairs(some), sorted(some)), default=set())
    return [row for row in rows.values() if row.classifier in common and common <= met[row.repair]]


def _value(record: dict[str, Any], metric: str) -> float:
    return record["metrics"][metric]["value"]


def _fall(before: dict[str, Any], after: dict[str, Any], metric: str) -> float:
    return _value(before, metric) - _value(after, metric)


def _table(key: tuple[str, str, str], words: str, rows: list[Row]) -> Table:
    name, variant, scale = key
    rivals: dict[str, list[float]] = defaultdict(list)  # ratings by classifier
    for row in rows:
        rivals[row.classifier].append(row.der)
    by_repair: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.repair):
        by_repair[row.repair].append(row)
    ranks = {
        repair: fmean(_rank(row.der, rivals[row.classifier]) for row in own)
        for repair, own in by_repair.items()
    }
    total = len(rivals)
    cells = []
    for repair in sorted(ranks, key=ranks.__getitem__):
        own = by_repair[repair]
        best = sum(row.der == max(rivals[row.classifier]) for row in own)
        removed = sum(row.success < REMOVED for row in own)
        means = (fmean(getattr(row, name) for row in own)
                 for name in ("der", "success_fall", "accuracy_fall"))  # fmt: skip
        shares = (f"{100 * mean:.1f}" for mean in means)
        told = [row.refused for row in own]
        counts = (f"{removed} of {total}", "not told" if None in told else str(sum(told)))
        cells.append((repair, f"{ranks[repair]:.2f}", f"{best} of {total}", *shares, *counts))
    title = f"Repairs of {total} classifiers{words}; {name} {variant}, {SCALES[scale]}"
    again = sum(row.again for row in rows)
    notes = (*NOTES, AGAIN.format(again, len(rows))) if again else NOTES
    return Table(name, variant, scale, title, (Grid("", COLUMNS, tuple(cells)),), notes)


def _rank(value: float, rivals: list[float]) -> float:
    """1 for the highest of the rivals; equal ones share the mean of their ranks."""
    return sum(rival > value for rival in rivals) + (rivals.count(value) + 1) / 2
