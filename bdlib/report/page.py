"""One html page that shows a results folder: tables, figures, and how each run was made."""

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from bdlib.report.labels import attack_label, defense_label
from bdlib.report.published import Published
from bdlib.report.table import Table, build

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff;
       max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.25; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #d5d5d5; text-align: left;
         vertical-align: top; }
thead th { border-bottom: 2px solid #666; }
ul { color: #444; font-size: 0.9em; }
details { margin: 0.3rem 0; }
summary { cursor: pointer; }
code, pre { font: 13px/1.4 ui-monospace, monospace; }
pre { background: #f4f4f4; padding: 0.6rem; overflow-x: auto; white-space: pre-wrap; }
.failed { color: #9c2f00; font-weight: 600; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; }
"""


def html(
    records: list[dict[str, Any]],
    published: list[Published],
    figures: Sequence[str | Path] = (),
) -> str:
    """The page as text: it needs no other file and no network, and all text in it is escaped.

    Arguments
    ---------
    records : list of dict
        Records of schema 1.
    published : list of Published
        Numbers to show beside ours.
    figures : sequence of path
        png files, shown under the name of the file.
    """
    tables = build(records, published)
    body = ["<h1>Results</h1>"]
    if not records:
        body.append("<p>No runs have been measured yet.</p>")
    for name in sorted({record["dataset"]["name"] for record in records}):
        body.append(f"<h2>{escape(name)}</h2>")
        body += [_table(table) for table in tables if table.dataset == name]
        runs = [record for record in records if record["dataset"]["name"] == name]
        body.append(f"<h3>Runs ({len(runs)})</h3>")
        body += [_run(record) for record in runs]
    if figures:
        body.append("<h2>Figures</h2>")
        body += [_figure(Path(figure)) for figure in figures]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<title>Results</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows]
    text = f"<h3>{escape(table.title)}</h3>\n"
    if rows:
        lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
        text += f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n'
        text += "</tbody></table></div>\n"
    notes = [escape(note) for note in table.notes]
    notes += [f'<span class="failed">failed</span> {escape(failed)}' for failed in table.failed]
    return text + _list(notes)


def _run(record: dict[str, Any]) -> str:
    """One record, folded: a line that names it, then everything it holds."""
    failed = ' <span class="failed">failed</span>' if record["status"] == "failed" else ""
    labels = [
        attack_label(record["attack"]),
        record["model"]["name"],
        defense_label(record["defense"]),
        f"seed {record['seed']}",
        record["dataset"]["scale"],
    ]
    cells = []
    for name, entry in record["metrics"].items():
        counts = f" ({entry['count']} of {entry['total']})" if "total" in entry else ""
        cells.append(f"<tr><td>{escape(name)}</td><td>{entry['value']:.6g}{counts}</td></tr>")
    metrics = f"<table>{''.join(cells)}</table>" if cells else ""
    rest = {key: value for key, value in record.items() if key not in ("command", "metrics")}
    return (
        f"<details><summary>{escape(' / '.join(labels))}{failed}</summary>\n"
        f"<pre>{escape(record['command'])}</pre>\n{metrics}\n"
        f"<pre>{escape(json.dumps(rest, indent=2, ensure_ascii=False))}</pre>\n</details>"
    )


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    name = escape(path.stem.replace("_", " "))
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


def _list(items: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>" if items else ""
