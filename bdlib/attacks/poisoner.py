"""From a manifest to a poisoned manifest and the truth about it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bdlib.attacks.labels import LabelPolicy
from bdlib.attacks.trigger import Trigger, from_dict, plain
from bdlib.errors import InputError, fits, named
from bdlib.files import digest, seed_of
from bdlib.manifest import TRIGGERED
from bdlib.sampling import rank


@dataclass(frozen=True)
class Poisoner:
    """An attack: a trigger, a label policy, and how much.

    Poisoned rows replace the originals; no copy is kept (Armory `audio_dlbd`). Rows that trigger
    by themselves are poisoned or taken out (EmoBack).

    Arguments
    ---------
    trigger : Trigger
        Applied when waveforms are packed.
    labels : LabelPolicy
        Who is poisoned, to what.
    rate : float
        Share of poisoned training rows, in [0, 1]. 0 is the clean twin: nothing is poisoned, and
        test clips get the trigger all the same, which tells what it does to a net that never heard it.
    of : str
        What `rate` is a share of: `source` (the rows the policy may poison) or `dataset`.
    seed : int
        Draws the poisoned rows and the trigger's randomness; not the training seed.

    Raises
    ------
    InputError
        If the rate is out of range, selects nothing, or asks for more rows than there are, or trigger
        and labels both choose the rows.
    """

    trigger: Trigger
    labels: LabelPolicy
    rate: float
    of: str = "source"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("trigger", Trigger), ("labels", LabelPolicy), ("seed", int)):
            if not fits(value := getattr(self, name), kind):
                raise InputError(f"`{name}` is {str(value)[:50]}: give {named(kind)}")
        if not fits(self.rate, float) or not 0 <= self.rate <= 1:
            raise InputError(f"`rate` is {self.rate}: give a share from 0 to 1, 0.1 for 10 %")
        if self.of not in ("source", "dataset"):
            raise InputError(f"`of` is {self.of}: give source or dataset")
        if self.labels.hard and self.trigger.chooses:
            raise InputError(
                "`labels` and the trigger both choose the clips to poison; take other labels"
            )

    @property
    def ranks(self) -> bool:
        """Whether a surrogate says which of the candidates are poisoned; else the seed draws them."""
        return self.labels.hard or self.trigger.chooses

    def poison(
        self, rows: pd.DataFrame, ranks: pd.Series | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Poison training rows.

        Arguments
        ---------
        rows : pd.DataFrame
            The clean training manifest.
        ranks : pd.Series | None
            By ID, a number of each candidate: those with the least are poisoned. For a policy that is
            `hard` how sure a surrogate is of the label, for a trigger that `chooses` its strangeness.

        Returns
        -------
        tuple[pd.DataFrame, pd.DataFrame]
            The rows after poisoning, in the order given, and the truth (`manifest.read_truth`), a
            row for each poisoned utterance.
        """
        self.labels.check(sorted(set(rows["label"])))
        candidates = rows.loc[self.labels.candidates(rows), "ID"]
        count = self.labels.count(rows, self.rate, self.of)
        if count == 0 and self.rate > 0:
            raise InputError(
                f"`rate` is {self.rate} of {self.of}: selects none of {len(candidates)} candidates; "
                "raise it or give more data"
            )
        if count > len(candidates):
            raise InputError(
                f"`rate` is {self.rate} of {self.of}: needs {count} clips, but only "
                f"{len(candidates)} may be poisoned; lower it"
            )
        order = rank(candidates, self.seed, "poison")
        if self.ranks:
            order = sorted(order, key=ranks.round(6).to_dict().__getitem__)
        chosen = rows["ID"].isin(set(order[:count]))
        rows = rows[chosen | ~self.labels.bears(rows)]
        return self._relabel(rows, chosen[rows.index], "train", self.labels.poisoned_label)

    def benign(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows that do not trigger by themselves: all, unless the trigger is an attribute."""
        return rows[~self.labels.bears(rows)].reset_index(drop=True)

    def trigger_test(
        self, rows: pd.DataFrame, spare: pd.DataFrame | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The eligible test rows, with their true labels, and the truth with their targets.

        Arguments
        ---------
        rows : pd.DataFrame
            The test set.
        spare : pd.DataFrame | None
            Rows of other sets on which nothing is trained: some policies ask them, too.
        """
        rows = rows if spare is None else self.labels.asked(rows, spare)
        eligible = rows[self.labels.eligible(rows)].reset_index(drop=True)
        if not len(eligible):
            named = " and ".join(f"`{name}`" for name in self.labels.names())
            raise InputError(f"no test clip is eligible for the attack; check {named}")
        everyone = pd.Series(True, index=eligible.index)
        _, truth = self._relabel(eligible, everyone, TRIGGERED, self.labels.target)
        return eligible, truth

    def _relabel(
        self,
        rows: pd.DataFrame,
        mask: pd.Series,
        split: str,
        relabel: Callable[[pd.Series], pd.Series],
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        before = rows.loc[mask, "label"]
        truth = pd.DataFrame(
            {
                "split": split,
                "label_before": before,
                "label_after": relabel(before),
                "triggered": True,
            }
        ).set_index(rows.loc[mask, "ID"])
        poisoned = rows.copy()
        poisoned.loc[mask, "label"] = relabel(before)
        return poisoned, truth

    def apply(self, waveform: np.ndarray, rate: int, split: str, name: str) -> np.ndarray:
        """The trigger on one utterance: the same for the same seed, split and ID.

        Raises
        ------
        InputError
            Naming the utterance, if it cannot carry the trigger.
        """
        seed = seed_of("trigger", self.seed, split, name)
        return self._put(waveform, rate, seed, name)

    def alter(
        self, names: Collection[str], rate: int, split: str
    ) -> Callable[[str, np.ndarray], np.ndarray]:
        """The trigger on these utterances of a split, others as they are: for `bdlib.pack.pack`."""

        def altered(name: str, waveform: np.ndarray) -> np.ndarray:
            return self.apply(waveform, rate, split, name) if name in names else waveform

        return altered

    def heard(self, rate: int) -> str:
        """Digest of what the trigger does to ten seconds of noise: a sound file may change in place."""
        noise = np.random.Generator(np.random.PCG64(0)).standard_normal(10 * rate) / 10
        seed = seed_of("trigger", self.seed, "heard", "heard")
        altered = self._put(noise.astype(np.float32), rate, seed, "ten seconds of noise")
        return digest(np.rint(altered * 4096).astype(int).tolist())

    def _put(self, waveform: np.ndarray, rate: int, seed: int, name: str) -> np.ndarray:
        kind = type(self.trigger).__name__
        try:
            altered = self.trigger(waveform, rate, np.random.Generator(np.random.PCG64(seed)))
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        except (ArithmeticError, LookupError, ValueError, MemoryError) as error:
            raise InputError(
                f"{name}: {kind} cannot be put in with these settings ({error}); correct them"
            ) from error
        if getattr(altered, "shape", None) != waveform.shape or not np.isfinite(altered).all():
            raise InputError(
                f"{name}: {kind} does not give back {len(waveform)} finite samples; correct it"
            )
        return altered

    def to_dict(self) -> dict[str, Any]:
        """What `attack.json` holds: with the clean manifest, the whole attack."""
        return {
            "trigger": self.trigger.to_dict(),
            "labels": self.labels.to_dict(),
            "rate": plain(self.rate),
            "of": self.of,
            "seed": plain(self.seed),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Poisoner":
        """Read what `to_dict` wrote."""
        return cls(
            **{key: from_dict(data[key]) for key in ("trigger", "labels", "rate", "of", "seed")}
        )
