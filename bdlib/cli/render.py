"""Stage 9: render records into tables, figures, the blocks of the READMEs and `report.html`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bdlib.errors import InputError
from bdlib.report.render import render

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tools/render.py`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="render.py",
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
        return render(known.results, ROOT, known.check)
    except InputError as error:
        print(f"error: {str(error).replace('`results`', '--results')}", file=sys.stderr)
        return 1
