"""Cells that a spreadsheet shows and does not run."""

from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def safe_cell(value: Any, path: bool = False) -> Any:
    """A cell that no spreadsheet takes for a formula; `plain_cell` undoes it.

    A path gets ``./`` in front, which is the same file; anything else an apostrophe.

    Example
    -------
    >>> safe_cell("=1+1"), safe_cell("-a.wav", path=True), safe_cell("yes")
    ("'=1+1", './-a.wav', 'yes')
    """
    if not isinstance(value, str) or not value.lstrip("'").startswith(FORMULA):
        return value
    return f"./{value}" if path and value.startswith(FORMULA) else f"'{value}"


def computes(text: str) -> bool:
    """Whether a part of a text is a formula where semicolons end cells, as in German spreadsheets.

    Example
    -------
    >>> computes("a;=1+1"), computes("a;-cmd|x!1"), computes("a; -b"), computes("=1+1")
    (True, True, False, False)
    """
    parts = [part.lstrip(" '\"") for part in text.split(";")[1:]]
    return any(
        part.startswith(FORMULA) and (part[0] in "=@" or set(part) & set("(|!")) for part in parts
    )


def plain_cell(value: Any) -> Any:
    """What `safe_cell` got, of all but a path."""
    guarded = isinstance(value, str) and value.startswith("'")
    return value[1:] if guarded and value.lstrip("'").startswith(FORMULA) else value
