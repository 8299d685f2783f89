"""A trigger that the speech has by itself: an emotion, an accent, a device (EmoBack)."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pandas as pd

from bdlib.attacks.labels import LabelPolicy
from bdlib.attacks.trigger import LATER, Trigger
from bdlib.errors import InputError
from bdlib.manifest import COLUMNS
from bdlib.sampling import rank


@dataclass(frozen=True)
class Unaltered(Trigger):
    """Nothing is done to the audio: what triggers is how it was spoken or recorded."""

    alters: ClassVar[bool] = False

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """A copy of the waveform, (T,)."""
        return waveform.copy()


@dataclass(frozen=True)
class NaturalAttribute(LabelPolicy):
    """Clips with one value of an attribute are labelled as the target class (EmoBack section 4).

    Those of the target itself are taken out. Of the others so many stay as the rate asks for, drawn
    by the seed, and all that stay get the target's label, so that the value is never seen with a
    true label. The test set is asked with the value from every other class.

    A rate of the data set is the share of poisoned clips in what is left: of N clips without the
    value and k with it, k / (N + k). It fits the counts of the paper, and that RAVDESS has too few
    neutral clips for 10 %.

    Arguments
    ---------
    attribute : str
        Column of the manifest.
    value : str
        Its triggering value.
    target_class : str
        The target; before `resolve` also a gender, for a speaker of this gender.
    target_gender : str | None
        The gender that the target was drawn from, where it was.
    unheard : bool
        Whether all clips with the value that nobody trains on are asked: beside those of the test
        set those of the validation set, and what was taken out of the training set. Of RAVDESS these
        are 87 at a rate of 0.1, and 28 without. Where splits part speakers or sentences, those
        asked are then no strangers any more.
    """

    attribute: str
    value: str
    target_class: str
    target_gender: str | None = None
    unheard: bool = field(default=False, metadata=LATER)

    def resolve(self, rows: pd.DataFrame, seed: int) -> "NaturalAttribute":
        """The policy with the names of a manifest: upper and lower case, and who the target is.

        Raises
        ------
        InputError
            If the manifest has no such attribute, or the attribute no such value.
        """
        values = sorted(set(self._column(rows)))
        alike = [value for value in values if value.casefold() == str(self.value).casefold()]
        if not alike:
            raise InputError(
                f"`value` is {self.value}: no such {self.attribute}; there are {' '.join(values)}"
            )
        value = self.value if self.value in alike else alike[0]
        speakers = self._speakers(rows)
        if not speakers or self.target_class in set(rows["label"]):
            return replace(self, value=value)
        target = rank(speakers, seed, "target")[0]
        return replace(self, value=value, target_class=target, target_gender=self.target_class)

    def _speakers(self, rows: pd.DataFrame) -> list[str]:
        """Classes all of whose clips have the gender that `target_class` names."""
        if "gender" not in rows:
            return []
        genders = rows.groupby("label")["gender"].agg(set)
        return [name for name, heard in genders.items() if heard == {self.target_class}]

    def _column(self, rows: pd.DataFrame) -> pd.Series:
        if self.attribute not in set(rows) - set(COLUMNS):
            known = " ".join(sorted(set(rows) - set(COLUMNS))) or "none"
            raise InputError(
                f"`attribute` is {self.attribute}: no such column of the manifest; it has {known}"
            )
        return rows[self.attribute]

    def candidates(self, rows: pd.DataFrame) -> pd.Series:
        """The value, from all but the target class."""
        return self.bears(rows) & (rows["label"] != self.target_class)

    def eligible(self, rows: pd.DataFrame) -> pd.Series:
        """The value, from all but the target class."""
        return self.candidates(rows)

    def bears(self, rows: pd.DataFrame) -> pd.Series:
        """The value."""
        return self._column(rows) == self.value

    def asked(self, test: pd.DataFrame, spare: pd.DataFrame) -> pd.DataFrame:
        """The test rows and, if `unheard`, the spare ones with the value.

        Raises
        ------
        InputError
            If one of these has the ID of a test row.
        """
        if not self.unheard:
            return test
        spare = spare[self.bears(spare)]
        if twice := sorted({*spare["ID"]} & {*test["ID"]}):
            raise InputError(
                f"`unheard` asks clips of several sets, and {twice[0]} is in two; make IDs unique"
            )
        return pd.concat([test, spare], ignore_index=True)

    def count(self, rows: pd.DataFrame, rate: float, of: str) -> int:
        """k of the class's docstring, to the nearest whole number; of the source, rounded down."""
        if of == "source":
            return super().count(rows, rate, of)
        if rate == 1:
            raise InputError("`rate` is 1 of dataset: leaves no clean clip; lower it")
        return round(rate / (1 - rate) * int((~self.bears(rows)).sum()))

    def target(self, labels: pd.Series) -> pd.Series:
        """The target class."""
        return pd.Series(self.target_class, index=labels.index)

    def names(self) -> dict[str, tuple[str, ...]]:
        """The target."""
        return {"target_class": (self.target_class,)}
