"""One html page that shows a results folder: an attack a section, and how each run was made."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from bdlib.embed import POLICY, address
from bdlib.report import ablations, attacks_table, ranking
from bdlib.report.groups import Records, Runs
from bdlib.report.labels import imitations, in_readme
from bdlib.report.page_style import STYLE
from bdlib.report.published import Published
from bdlib.report.results import (
    Section,
    brief_grid,
    corpora,
    corpus_title,
    full_grid,
    sections,
)
from bdlib.report.stems import of_corpus, of_section
from bdlib.report.table import INTERVALS, PUBLISHED, Footnotes, Grid, Table

SCRIPT = Path(__file__).with_name("page.js")
SHORT = {"Published ASR [%]": "Publ. [%]", "Published accuracy [%]": "Publ. [%]",
         "Clean accuracy [%]": "Clean acc. [%]"}  # fmt: skip


def html(
    records: Records,
    attacks: Records,
    published: list[Published],
    figures: Sequence[Path] = (),
    boards: Sequence[Table] = (),
) -> str:
    """The page as text: it needs no other file and no network, and all text in it is escaped.

    Its tables sort and filter.

    Arguments
    ---------
    records : list of dict
        Records of runs.
    attacks : list of dict
        Records of many attacks judged by one encoder.
    published : list of Published
        Numbers to show beside ours.
    figures : sequence of Path
        png files. Each is shown with what it is of.
    boards : sequence of Table
        The leaderboard's.
    """
    compared = ablations.compared(records)
    about_many = [
        *boards,
        *(ranking.brief(table) for table in ranking.build(compared)),
        *ablations.build(records),
        *(attacks_table.brief(table) for table in attacks_table.build(attacks, published)),
    ]
    left = list(figures)
    contents, body = [], []
    for number, (corpus, groups) in enumerate(corpora(compared).items()):
        place, title = f"c{number}", corpus_title(corpus, groups)
        own = of_corpus(groups[0].record["dataset"], figures)
        tables = [t for t in about_many if (t.dataset, t.variant, t.scale) == corpus]
        left = [path for path in left if path not in own]
        parts = sections(groups)
        contents.append(_contents(place, corpus, parts))
        body.append(f'<h2 id="{place}">{escape(title)}</h2>')
        body += _corpus(place, groups, parts, tables, own, published)
    body += _gallery("Other figures", left)
    said = "Clean accuracy and attack success rate (ASR), means over seeds."
    if not records:
        said = "No runs have been measured yet."
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>Results</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Results</h1>\n"
        f"<p>{said}</p>\n<nav>\n" + "\n".join(contents) + "\n</nav>\n" + "\n".join(body)
        + f"\n<script>{SCRIPT.read_text('utf-8')}</script>\n</body>\n</html>\n"
    )  # fmt: skip


def _contents(place: str, corpus: tuple[str, str, str], parts: list[Section]) -> str:
    """Links to a data set and, folded, to its attacks."""
    links = "\n".join(
        f'<li><a href="#{place}-{number}">{escape(part.title)}</a></li>'
        for number, part in enumerate(parts)
    )
    name = escape(" ".join(filter(None, corpus)))
    return (
        f'<details><summary><a href="#{place}">{name}</a> ({len(parts)})</summary>\n'
        f"<ul>\n{links}\n</ul></details>"
    )


def _corpus(
    place: str,
    groups: list[Runs],
    parts: list[Section],
    tables: list[Table],
    figures: list[Path],
    published: list[Published],
) -> list[str]:
    """What is known of one data set and scale: its figures, its attacks, its notes."""
    footnotes = Footnotes()
    # What was tried with an eye on the test set stands among the details.
    shown = [
        replace(part, groups=tuple(g for g in part.groups if in_readme(g.record["defense"])))
        for part in parts
    ]
    grids = [
        brief_grid([part if part.groups else whole], published, footnotes)
        for part, whole in zip(shown, parts, strict=True)
    ]
    settled, notes = footnotes.settle(grids)
    pictures = [of_section(part, figures) for part in parts]
    first = [path for path in figures if path.stem.startswith("overview-")]
    rest = [path for path in figures if path not in first and not any(path in p for p in pictures)]
    body = [_figure(path) for path in first]
    for number, (part, grid, own) in enumerate(zip(parts, settled, pictures, strict=True)):
        beside = f"<div>{''.join(map(_figure, own))}</div>" if own else ""
        body.append(
            f'<section id="{place}-{number}">\n<h3>{escape(part.title)}</h3>\n'
            f'<div class="beside{" pictured" * bool(own)}">\n<div>{_table(grid)}\n{_details(part)}'
            f"</div>\n{beside}</div>\n</section>"
        )
    imitated = imitations(group.record["attack"] for part in parts for group in part.groups)
    body.append(_list((*imitated, *notes)))
    for table in tables:
        body.append(f"<section>\n<h3>{escape(table.title)}</h3>")
        body += [f"<h4>{escape(grid.title)}</h4>\n{_table(grid)}" for grid in table.grids]
        body.append(f"{_list(table.notes)}</section>")
    body += _gallery("Figures", rest)
    failed = [run for group in groups for run in group.failed]
    if failed:
        body.append('<h3 class="failed">Failed runs</h3>')
        body += [_run(run) for run in failed]
    return body


def _table(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{escape(SHORT.get(c, c))}</th>' for c in grid.columns)
    rows = [
        f'<tr><th scope="row">{_cell(row[0])}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in grid.rows
    ]
    lines = "\n".join(rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>"


def _cell(text: str) -> str:
    """A cell, its marks of notes raised; a long name may break at its underscores."""
    marked = re.sub(r"\s?((\[\d+\])+)", r"<sup>\1</sup>", escape(text))
    return marked.replace("_", "_<wbr>")


def _details(section: Section) -> str:
    """Behind a click: intervals, counts and settings of each row, and its runs."""
    footnotes = Footnotes()
    ((grid,), notes) = footnotes.settle([full_grid(section, [], footnotes)])
    blocks = []
    for row, group in zip(grid.rows, grid.groups, strict=True):
        cells = dict(zip(grid.columns, row, strict=True))
        model, defense = cells.pop("Model"), cells.pop("Defense")
        pairs = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(cell)}</dd></div>"
            for name, cell in cells.items()
            if cell and name != PUBLISHED
        )
        runs = "\n".join(map(_run, group.runs))
        title = model if defense == "none" else f"{model}, {defense}"
        blocks.append(f"<h4>{escape(title)}</h4>\n<dl>{pairs}</dl>\n{runs}")
    marks = [*INTERVALS.values(), *notes]
    return (
        "<details><summary>Intervals, counts, settings, and how each run was made</summary>\n"
        f'<div class="card">\n{"".join(blocks)}\n{_list(marks)}</div>\n</details>'
    )


def _run(record: dict[str, Any]) -> str:
    """One record, folded: its seed and id, then everything it holds."""
    failed = ' <span class="failed">failed</span>' if record["status"] == "failed" else ""
    pairs = []
    for name, entry in record["metrics"].items():
        counts = f" ({entry['count']} of {entry['total']})" if "total" in entry else ""
        name = escape(name.replace("_", " "))
        pairs.append(f"<div><dt>{name}</dt><dd>{entry['value']:.6g}{counts}</dd></div>")
    rest = {key: value for key, value in record.items() if key not in ("command", "metrics")}
    title = f"seed {record['seed']}, {record['time'][:10]}, record {record['id']}"
    return (
        f"<details><summary>{escape(title)}{failed}</summary>\n"
        f"<pre>{escape(record['command'])}</pre>\n<dl>{''.join(pairs)}</dl>\n"
        f"<pre>{escape(json.dumps(rest, indent=1, ensure_ascii=False))}</pre>\n</details>"
    )


def _gallery(title: str, figures: list[Path]) -> list[str]:
    """Figures, folded, since there may be many."""
    if not figures:
        return []
    shown = "\n".join(map(_figure, figures))
    return [
        f"<details><summary>{escape(title)} ({len(figures)})</summary>\n"
        f'<div class="gallery">{shown}</div></details>'
    ]


def _figure(path: Path) -> str:
    name = escape(path.stem.replace("_", " "))
    return (
        f'<figure><img alt="{name}" src="{address("image/png", path.read_bytes())}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


def _list(items: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<ul class="notes">{lines}</ul>' if lines else ""
