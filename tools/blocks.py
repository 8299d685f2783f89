"""Parts of pages that a tool makes, between `<!-- KIND NAME:begin -->` and `<!-- KIND NAME:end -->`."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Blocks = Mapping[str, Mapping[str, Callable[[], str]]]
"""By page, seen from the repository, and by name of a part: what makes it."""


def filled(text: str, kind: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """A page with its parts made anew.

    Raises
    ------
    ValueError
        If a part has no place.
    """
    for name, made in parts.items():
        begin, end = f"<!-- {kind} {name}:begin -->", f"<!-- {kind} {name}:end -->"
        before, between, rest = text.partition(begin)
        if not between or end not in rest:
            raise ValueError(f"no {begin} with its {end}; add them")
        text = f"{before}{begin}{made()}{end}{rest.partition(end)[2]}"
    return text


def main(about: str, kind: str, pages: Blocks) -> int:
    """Command line of a tool: write the parts, or with `--check` name what differs; the exit status."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail where it differs")
    check, wrong = parser.parse_args().check, 0
    for page, parts in pages.items():
        text = (ROOT / page).read_text("utf-8")
        try:
            made = filled(text, kind, parts)
        except ValueError as error:
            print(f"error: {page}: {error}", file=sys.stderr)
            return 1
        if check and made != text:
            tool = Path(sys.argv[0]).name
            print(f"error: {page} differs from results; run tools/{tool}", file=sys.stderr)
            wrong = 1
        elif made != text:
            (ROOT / page).write_text(made, "utf-8")
    return wrong
