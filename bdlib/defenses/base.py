"""The contracts of defenses, and the one function that turns a defense into a defended classifier.

The stage of a defense is its type. A defense never sees what is poisoned: it gets a `BlindView`.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from bdlib.corpus import Batch, Batches
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier
from bdlib.pack import Pack


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
    """

    train: Callable[[int], Batches]
    validation: Callable[[], Iterable[Batch]]
    count: int
    seed: int


@dataclass(frozen=True)
class BlindView:
    """All that a defense may look at.

    Arguments
    ---------
    rows : pd.DataFrame
        The untrusted training manifest (`manifest.blind`).
    pack : Pack
        Its waveforms.
    classes : tuple[str, ...]
        Class order.
    seed : int
        For whatever the defense draws.
    train : Callable[[pd.DataFrame], SpeechClassifier]
        Trains a fresh classifier on rows of this view; the undefended one is trained on all.
    validation : Callable[[], Iterable[Batch]]
        Batches of the validation set, which nobody poisoned; what uses it says so in its record.
    clean : Callable[[float], CleanData]
        The clean budget: this share of every class of the training set, as it was recorded.
    kept : Callable[[Callable[[], SpeechClassifier]], SpeechClassifier]
        The classifier that a function makes, which is called only where it was not saved before.
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
    kept: Callable[[Callable[[], SpeechClassifier]], SpeechClassifier]
    batches: Callable[[pd.DataFrame], Iterable[Batch]]
    folder: Path
    run_opts: dict[str, Any]


class FilterDefense(ABC):
    """Removes suspicious utterances; training starts again on the rest.

    `selection` says how its settings were chosen (`fixed`, `validation`, `oracle`), `clean_share`
    which share of every class of the training set it takes as clean; both go into the record.
    `class_scores`, of filters that judge classes, is set by `scores`: how suspicious each class is;
    above 1 it is called poisoned.
    """

    stage = "filter"
    selection = "fixed"
    clean_share: float = 0.0
    class_scores: dict[str, float] | None = None

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


class RepairDefense(ABC):
    """Changes the weights of a trained classifier, with a budget of clean data.

    `clean_share` is the share of every class of the training set that it needs: 0 for none.
    """

    stage = "repair"
    selection = "validation"
    clean_share: float = 0.05

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


class InferenceDefense(ABC):
    """Stands before or around a trained classifier when it is used.

    `thresholds` of one that rejects clips has the least suspicion that is rejected, by the share of
    clean clips it was set to reject; first the one in use. What is never rejected has none.
    """

    stage = "inference"
    selection = "fixed"
    thresholds: Mapping[float, float] = MappingProxyType({})

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


@dataclass(frozen=True)
class Defended:
    """What a defense leaves behind.

    Arguments
    ---------
    classifier : SpeechClassifier
        The defended classifier.
    kept : pd.Index | None
        IDs it was trained on, where a filter chose them.
    scores : dict[str, float] | None
        The filter's suspicions.
    calibrated : InferenceDefense | None
        The guard with the settings it chose.
    clean_budget : int
        Clean training clips that a filter or a repair was given.
    class_scores : dict[str, float] | None
        See `FilterDefense`.
    """

    classifier: SpeechClassifier
    kept: pd.Index | None = None
    scores: dict[str, float] | None = None
    calibrated: InferenceDefense | None = None
    clean_budget: int = 0
    class_scores: dict[str, float] | None = None


def defend(defense: FilterDefense | RepairDefense | InferenceDefense, view: BlindView) -> Defended:
    """Turn a defense into a defended classifier; the only place that asks for its type.

    Raises
    ------
    InputError
        If a filter removes everything or a whole class.
    """
    if isinstance(defense, InferenceDefense):
        classifier = view.train(view.rows)
        calibrated = defense.calibrate(classifier, view.validation, view.seed)
        return Defended(calibrated.guard(classifier, view.seed), calibrated=calibrated)
    if isinstance(defense, RepairDefense):
        classifier = view.train(view.rows)
        clean = view.clean(defense.clean_share)
        repaired = view.kept(lambda: defense.repair(copy.deepcopy(classifier), clean))
        return Defended(repaired, clean_budget=clean.count)
    if not isinstance(defense, FilterDefense):
        raise InputError(f"{type(defense).__name__}: not a defense; derive it from one of base.py")
    scores = defense.scores(view)
    rows = view.rows[view.rows["ID"].isin(set(defense.keep(scores)))].reset_index(drop=True)
    emptied = sorted(set(view.rows["label"]) - set(rows["label"]))
    if emptied:
        raise InputError(
            f"{type(defense).__name__}: nothing is left of {' '.join(emptied)}; let it remove less"
        )
    return Defended(
        view.train(rows),
        pd.Index(rows["ID"]),
        scores,
        clean_budget=view.clean(defense.clean_share).count if defense.clean_share else 0,
        class_scores=defense.class_scores,
    )
