"""Stage 9: render records into tables, figures, the blocks of the READMEs and `report.html`."""

import argparse
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from bdlib.errors import InputError
from bdlib.names import plain
from bdlib.report.leaderboard import HALVES, Planned
from bdlib.report.render import render

if TYPE_CHECKING:
    from bdlib.cli.cells import Cell

ROOT = Path(__file__).resolve().parents[2]
SUBSETS = {"SpeechCommands"}  # recipes whose cells are of a subset (docs/leaderboard.md)


def planned(root: Path) -> list[Planned]:
    """The cells of docs/leaderboard.md: the grids of a recipe are of the halves of the attacks in turn."""
    return [
        cell
        for path in sorted(root.glob("recipes/*/experiments/leaderboard.yaml"))
        for cell in _planned(path)
    ]


def _planned(path: Path) -> Iterator[Planned]:
    from bdlib.cli.cells import cells  # with all stages, which takes seconds

    grids = yaml.safe_load(path.read_text("utf-8"))["grid"]
    listed = iter(cells(path, "full", "data"))
    for half, grid in zip(itertools.cycle(HALVES), grids, strict=False):
        for cell in itertools.islice(listed, math.prod(map(len, grid.values()))):
            given = dict(_pairs(cell))
            defense = " + ".join(given[key] for key in ("after", "defense") if key in given)
            labels = given.get("labels", "").replace("_", " ")
            attack = ", ".join(filter(None, (given.get("emotion") or given["attack"], labels)))
            name = cell.folder.name
            scale = "subset" if name in SUBSETS else "full"
            seed = int(given["seed"])
            yield Planned(name, half, attack, defense or "none", cell.told, scale, seed)


def _pairs(cell: "Cell") -> Iterator[tuple[str, str]]:
    for option in cell.options:
        key, equals, value = option.removeprefix("--").partition("=")
        if equals:
            yield key, value


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tools/render.py`; returns the exit status."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description="Render results/*.jsonl into tables, the READMEs' result blocks and "
        "report.html. Another results folder is rendered in place and leaves the READMEs alone.",
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="results folder")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a file would change"
    )
    known, unknown = parser.parse_known_args(arguments)
    try:
        if unknown:
            raise InputError(f"unknown option {unknown[0]}; see --help")
        return render(known.results, ROOT, known.check, planned(ROOT))
    except InputError as error:
        print(f"error: {plain(str(error).replace('`results`', '--results'))}", file=sys.stderr)
        return 1
