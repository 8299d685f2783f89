"""Tables of results: built once from records, rendered as Markdown or for a terminal."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bdlib.report.groups import Estimate, Runs, estimate, group_records
from bdlib.report.labels import attack_label, defense_label, tell_apart
from bdlib.report.published import Published, beside

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

RATES = {
    "Clean accuracy [%]": "clean_accuracy",
    "Accuracy, triggered set [%]": "triggered_accuracy",
    "ASR [%]": "attack_success_rate",
    "Filter TPR [%]": "filter_tpr",
    "Filter FPR [%]": "filter_fpr",
    "Clean rejected (FRR) [%]": "false_rejection_rate",
    "Triggered accepted (FAR) [%]": "false_acceptance_rate",
}
SHORT = {  # for the terminal
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


@dataclass(frozen=True)
class Table:
    """A finished table of plain text. `notes` explain its marks, `failed` lists failed runs."""

    dataset: str
    variant: str
    scale: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    failed: tuple[str, ...]


def build(records: list[dict[str, Any]], published: list[Published]) -> list[Table]:
    """One table for each data set, variant and scale, in a fixed order.

    Rows are attack x model x defense; values are means over seeds in percent. Columns that would
    be empty are left out.

    Arguments
    ---------
    records : list of dict
        Records of schema 1, in the order of their files.
    published : list of Published
        Numbers to show beside ours.
    """
    tables: dict[tuple[str, str, str], list[Runs]] = {}
    for group in group_records(records):
        dataset = group.record["dataset"]
        key = (dataset["name"], dataset["variant"] or "", dataset["scale"])
        tables.setdefault(key, []).append(group)
    return [_table(*key, groups, published) for key, groups in tables.items()]


def markdown(table: Table) -> str:
    """A table as Markdown: a heading, the table, its notes and the failed runs."""
    lines = [f"### {_md(table.title)}", ""]
    if table.rows:
        lines.append("| " + " | ".join(_md(column) for column in table.columns) + " |")
        words = ("Attack", "Model", "Defense", "Repair", PUBLISHED, PUBLISHED.removesuffix(" [%]"))
        right = [column not in words for column in table.columns]
        lines.append("|" + "|".join("---:" if is_right else "---" for is_right in right) + "|")
        lines += ["| " + " | ".join(_md(cell) for cell in row) + " |" for row in table.rows]
        lines.append("")
    lines += [f"- {_md(note)}" for note in table.notes]
    if table.failed:
        lines += ["", "Failed runs:", "", *(f"- {_md(text)}" for text in table.failed)]
    return "\n".join(lines).rstrip() + "\n"


def terminal(table: Table) -> "Group":
    """A table for `rich.console.Console.print`, 80 columns wide.

    It has a part for each attack and model, and leaves out the published numbers, the counts of
    clips, the intervals over utterances and those of the filter.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    parts: list[RenderableType] = [Text(f"\n{table.title}", style="bold")]
    for heading in dict.fromkeys((row["Attack"], row["Model"]) for row in rows):
        part = [row for row in rows if (row["Attack"], row["Model"]) == heading]
        shown = [title for title in SHORT if any(row.get(title) for row in part)]
        rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
        for title in shown:
            left = title == "Defense"
            rich.add_column(SHORT[title], justify="left" if left else "right", no_wrap=not left)
        for row in part:
            rich.add_row(*(Text(_short(title, row[title])) for title in shown))
        parts += [Text(f"\nattack: {heading[0]}\nmodel: {heading[1]}"), rich]
    notes = [note for note in table.notes if note == INTERVALS["seeds"]]
    return Group(*parts, *map(Text, notes), *(Text(f"failed: {text}") for text in table.failed))


def _table(
    name: str, variant: str, scale: str, groups: list[Runs], published: list[Published]
) -> Table:
    measured = [group for group in groups if group.runs]
    trained = max(
        (run["dataset"]["counts"].get("train", 0) for g in groups for run in g.runs), default=0
    )
    columns = {
        "Attack": [attack_label(group.record["attack"]) for group in measured],
        "Model": [group.record["model"]["name"] for group in measured],
        "Defense": [defense_label(group.record["defense"]) for group in measured],
    }
    tell_apart(columns, measured)
    notes = []
    for title, metric in RATES.items():
        estimates = [estimate(group, metric) for group in measured]
        columns[title] = [percent(found) for found in estimates]
        notes += [INTERVALS[found.over] for found in estimates if found and found.over]
    columns["Seeds"] = [str(len(group.runs)) for group in measured]
    poisoned = [[(run["attack"] or {}).get("poisoned") for run in g.runs] for g in measured]
    columns["Poisoned clips"] = [_span(counts) for counts in poisoned]
    columns["Training clips"] = [
        _span([r["model"].get("clips", r["dataset"]["counts"].get("train")) for r in group.runs])
        for group in measured
    ]
    columns[PUBLISHED], footnotes = _footnoted([beside(group, published) for group in measured])
    kept = {title: cells for title, cells in columns.items() if any(cells)}
    clips = f": {trained:,} training clips" if trained else ""
    return Table(
        dataset=name,
        variant=variant,
        scale=scale,
        title=f"{name} {variant}".strip() + f", {SCALES[scale]}{clips}",
        columns=tuple(kept),
        rows=tuple(zip(*kept.values(), strict=True)),
        notes=tuple(dict.fromkeys(notes)) + tuple(footnotes),
        failed=tuple(_failure(run) for group in groups for run in group.failed),
    )


def _footnoted(found: list[tuple[str, list[Published]]]) -> tuple[list[str], list[str]]:
    """Number the sources of all rows in order of appearance."""
    marks: dict[str, str] = {}
    cells = []
    for text, numbers in found:
        for number in numbers:
            note = f"{number.source}: {number.note}" if number.note else number.source
            mark = marks.setdefault(note, f"[{len(marks) + 1}]")
            text = text.replace("[@]", mark, 1)
        cells.append(text)
    return cells, [f"{mark} {note}." for note, mark in marks.items()]


def _short(title: str, cell: str) -> str:
    return re.split(r" (?:[\[±]|\(\d)" if title.startswith("Filter") else r" (?:\[|\(\d)", cell)[0]


def percent(found: Estimate | None) -> str:
    """A share as percent with its interval, or nothing."""
    if found is None:
        return ""
    mean, low, high = (100 * x for x in (found.mean, found.low, found.high))
    if found.over == "seeds":
        return f"{mean:.1f} ± {high - mean:.1f}"
    if found.over == "pair":
        return f"{mean:.1f} ({low:.1f}, {high:.1f})"
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]" if found.over else f"{mean:.1f}"


def _span(counts: list[int | None]) -> str:
    """One count, or the smallest and the largest of several."""
    known = sorted({count for count in counts if count is not None})
    return "–".join(f"{count:,}" for count in dict.fromkeys((*known[:1], *known[-1:])))


def _failure(run: dict[str, Any]) -> str:
    why = run.get("error")
    return run["command"] + (f": {why}" if why else "")


def _md(text: str) -> str:
    """Escape what Markdown would read as markup."""
    return re.sub(r"([\\`*_|<>])", r"\\\1", " ".join(text.split()))
