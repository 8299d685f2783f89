"""The one error a user can cause, and checks of single values that raise it."""

import numbers
import types
import typing
from typing import Any

LARGEST = 1e12  # of a number that is a setting


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
    kinds = numbers.Integral if kind is int else numbers.Real  # NumPy's are, too
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"`{name}` is {str(value)[:50]}: give {what} from {least} to {most}")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value that was read is of a type, as annotations write types.

    Numbers are finite; a whole number is a `float`, and a truth value is no number.

    Example
    -------
    >>> fits({"a": 1}, dict[str, int]), fits([1.5], list[int]), fits(float("nan"), float | None)
    (True, False, False)
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(key, inner[0]) and fits(item, inner[1]) for key, item in value.items()
        )
    if kind in (int, float):
        if isinstance(value, bool):
            return False
        if isinstance(value, numbers.Integral):
            return abs(int(value)) < 2**63
        # Neither NaN nor infinity is below.
        return kind is float and isinstance(value, numbers.Real) and abs(value) <= LARGEST
    return isinstance(value, type(None) if kind is None else kind)


def named(kind: Any) -> str:
    """A type of `fits` in words."""
    words = {int: "a whole number", float: "a finite number", str: "text", type(None): "null"}
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(named(one) for one in typing.get_args(kind))
    return words.get(kind) or getattr(kind, "__name__", str(kind))
