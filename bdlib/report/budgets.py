"""Which records of repairs may stand side by side: those of the same clean budget."""

from collections.abc import Iterator
from typing import Any

from bdlib.report.groups import Records

Budget = tuple[float, float]
"""Shares of the training set: held out from it, and given to the repair; 0 for none."""


def by_budget(records: Records) -> Iterator[tuple[str, Records]]:
    """A budget in words, as a title has it, and all records that belong beside it.

    Those are the repairs of that budget, and of the same trainings what needs none: the undefended
    classifiers, and repairs without clean data. Where there is one budget alone it needs no words.

    Arguments
    ---------
    records : list of dict
        Of undefended and repaired classifiers.
    """
    given = sorted({budget(record) for record in records})
    bare = {apart for apart, own in given if not own} - {apart for apart, own in given if own}
    budgets = [(apart, own) for apart, own in given if own or apart in bare]
    for apart, own in budgets:
        chosen = [record for record in records if budget(record) in ((apart, own), (apart, 0.0))]
        yield _words(apart, own) if len(budgets) > 1 else "", chosen


def budget(record: dict[str, Any]) -> Budget:
    """The budget of a record."""
    training = (record["model"].get("settings") or {}).get("train") or {}
    settings = (record["defense"] or {}).get("settings") or {}
    return training.get("held_out", 0.0), settings.get("clean_share", 0.0)


def _words(held_out: float, own: float) -> str:
    if not held_out:
        return f", clean budget {100 * own:g} %"
    return f", clean budget {100 * (own or held_out):g} %, held out of training"
