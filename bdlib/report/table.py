"""Finished tables of text, and how they read as Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bdlib.report.groups import Estimate, Runs

PUBLISHED = "Published (full data) [%]"
SCALES = {
    "full": "measured on the full data set",
    "subset": "measured on a subset",
    "mini": "measured on a mini corpus (synthesised speech that stands in for a download)",
}
INTERVALS = {
    "seeds": "±: half-width of the 95 % t-interval over seeds.",
    "pair": "Parentheses: the two seeds.",
    "utterances": "Brackets: 95 % Wilson interval over utterances, one seed.",
}
FIRST = "Model + defense"
WORDS = {FIRST, f"Attack: {FIRST.lower()}", "Attack", "Model", "Defense", "Repair", "Filter"}
WORDS |= {"Task", "Half", PUBLISHED, "Published", "", "With a record on real speech", "Without"}
"""Columns of words; all others are of numbers and stand to the right."""


@dataclass(frozen=True)
class Grid:
    """Columns and rows under one heading, such as an attack; an empty title is none.

    `groups` are the runs that the rows are of, one a row, where a row is of runs.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    groups: tuple[Runs, ...] = ()


@dataclass(frozen=True)
class Table:
    """What is told of one data set, variant and scale.

    `notes` explain the marks of all grids, `failed` lists failed runs.
    """

    dataset: str
    variant: str
    scale: str
    title: str
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]
    failed: tuple[str, ...] = ()


@dataclass
class Footnotes:
    """Notes of a table: marked while its cells are made, numbered in the order of reading."""

    notes: list[str] = field(default_factory=list)

    def mark(self, note: str) -> str:
        """A mark of the note, which `settle` turns into a number."""
        if note not in self.notes:
            self.notes.append(note)
        return f"⟦{self.notes.index(note)}⟧"

    def settle(self, grids: Sequence[Grid]) -> tuple[tuple[Grid, ...], tuple[str, ...]]:
        """The grids with numbers for marks, such as ``[1]``, and the numbered notes."""
        order: dict[str, int] = {}

        def number(mark: re.Match) -> str:
            return f"[{order.setdefault(self.notes[int(mark[1])], len(order) + 1)}]"

        def settled(row: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(re.sub(r"⟦(\d+)⟧", number, cell) for cell in row)

        done = tuple(replace(grid, rows=tuple(map(settled, grid.rows))) for grid in grids)
        return done, tuple(f"[{place}] {note}." for note, place in order.items())


def markdown(table: Table, level: int = 3) -> str:
    """A table as Markdown: a heading of `level`, its grids under headings below it, the notes."""
    lines = [f"{'#' * level} {escaped(table.title)}", ""]
    for grid in table.grids:
        if grid.title:
            lines += [f"{'#' * (level + 1)} {escaped(grid.title)}", ""]
        lines.append("| " + " | ".join(escaped(column) for column in grid.columns) + " |")
        rules = ("---" if column in WORDS else "---:" for column in grid.columns)
        lines.append("|" + "|".join(rules) + "|")
        lines += ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in grid.rows]
        lines.append("")
    lines += [f"- {escaped(note)}" for note in table.notes]
    if table.failed:
        lines += ["", "Failed runs:", "", *(f"- {escaped(text)}" for text in table.failed)]
    return "\n".join(lines).rstrip() + "\n"


def percent(estimated: Estimate | None) -> str:
    """A share as percent with its interval, or nothing."""
    if estimated is None:
        return ""
    mean, low, high = (100 * x for x in (estimated.mean, estimated.low, estimated.high))
    if estimated.over == "seeds":
        return f"{mean:.1f} ± {high - mean:.1f}"
    if estimated.over == "pair":
        return f"{mean:.1f} ({low:.1f}, {high:.1f})"
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]" if estimated.over else f"{mean:.1f}"


def without_empty_columns(columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """The columns that hold something."""
    return {title: cells for title, cells in columns.items() if any(cells)}


def escaped(text: str) -> str:
    """Escape what Markdown would read as markup, links included: names are of whoever wrote the record."""
    text = re.sub(r"([\\`*_|<>])", r"\\\1", " ".join(text.split()))
    return text.replace("](", "]\\(")
