"""Tables of results for a terminal, 80 columns wide."""

import re

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from bdlib.names import plain
from bdlib.report.table import INTERVALS, Table

SHORT = {
    "Defense": "defense",
    "Clean accuracy [%]": "clean %",
    "Accuracy, triggered set [%]": "triggered %",
    "ASR [%]": "ASR %",
    "Filter TPR [%]": "TPR %",
    "Filter FPR [%]": "FPR %",
    "Clean rejected (FRR) [%]": "FRR %",
    "Triggered accepted (FAR) [%]": "FAR %",
    "Seeds": "seeds",
}


def terminal(table: Table) -> Group:
    """A table of `results.build` for `rich.console.Console.print`.

    It has a part for each attack and model, and leaves out the published numbers, the counts of
    clips, the intervals over utterances and those of the filter.
    """
    parts: list[RenderableType] = [Text(f"\n{table.title}", style="bold")]
    for grid in table.grids:
        rows = [dict(zip(grid.columns, row, strict=True)) for row in grid.rows]
        for model in dict.fromkeys(row["Model"] for row in rows):
            own = [row for row in rows if row["Model"] == model]
            parts += [Text(f"\nattack: {plain(grid.title)}\nmodel: {plain(model)}"), _part(own)]
    notes = [note for note in table.notes if note == INTERVALS["seeds"]]
    return Group(
        *parts, *map(Text, notes), *(Text(f"failed: {plain(text)}") for text in table.failed)
    )


def _part(rows: list[dict[str, str]]) -> RichTable:
    shown = [title for title in SHORT if any(row.get(title) for row in rows)]
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for title in shown:
        left = title == "Defense"
        rich.add_column(SHORT[title], justify="left" if left else "right", no_wrap=not left)
    for row in rows:
        rich.add_row(*(Text(plain(_short(title, row.get(title, "")))) for title in shown))
    return rich


def _short(title: str, cell: str) -> str:
    return re.split(r" (?:[\[±]|\(\d)" if title.startswith("Filter") else r" (?:\[|\(\d)", cell)[0]
