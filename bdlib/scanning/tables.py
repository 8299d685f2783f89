"""Clips that a table lists: rows of a CSV, or entries of lhotse's manifests, whose files are looked for."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from bdlib.errors import InputError
from bdlib.files import check_regular
from bdlib.manifest import DATA_ROOT
from bdlib.names import forges, plain
from bdlib.scanning import lhotse
from bdlib.sheets import computes

PATHS = ("path", "wav", "file_name", "file", "filename", "audio", "audio_path")
LABELS = ("label", "class", "command", "category", "target", "speaker", "spk_id")
LONGEST_LABEL = (
    255  # characters, as of a folder's name: an array of labels is as wide as the longest
)
MISLEADS = "a name that a terminal or a spreadsheet would obey"
Clip = tuple[str, str, int, int]
"""Path below the root, label, start and stop in samples."""


def inside(path: Path, root: Path) -> bool:
    """Whether a file, links followed, lies in the corpus."""
    real = os.path.realpath(path)  # `resolve` fails where a link leads to itself
    return Path(real).is_relative_to(root)


def misleads(name: str) -> bool:
    """Whether a terminal or a spreadsheet makes something else of a name."""
    return forges(name) or computes(name)


def header(table: Path) -> list[str]:
    """The names of the columns of a CSV."""
    check_regular(table)
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as CSV ({error}); save it as UTF-8") from error


def _column(
    there: Sequence[str], given: str | None, usual: Sequence[str], option: str, table: Path
) -> str:
    for name in (given,) if given else usual:
        if name in there:
            return name
    raise InputError(
        f"{table}: no column {given or ' or '.join(usual)}; it has {plain(', '.join(there)[:200]) or 'none'}: "
        f"name one with `{option}`"
    )


def read(
    table: Path, root: Path, path_column: str | None, label_column: str | None
) -> tuple[list[Clip], list[str]]:
    """Clips of a CSV: paths relative to `root`, or absolute and below it."""
    columns = header(table)
    path_name = _column(columns, path_column, PATHS, "path_column", table)
    label_name = _column(columns, label_column, LABELS, "label_column", table)
    left_out: list[str] = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        entries = (
            (where := f"{table}, line {reader.line_num}", row[path_name] or "", row[label_name] or "",
             *_span(row, where))
            for row in reader
        )  # fmt: skip
        try:
            return clips(entries, root, table, left_out), left_out
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{table}: cannot be read as CSV ({error}); save it as UTF-8"
            ) from error


def clips(
    entries: Iterable[lhotse.Entry], root: Path, table: Path, left_out: list[str]
) -> list[Clip]:
    """Rows of those entries of a table whose files are there, and a line for each of the others."""
    rows, missing = [], []
    for where, given, label, start, stop in entries:
        text = given.removeprefix(DATA_ROOT).removeprefix("$data_root/")
        path = root / text
        if len(label) > LONGEST_LABEL:
            raise InputError(
                f"{where}: a label of {len(label)} characters; shorten it to {LONGEST_LABEL}"
            )
        if misleads(text) or misleads(label):
            left_out.append(plain(f"{text}, {label}: {MISLEADS} ({where})"))
            continue
        if not text or not inside(path, root.resolve()):
            raise InputError(
                f"{where}: {text!r} leaves {root}; use paths below it, or `data_folder`"
            )
        if not label:
            raise InputError(f"{where}: {text!r} has no label; every clip needs one")
        if start < 0 or (stop != -1 and stop <= start):
            raise InputError(
                f"{where}: start {start} and stop {stop} span no samples; correct them"
            )
        if not os.path.isfile(path):  # noqa: PTH113 - where a name is too long `is_file` fails
            missing.append(f"{text}: no such file ({where})")
            continue
        name = os.path.relpath(path, root).replace(os.sep, "/")
        rows.append((name, label, start, stop))
    if missing and not rows:
        raise InputError(
            f"{table}: none of its files is there, first {missing[0]}; give `data_folder`"
        )
    left_out += missing
    return rows


def _span(row: dict[str, str], where: str) -> tuple[int, int]:
    """The samples that a row means; all of the file without `start` and `stop`."""
    try:
        return int(row.get("start") or 0), int(row.get("stop") or -1)
    except ValueError:
        raise InputError(f"{where}: start and stop are samples; write whole numbers") from None
