"""Which repair is best over all attacks, models and seeds that all of them met."""

from collections import defaultdict
from typing import Any

import pandas as pd

from bdlib.records.labels import defense_label, flat, named_apart
from bdlib.records.matrix import DER, rated, trained, undefended
from bdlib.records.table import SCALES, Table

REMOVED = 0.2  # attack success rate below which a backdoor counts as removed
NOTES = (
    "Over all pairs of a repair and a classifier; rank 1 is the best DER of a classifier, and equal "
    "ones share their mean rank, and the best.",
    "Repairs that did not meet all these classifiers are left out.",
)
COLUMNS = (
    *("Repair", "Mean rank", "Best", "DER [%]", "Fall of ASR [points]"),
    *("Fall of clean accuracy [points]", f"ASR below {100 * REMOVED:g} %"),
)


def build(records: list[dict[str, Any]]) -> list[Table]:
    """A table for each data set and scale on which at least two repairs met the same classifiers.

    Arguments
    ---------
    records : list of dict
        Records of schema 1.
    """
    tasks: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in rated(records):
        dataset = record["dataset"]
        tasks[dataset["name"], dataset["variant"] or "", dataset["scale"]].append(record)
    found = [(key, _compared(chosen)) for key, chosen in sorted(tasks.items())]
    return [_table(key, cells) for key, cells in found if cells["repair"].nunique() > 1]


def _compared(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row for each repair of each classifier, of the repairs that met most, and the same."""
    before = undefended(records)
    chosen = [record for record in records if DER in record["metrics"]]
    settings = [flat(record["defense"].get("settings") or {}) for record in chosen]
    names = [defense_label(record["defense"]) for record in chosen]
    rows = [
        {
            "repair": name,
            "classifier": trained(record),
            "der": _value(record, DER),
            "success": _value(record, "attack_success_rate"),
            "success_fall": _fall(before[trained(record)], record, "attack_success_rate"),
            "accuracy_fall": _fall(before[trained(record)], record, "clean_accuracy"),
        }
        for name, record in zip(
            named_apart(list(zip(names, settings, strict=True))), chosen, strict=True
        )
    ]
    if not rows:
        return pd.DataFrame({"repair": []})
    cells = pd.DataFrame(rows).drop_duplicates(["repair", "classifier"], keep="last")
    met = cells.groupby("repair")["classifier"].agg(frozenset)
    most = max(met, key=lambda some: (len(some), (met == some).sum(), sorted(some)))
    return cells[cells["repair"].isin(met.index[met == most])]


def _value(record: dict[str, Any], metric: str) -> float:
    return record["metrics"][metric]["value"]


def _fall(before: dict[str, Any], after: dict[str, Any], metric: str) -> float:
    return _value(before, metric) - _value(after, metric)


def _table(key: tuple[str, str, str], cells: pd.DataFrame) -> Table:
    name, variant, scale = key
    ranks = cells.groupby("classifier")["der"].rank(ascending=False)
    best = cells["der"] == cells.groupby("classifier")["der"].transform("max")
    cells = cells.assign(rank=ranks, best=best, removed=cells["success"] < REMOVED)
    means = cells.groupby("repair")[["rank", "der", "success_fall", "accuracy_fall"]].mean()
    counts = cells.groupby("repair")[["best", "removed"]].sum()
    total = cells["classifier"].nunique()
    rows = [
        (repair, f"{one['rank']:.2f}", f"{counts.loc[repair, 'best']} of {total}",
         f"{100 * one['der']:.1f}", f"{100 * one['success_fall']:.1f}",
         f"{100 * one['accuracy_fall']:.1f}", f"{counts.loc[repair, 'removed']} of {total}")
        for repair, one in means.sort_values("rank").iterrows()
    ]  # fmt: skip
    return Table(
        dataset=name,
        variant=variant,
        scale=scale,
        title=f"Repairs of {total} classifiers; {name} {variant}, {SCALES[scale]}",
        columns=COLUMNS,
        rows=tuple(rows),
        notes=NOTES,
        failed=(),
    )
