"""Percentages in the prose of pages: each is that of a rendered table, or says where else it is from.

A comment in the same paragraph, point of a list or row of a table tells it, and readers do not see it:

``<!-- from: RAVDESS | 10 % | xvector_small | none -->``
    Rows of `results/tables/RAVDESS.md`: a word after a bar is a cell of the row (a shell pattern) or
    a part of the headings above it. Each number must stand there, as rounded as it is written;
    ``mean:`` instead of ``from:`` takes means over the rows, and ``mvd minus mvj`` in place of a
    word differences between rows.
``<!-- seen: figures/a.png: 39, 52 -->``
    Read off a file of `results`, which must be there.
``<!-- given: 10, 5 -->``, ``<!-- paper: 72 -->``, ``<!-- unrecorded: 96 -->``
    A setting; what a paper states; what has no record, as the text itself must say.

In a table whose first column is called `Finding` this column is the paper's.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

from bdlib.errors import InputError

MARK = re.compile(r"<!--\s+(from|mean|seen|given|paper|unrecorded):\s+(.*?)\s+-->", re.S)
NUMBER = r"\d+(?:\.\d+)?"
PERCENT = re.compile(rf"({NUMBER}(?:(?:, and | and |, | to |–){NUMBER})*) (?:%|points?\b)")
QUOTED = re.compile(r"<!-- results:begin.*?<!-- results:end -->|^```.*?^```", re.S | re.M)
SLACK = {"from": 0.05, "mean": 0.1, "minus": 0.1}  # tables round to 0.1


@dataclass(frozen=True)
class Row:
    """A row of a rendered table: the headings above it, and its cells."""

    headings: str
    cells: tuple[str, ...]

    def has(self, word: str) -> bool:
        """Whether a cell is called so, or a heading."""
        return word in self.headings or any(fnmatchcase(cell, word) for cell in self.cells)

    @property
    def numbers(self) -> dict[int, list[float]]:
        """By column the numbers with decimals: others are counts."""
        found = {n: re.findall(r"-?\d+\.\d+", cell) for n, cell in enumerate(self.cells)}
        return {column: list(map(float, texts)) for column, texts in found.items() if texts}


def refused_numbers(page: Path, tables: Mapping[str, str], results: Path) -> list[str]:
    """Percentages of a page that no comment accounts for, a line each.

    Arguments
    ---------
    page : Path
        Markdown.
    tables : Mapping[str, str]
        Rendered tables by the stem of their files.
    results : Path
        The folder of the results.

    Raises
    ------
    InputError
        If a comment names a table, a row or a file that is not there.
    """
    rows = {stem: list(_rows(text)) for stem, text in tables.items()}
    told = []
    for number, block in _blocks(page.read_text("utf-8")):
        where = f"{page}, row {number}"
        known = [v for mark in MARK.findall(block) for v in _values(*mark, rows, results, where)]
        prose = " ".join(re.sub(r"<!--.*?-->", "", block, flags=re.S).split())
        lost = [
            written
            for said in PERCENT.findall(prose)
            for written in re.findall(NUMBER, said)
            if not any(_same(written, value, slack) for value, slack in known)
        ]
        if lost:
            told.append(f"{where}: {', '.join(lost)} %: no record is named that has it")
    return told


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, points of lists and rows of tables, each with the number of its first line."""
    text = QUOTED.sub(lambda match: "\n" * match[0].count("\n"), text)
    start, block, paper = 1, "", False
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        row = line.startswith("|")
        if not line.strip() or row or re.match(r"\s*(- |#)", line):
            yield start, block
            start, block = number, ""
        if row:
            paper = paper or line.startswith("| Finding |")
            line = line.split("|", 2)[2] if paper else line
        elif not line.strip():
            paper = False
        block += line + "\n"


def _rows(text: str) -> Iterator[Row]:
    """The rows of a page of tables."""
    headings: list[str] = []
    for line in re.sub(r"\\(.)", r"\1", text).splitlines():
        if line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            headings = [*headings[: level - 1], line.lstrip("# ")]
        elif line.startswith("| "):
            yield Row("\n".join(headings), tuple(c.strip() for c in line.strip("| ").split(" | ")))


def _values(
    kind: str, told: str, rows: Mapping[str, list[Row]], results: Path, where: str
) -> Iterator[tuple[float, float]]:
    """The numbers that a comment stands for, and how far from them a rounded one may be."""
    if kind in ("from", "mean"):
        yield from _looked_up(kind, told, rows, where)
        return
    if kind == "seen":
        file, _, told = told.partition(":")
        if not (results / file).is_file():
            raise InputError(f"{where}: {results / file} is not there; correct the comment")
    yield from ((float(number), 0.0) for number in re.findall(NUMBER, told))


def _looked_up(
    kind: str, told: str, rows: Mapping[str, list[Row]], where: str
) -> Iterator[tuple[float, float]]:
    """Numbers of rows, their means, or differences of either."""
    table, *words = (" ".join(word.split()) for word in told.split("|"))
    sides = [word.split(" minus ") for word in words]
    sets = []
    for n in range(max(map(len, sides), default=1)):
        chosen = [side[min(n, len(side) - 1)] for side in sides]
        some = [row for row in rows.get(table, ()) if all(map(row.has, chosen))]
        if not some:
            raise InputError(f"{where}: no row of {table} for '{told}'; correct the comment")
        firsts = [{column: found[0] for column, found in row.numbers.items()} for row in some]
        if kind == "mean":
            firsts = [row for row in firsts if row]  # less the names of the columns
            shared = set.intersection(*map(set, firsts)) if firsts else set()
            firsts = [{m: sum(row[m] for row in firsts) / len(firsts) for m in shared}]
        sets.append(firsts)
    if len(sets) > 1:
        for a, b in product(*sets):
            yield from ((a[column] - b[column], SLACK["minus"]) for column in a.keys() & b.keys())
    elif kind == "mean":
        yield from ((value, SLACK["mean"]) for value in sets[0][0].values())
    else:
        yield from ((v, SLACK["from"]) for row in some for vs in row.numbers.values() for v in vs)


def _same(written: str, value: float, slack: float) -> bool:
    """Whether a number is a value as it is rounded."""
    digits = len(written.partition(".")[2])
    half = 0.5 * 10**-digits if slack else 0.0
    return abs(float(written) - abs(value)) <= half + slack + 1e-9
