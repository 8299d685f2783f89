"""The contract of a trigger, and how triggers are written to and read from `attack.json`."""

import dataclasses
import importlib
import numbers
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bdlib.audio import LONGEST_HEARD
from bdlib.errors import InputError, fits, named, within

if TYPE_CHECKING:  # few triggers need torch, which takes seconds to import
    from bdlib.corpus import Batches
    from bdlib.models.classifier import SpeechClassifier

_PACKAGE = "bdlib.attacks."
LATER = {"later": True}
"""Metadata of a field that came later: told only where it is not as by default, so that what was
poisoned before there was it keeps its digest."""


class Part:
    """A frozen dataclass of this package that can be written to and read from `attack.json`.

    A subclass with a `__post_init__` of its own calls this one first.

    Raises
    ------
    InputError
        If a field is not of its type, no finite number, or longer than a classifier hears.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not fits(value, field.type):
                raise InputError(f"`{field.name}` is {str(value)[:50]}: give {named(field.type)}")
            if field.name == "seconds" or field.name.endswith("_seconds"):
                within(field.name, value, 0, LONGEST_HEARD)

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` makes an equal object."""
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if self._tells(f)}
        fields = {name: plain(value) for name, value in told.items()}
        return {"type": f"{type(self).__module__}.{type(self).__qualname__}", **fields}

    def _tells(self, field: dataclasses.Field) -> bool:
        return not field.metadata.get("later") or getattr(self, field.name) != field.default


class Trigger(Part, ABC):
    """What an adversary does to one waveform. Subclasses are frozen dataclasses.

    `alters` is False for the one that does nothing: its clips need no packs of their own. `learned`
    is True for those that are made on a surrogate first, `chooses` for those of them that also say
    which clips are poisoned.
    """

    alters: ClassVar[bool] = True
    learned: ClassVar[bool] = False
    chooses: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """Apply the trigger.

        Arguments
        ---------
        waveform : np.ndarray
            (T,) float32 in [-1, 1]; it is not changed.
        rate : int
            Sampling rate in Hz.
        generator : np.random.Generator
            The only source of randomness.

        Returns
        -------
        np.ndarray
            (T,) float32 in [-1, 1].

        Raises
        ------
        InputError
            If the waveform cannot carry the trigger, for example because it is too short.
        """


class LearnedTrigger(Trigger):
    """A trigger that is made on a surrogate classifier before anything is poisoned.

    What it learns stands in its fields, so that `attack.json` is the whole attack. `surrogate` names
    a yaml beside the recipe's, whose model is the surrogate; None takes the recipe's own.
    """

    learned: ClassVar[bool] = True
    surrogate: str | None

    @abstractmethod
    def fit(
        self, surrogate: "SpeechClassifier", clips: "Batches", target: int, seed: int
    ) -> "LearnedTrigger":
        """The trigger made.

        Arguments
        ---------
        surrogate : SpeechClassifier
            Trained on the clean training set; it is not changed.
        clips : Batches
            Clean training clips of other classes than the target.
        target : int
            Number of the target class.
        seed : int
            Of all randomness.
        """

    def strangeness(self, surrogate: "SpeechClassifier", clips: "Batches") -> dict[str, float]:
        """By ID, how ill a clip suits the trigger made: those with the least are poisoned.

        Only of a trigger that `chooses`. `clips` are clean training clips, in their order.
        """
        raise NotImplementedError


def plain(value: Any) -> Any:
    """Parts as `to_dict` tells them, numbers of NumPy as those of Python, and all else as it is."""
    if isinstance(value, Part):
        return value.to_dict()
    if isinstance(value, numbers.Number) and hasattr(value, "item"):
        return value.item()
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def from_dict(data: Any) -> Any:
    """Make the object that `Part.to_dict` described.

    Only dataclasses of this package are made: a file from a stranger cannot run code.

    Raises
    ------
    InputError
        If the type is not one of `bdlib.attacks` or its fields do not fit.
    """
    if isinstance(data, list):
        return tuple(from_dict(item) for item in data)
    if not isinstance(data, dict):
        return data
    name = str(data.get("type", ""))
    module, _, cls = name.rpartition(".")
    try:
        if not module.startswith(_PACKAGE):
            raise ValueError("not a type of bdlib.attacks")
        part = getattr(importlib.import_module(module), cls)
        if not (dataclasses.is_dataclass(part) and issubclass(part, Part)):
            raise ValueError("not a trigger, sound or label policy")
        return part(**{key: from_dict(value) for key, value in data.items() if key != "type"})
    except (ValueError, TypeError, ImportError, AttributeError, RecursionError) as error:
        raise InputError(f"attack.json: {name[:100]!r} cannot be made ({error})") from error
