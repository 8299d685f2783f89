"""Experiments that measure one repair at several settings, in tables of their own.

Beside what others measured they would be columns of each matrix, and rivals in each ranking, that meet
the classifiers of their experiment alone.
"""

import json
from collections import defaultdict
from dataclasses import replace

from bdlib.report import matrix
from bdlib.report.budgets import budget
from bdlib.report.groups import Records
from bdlib.report.table import Grid, Table


def build(records: Records) -> list[Table]:
    """The matrix of each such experiment, turned: a row a setting, after the undefended classifiers.

    Arguments
    ---------
    records : list of dict
        All records of schema 1, in the order of their files.
    """
    others = compared(records)
    kept = {id(record) for record in others}
    parts: dict[str, Records] = defaultdict(list)
    for record in records:
        if id(record) not in kept:
            parts[record["experiment"]].append(record)
    undefended = [record for record in others if not matrix.repaired(record)]
    return [
        replace(table, title=f"{experiment}: {table.title}", grids=tuple(map(_turned, table.grids)))
        for experiment, own in sorted(parts.items())
        for table in matrix.build([*undefended, *own])
    ]


def compared(records: Records) -> Records:
    """All records but those of the repairs that an experiment measures at several settings."""
    settings: dict[str, set[str]] = defaultdict(set)
    for record in filter(matrix.repaired, records):
        told = record["defense"].get("settings") or {}
        settings[_place(record)].add(json.dumps(told, sort_keys=True))
    return [
        record
        for record in records
        if not (matrix.repaired(record) and record["experiment"])
        or len(settings[_place(record)]) == 1
    ]


def _turned(grid: Grid) -> Grid:
    """Columns as rows, without those of stealth: settings have long names, and attacks are few."""
    (_, *attacks), *rows = zip(grid.columns, *grid.rows, strict=True)
    own = [row for row in rows if row[0] not in matrix.STEALTH.values()]
    return Grid(grid.title, ("Repair", *attacks), tuple(own))


def _place(record: dict) -> str:
    """Which repair a record is of, in which experiment and with what budget."""
    dataset, net = record["dataset"], record["model"]["name"]
    where = [record["experiment"], dataset["name"], dataset["variant"], dataset["scale"], net]
    return json.dumps([*where, budget(record), record["defense"]["name"]])
