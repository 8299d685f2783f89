"""Parts of pages that `tables.py` makes, between `<!-- KIND NAME:begin -->` and `<!-- KIND NAME:end -->`."""

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
