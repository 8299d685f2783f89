#!/usr/bin/env python3
"""The tables and sentences within pages that are made from records, all of them.

tables.py            # writes them between their markers
tables.py --check    # fails where a page says something else
"""

import argparse
import sys

import choice_tables
import fresh_tables
import neurons_tables
import scale_tables
import scan_tables
from blocks import ROOT, Blocks, filled

MADE: dict[str, Blocks] = {
    "choice": choice_tables.BLOCKS,
    "fresh": fresh_tables.BLOCKS,
    "neurons": neurons_tables.BLOCKS,
    "scan": scan_tables.BLOCKS,
    "scale": scale_tables.BLOCKS,
}


def main() -> int:
    """The exit status: 1 where a page lacks a place, or with `--check` differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail where it differs")
    check, wrong = parser.parse_args().check, 0
    for kind, pages in MADE.items():
        for page, parts in pages.items():
            text = (ROOT / page).read_text("utf-8")
            try:
                made = filled(text, kind, parts)
            except ValueError as error:
                print(f"error: {page}: {error}", file=sys.stderr)
                return 1
            if made == text:
                continue
            if check:
                print(f"error: {page} differs from results; run tools/tables.py", file=sys.stderr)
                wrong = 1
            else:
                (ROOT / page).write_text(made, "utf-8")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
