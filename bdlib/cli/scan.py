"""``bdlib scan``: is this corpus poisoned, and which clips?"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bdlib.cli.answer import answer, shown
from bdlib.cli.command import Parser

NAMES = ("output", "fpr", "task", "path_column", "label_column", "data_folder", "cache", "deep")
"""Arguments of the library that are options here: `name` is --name."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = Parser(
        prog="bdlib scan",
        allow_abbrev=False,
        description="Is a corpus of speech poisoned, and which clips? Nothing is written into it, and "
        "without --deep no classifier trained on it. Exit status: 0 nothing found, 1 found, 2 error.",
    )
    made.add_argument("corpus", help="a folder with a folder a class, a CSV, or a lhotse manifest")
    made.add_argument(
        "--task",
        default="auto",
        help="words, speakers, auto (default), or none: no pretrained encoder",
    )
    made.add_argument(
        "--output",
        type=Path,
        default=Path("scan"),
        help="folder of the report and lists (default: scan)",
    )
    made.add_argument("--json", action="store_true", help="print only what scan.json holds")
    made.add_argument(
        "--fpr",
        type=float,
        default=0.01,
        help="share of clean clips that may be flagged (default: 0.01)",
    )
    made.add_argument("--path_column", "--path-column", help="of a CSV")
    made.add_argument("--label_column", "--label-column", help="of a CSV, or field of supervisions")
    made.add_argument("--data_folder", type=Path, help="what paths in a CSV are relative to")
    made.add_argument(
        "--deep", action="store_true", help="also train a small net, for a ranking: minutes"
    )
    made.add_argument("--cache", type=Path, help="folder of embeddings (default: the user's)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Scan, and say what was found; returns the exit status."""
    left = "interrupted; what was heard is kept, the same command goes on from here"
    return answer(lambda: _scan(arguments), NAMES, left)


def _scan(arguments: Sequence[str] | None) -> int:
    given = parser().parse_args(arguments)
    from bdlib.scanning.scan import scan

    options = {name: getattr(given, name) for name in NAMES}
    result = scan(given.corpus, quiet=given.json, **options)
    print(shown(result, given.json))
    if not given.json:
        page, clean = given.output / "report.html", given.output / "clean.csv"
        print(f"{result.seconds:.0f} s; look and listen: {page}; without what is flagged: {clean}")
        if result.found:
            print(f"next: listen, then train on {clean}; what was trained on all of it, anew")
    return int(result.found)


if __name__ == "__main__":
    sys.exit(main())
