"""The one error a user can cause."""

from typing import Any


class InputError(ValueError):
    """Bad input. The message is one line: the file, the row where there is one, and the remedy.

    The command lines print it as ``error: ...`` and exit with 1; a library user can catch it.
    """


def within(name: str, value: Any, least: float, most: float, kind: type = float) -> None:
    """Refuse a setting that is no number of its kind, or out of range; NaN and infinity are.

    Arguments
    ---------
    name : str
        What the argument is called.
    value : Any
        Its value.
    least, most : float
        What it may be, both included.
    kind : type
        `int`, or `float` for any number.

    Raises
    ------
    InputError
    """
    kinds = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"`{name}` is {str(value)[:50]}: give {what} from {least} to {most}")
