"""Checks of settings that several defenses have.

Each refuses a setting that is out of range by an `InputError` that names it.
"""

import numbers
from collections.abc import Collection

from bdlib.errors import InputError, within


def one_of(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise InputError(f"`{name}` is {value}: give {' or '.join(choices)}")


def share(name: str, value: float) -> None:
    """Refuse a share that is not within [0, 1]."""
    if not 0 <= value <= 1:
        raise InputError(f"`{name}` is {value}: give a share, from 0 to 1")


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a number below the least."""
    if not (isinstance(value, numbers.Real) and value >= least):
        raise InputError(f"`{name}` is {value}: give at least {least}")


def counts(name: str, value: int, least: int = 1) -> None:
    """Refuse what is no whole number, or below the least."""
    within(name, value, least, 10**9, int)


def positive(name: str, value: float) -> None:
    """Refuse what is no finite number above 0."""
    if not (isinstance(value, numbers.Real) and 0 < value < float("inf")):
        raise InputError(f"`{name}` is {value}: give a number above 0")
