"""Checks of settings that several defenses have."""

from collections.abc import Collection

from bdlib.errors import InputError


def one_of(option: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value of an option that is none of the choices.

    Raises
    ------
    InputError
        If so.
    """
    if value not in choices:
        raise InputError(f"--{option}={value}: give one of {' '.join(choices)}")


def share(option: str, value: float) -> None:
    """Refuse a share that is not within [0, 1].

    Raises
    ------
    InputError
        If so.
    """
    if not 0 <= value <= 1:
        raise InputError(f"--{option}={value}: give a share, from 0 to 1")
