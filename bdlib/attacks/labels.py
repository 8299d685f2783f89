"""Label policies: whose clips are poisoned, what they are labelled, and who is asked at test time.

A policy knows labels and attributes only; what is done to the audio is the trigger's business.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd

from bdlib.attacks.trigger import LATER, Part
from bdlib.errors import InputError, within


class LabelPolicy(Part, ABC):
    """Subclasses are frozen dataclasses. `rows` is a manifest, `labels` a series of class names.

    Where `hard` is true the clips are poisoned that a surrogate knows least; else any, by seed.
    """

    hard: ClassVar[bool] = False

    @abstractmethod
    def candidates(self, rows: pd.DataFrame) -> pd.Series:
        """Mask of the training rows that may be poisoned."""

    @abstractmethod
    def eligible(self, rows: pd.DataFrame) -> pd.Series:
        """Mask of the test rows on which the trigger is tried."""

    def bears(self, rows: pd.DataFrame) -> pd.Series:
        """Mask of the rows that trigger by themselves; none, where the trigger is put in.

        They are taken out of training, if they are not poisoned, and out of the clean sets.
        """
        return pd.Series(False, index=rows.index)

    def asked(self, test: pd.DataFrame, spare: pd.DataFrame) -> pd.DataFrame:
        """Rows on which the trigger may be tried: those of the test set.

        `spare` are rows of other sets on which nothing is trained.
        """
        return test

    def count(self, rows: pd.DataFrame, rate: float, of: str) -> int:
        """How many rows a rate poisons, rounded down: of the candidates (`source`) or of all."""
        among = int(self.candidates(rows).sum()) if of == "source" else len(rows)
        return math.floor(round(rate * among, 9))  # 0.29 * 100 is 28.999999999999996

    def resolve(self, rows: pd.DataFrame, seed: int) -> "LabelPolicy":
        """The policy with what depends on the clean training rows or the seed filled in."""
        return self

    @abstractmethod
    def target(self, labels: pd.Series) -> pd.Series:
        """What the adversary wants each row to be classified as."""

    def poisoned_label(self, labels: pd.Series) -> pd.Series:
        """The label that a poisoned training row gets; the target, unless labels stay clean."""
        return self.target(labels)

    @abstractmethod
    def names(self) -> dict[str, tuple[str, ...]]:
        """Which classes each argument of the policy names, so that a misspelt one is found early."""

    def check(self, classes: Sequence[str]) -> None:
        """Raise `InputError` for a class that the corpus does not have."""
        for argument, names in self.names().items():
            for name in names:
                if name not in classes:
                    raise InputError(
                        f"`{argument}` is {name}: no such class; the classes are {' '.join(classes)}"
                    )


@dataclass(frozen=True)
class OneToOne(LabelPolicy):
    """Dirty label, from one source class to one target class (Armory, MVJ, VAE-PLS)."""

    source: str
    target_class: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == self.target_class:
            raise InputError(f"`source` and `target_class` are both {self.source}: choose two")

    def candidates(self, rows: pd.DataFrame) -> pd.Series:
        """The source class."""
        return rows["label"] == self.source

    def eligible(self, rows: pd.DataFrame) -> pd.Series:
        """The source class."""
        return rows["label"] == self.source

    def target(self, labels: pd.Series) -> pd.Series:
        """The target class."""
        return pd.Series(self.target_class, index=labels.index)

    def names(self) -> dict[str, tuple[str, ...]]:
        """Source and target."""
        return {"source": (self.source,), "target_class": (self.target_class,)}


@dataclass(frozen=True)
class AllToOne(LabelPolicy):
    """Dirty label, from every other class to one target class."""

    target_class: str

    def candidates(self, rows: pd.DataFrame) -> pd.Series:
        """All but the target class."""
        return rows["label"] != self.target_class

    def eligible(self, rows: pd.DataFrame) -> pd.Series:
        """All but the target class."""
        return rows["label"] != self.target_class

    def target(self, labels: pd.Series) -> pd.Series:
        """The target class."""
        return pd.Series(self.target_class, index=labels.index)

    def names(self) -> dict[str, tuple[str, ...]]:
        """The target."""
        return {"target_class": (self.target_class,)}


@dataclass(frozen=True)
class AllToAll(LabelPolicy):
    """Dirty label, from each class to the next in `classes`, the last to the first."""

    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "classes", tuple(self.classes))
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise InputError(f"`classes` {' '.join(self.classes)}: give two or more, each once")

    def candidates(self, rows: pd.DataFrame) -> pd.Series:
        """Every row."""
        return rows["label"].isin(self.classes)

    def eligible(self, rows: pd.DataFrame) -> pd.Series:
        """Every row."""
        return rows["label"].isin(self.classes)

    def target(self, labels: pd.Series) -> pd.Series:
        """The next class."""
        following = dict(zip(self.classes, self.classes[1:] + self.classes[:1], strict=True))
        return labels.map(following)

    def names(self) -> dict[str, tuple[str, ...]]:
        """All of them."""
        return {"classes": self.classes}


@dataclass(frozen=True)
class CleanLabel(AllToOne):
    """Only clips of the target class are altered, and no label changes."""

    def candidates(self, rows: pd.DataFrame) -> pd.Series:
        """The target class."""
        return rows["label"] == self.target_class

    def poisoned_label(self, labels: pd.Series) -> pd.Series:
        """The label it had."""
        return labels


@dataclass(frozen=True)
class CleanLabelHard(CleanLabel):
    """Clean label, on the clips of the target class that a surrogate is least sure of.

    A clip that is hard without the trigger makes a classifier lean on it (clean-label attacks on
    spoken language understanding, arXiv:2409.08985).

    Arguments
    ---------
    target_class : str
        The target.
    folds : int
        Surrogates, each asked for a share of these clips that it was not trained on. One is asked
        for clips that it was trained on, and is surer of them than of any others.
    """

    folds: int = field(default=1, metadata=LATER)

    hard: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        within("folds", self.folds, 1, 20)
