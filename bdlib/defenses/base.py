"""The contracts of defenses.

The stage of a defense is its type; `bdlib.stages.defend` turns any into a defended classifier. A
defense never sees what is poisoned: it gets a `BlindView`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from torch import Tensor

from bdlib.corpus import Batch, Batches
from bdlib.models.classifier import SpeechClassifier
from bdlib.pack import Pack


@dataclass(frozen=True)
class Tried:
    """A rate at which a repair tuned, and what clean validation clips said of it.

    Arguments
    ---------
    rate : float
        The highest.
    before, after : float
        Accuracy on validation clips, of the undefended classifier and of the tuned one.
    kept : bool
        Whether this is the repair.
    """

    rate: float
    before: float
    after: float
    kept: bool


@dataclass(frozen=True)
class CleanData:
    """Clips that a defender recorded or checked: the clean budget, and the validation set.

    Arguments
    ---------
    train : Callable[[int], Batches]
        Batch size to training batches of the budget, drawn anew each `epoch`; a budget smaller
        than a batch is one batch.
    validation : Callable[[], Iterable[Batch]]
        Batches of the validation set.
    count : int
        Clips in the budget.
    seed : int
        For whatever the defense draws.
    tried : list[Tried]
        Gets the rates that a repair tries, for its record.
    suspicion : list[float]
        Gets how suspicious each class is, in their order, from a repair that judges them.
    """

    train: Callable[[int], Batches]
    validation: Callable[[], Iterable[Batch]]
    count: int
    seed: int
    tried: list[Tried] = field(default_factory=list)
    suspicion: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class BlindView:
    """All that a defense may look at.

    Arguments
    ---------
    rows : pd.DataFrame
        The untrusted training manifest: `ID`, an alias, `duration` in seconds, as packed, and
        `label`. The order tells nothing.
    pack : Pack
        Its waveforms, in the same order.
    classes : tuple[str, ...]
        Class order.
    seed : int
        For whatever the defense draws.
    train : Callable[[pd.DataFrame], SpeechClassifier]
        Trains a fresh classifier on rows of this view; the undefended one is trained on all.
    validation : Callable[[], Iterable[Batch]]
        Batches of the validation set, which nobody poisoned; what uses it says so in its record.
    clean : Callable[[float], CleanData]
        The clean budget: this share of the training set, as many clips of each class, that are as
        they were recorded; under aliases of their own.
    batches : Callable[[pd.DataFrame], Iterable[Batch]]
        Rows of this view as batches, in their order, cropped at the centre.
    folder : Path
        For what a defense makes of its own and wants to find again; shared by all, so that names
        in it are digests of what they were made from.
    run_opts : dict[str, Any]
        SpeechBrain's run options (device, precision, ...).
    """

    rows: pd.DataFrame
    pack: Pack
    classes: tuple[str, ...]
    seed: int
    train: Callable[[pd.DataFrame], SpeechClassifier]
    validation: Callable[[], Iterable[Batch]]
    clean: Callable[[float], CleanData]
    batches: Callable[[pd.DataFrame], Iterable[Batch]]
    folder: Path
    run_opts: dict[str, Any]


class Defense(ABC):
    """What a record tells of any defense.

    `selection` says how its settings were chosen (`fixed`, `validation`, `oracle`), `clean_share`
    which share of the training set it takes as clean, as many clips of each class.
    """

    stage: str
    selection = "fixed"
    clean_share: float = 0.0
    class_scores: dict[str, float] | None = None
    """Of filters that judge classes, set by `scores`: how suspicious each is; above 1 it is called
    poisoned."""
    thresholds: Mapping[float, float] = MappingProxyType({})
    """Of guards that reject clips: the least suspicion that is rejected, by the share of clean clips
    it was set to reject; first the one in use. What is never rejected has none."""
    grid: tuple[Hashable, ...] = ()
    """Of repairs that are measured at further settings in the same run: these, in their order."""


class FilterDefense(Defense):
    """Removes suspicious utterances; training starts again on the rest."""

    stage = "filter"
    trained_in: Path | None = None
    """Of filters that train a network of their own, set by `scores`: its folder, which has a
    `done.json`."""

    @abstractmethod
    def scores(self, view: BlindView) -> dict[str, float]:
        """Suspicion of every utterance by ID; higher is more suspicious."""

    @abstractmethod
    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """The IDs to train on."""


class OracleFilter(FilterDefense):
    """A control that is told the truth, and says so in its name and its record."""

    selection = "oracle"

    def __init__(self) -> None:
        self.poisoned: frozenset[str] | None = None

    def reveal(self, poisoned: Collection[str]) -> None:
        """Tell it which utterances are poisoned."""
        self.poisoned = frozenset(poisoned)


class RepairDefense(Defense):
    """Changes the weights of a trained classifier, with a budget of clean data.

    `clean_share` is the share of the training set that it needs as clean: 0 for none.
    """

    stage = "repair"
    selection = "validation"
    clean_share: float = 0.05
    calls_above: float = 1.0
    """Of repairs that judge classes (`CleanData.suspicion`): above it a class is called a target."""

    @abstractmethod
    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """The repaired classifier, with the same parameters by name, and by shape unless it shrank.

        Arguments
        ---------
        classifier : SpeechClassifier
            A copy of the undefended one, to be changed in place or not.
        clean : CleanData
            All it may learn from.
        """

    def grid_answers(
        self, classifier: SpeechClassifier, clean: Sequence[Batch], clips: Iterable[Batch]
    ) -> Tensor:
        """Class numbers (n, settings) of n clips after the repair at each setting of the `grid`.

        Arguments
        ---------
        classifier : SpeechClassifier
            The undefended one; it is not changed.
        clean : Sequence[Batch]
            The validation set.
        clips : Iterable[Batch]
            What is classified.
        """
        raise NotImplementedError(f"{type(self).__name__} has no grid")

    def grid_metrics(
        self, measured: Mapping[Hashable, Mapping[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """What a record tells of the metrics at each setting of the `grid`."""
        raise NotImplementedError(f"{type(self).__name__} has no grid")


class InferenceDefense(Defense):
    """Stands before or around a trained classifier when it is used."""

    stage = "inference"

    def calibrate(
        self, classifier: SpeechClassifier, validation: Callable[[], Iterable[Batch]], seed: int
    ) -> "InferenceDefense":
        """This defense with settings chosen on clean data; by default as it is.

        Arguments
        ---------
        classifier : SpeechClassifier
            Trained.
        validation : Callable[[], Iterable[Batch]]
            Batches of clean clips.
        seed : int
            For whatever the defense draws.
        """
        return self

    @abstractmethod
    def guard(self, classifier: SpeechClassifier, seed: int) -> SpeechClassifier:
        """The classifier behind the defense; the one given is not changed.

        Arguments
        ---------
        classifier : SpeechClassifier
            Trained.
        seed : int
            For whatever the defense draws at test time.
        """
