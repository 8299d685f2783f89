"""What the second and third stage leave: a corpus as the defender gets it, on the disk and at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bdlib import manifest
from bdlib.attacks import folder as attack_folder
from bdlib.attacks.poisoner import Poisoner
from bdlib.errors import InputError
from bdlib.manifest import SPLITS, TEST, TRIGGERED
from bdlib.pack import Pack
from bdlib.stages.corpus import Corpus
from bdlib.stages.pack import Triggers, pack

if TYPE_CHECKING:  # torch takes seconds to import, and much is done without
    from bdlib.corpus import Batches

CLEAN = "clean"
"""What a training set is called that nothing was poisoned in."""


@dataclass(frozen=True, eq=False)
class Poisoned:
    """A corpus as the defender gets it (stages 2 and 3).

    Arguments
    ---------
    folder : Path
        Holds a csv a split; under attack also `test_triggered.csv`, `attack.json`, `truth.csv`.
    corpus : Corpus
        What it was made from.
    output : Path
        The folder for everything a run makes.
    attack : dict[str, Any] | None
        What `attack.json` says; None for a clean corpus.
    splits : Mapping[str, pd.DataFrame]
        Rows of `train`, `valid`, `test` and, under attack, `test_triggered`, as a defender sees
        them.
    packs : Mapping[str, Pack]
        Their waveforms, triggers applied.
    held_out : pd.DataFrame | None
        Clean training clips that are trained on by nobody and stand in no split; None for none.
    """

    folder: Path
    corpus: Corpus
    output: Path
    attack: dict[str, Any] | None
    splits: Mapping[str, pd.DataFrame]
    packs: Mapping[str, Pack]
    held_out: pd.DataFrame | None = None

    def __repr__(self) -> str:
        return f"{self.corpus!r}; attack: {self.attack_name}, in {self.folder}"

    @classmethod
    def load(cls, folder: Path, corpus: Corpus, output: Path) -> "Poisoned":
        """Read what the poison stage wrote, or take a clean corpus as it is; and pack it."""
        attack, splits = None, dict(corpus.splits)
        if folder != corpus.folder:
            names = (*SPLITS, TRIGGERED)
            splits = {s: manifest.read(folder / f"{s}.csv", corpus.classes) for s in names}
            attack, poisoner = attack_folder.read(folder, [f"{s}.csv" for s in names])
        if attack is None or not poisoner.trigger.alters:  # the packs of the clean corpus do
            packs = {
                split: pack(corpus.folder / f"{split}.csv", rows, corpus.audio, output)
                for split, rows in corpus.splits.items()
            }
            if attack:
                packs[TRIGGERED] = packs[TEST]
                asked = splits[TRIGGERED]
                if not asked["ID"].isin(corpus.splits[TEST]["ID"]).all():  # of other sets, too
                    path = folder / f"{TRIGGERED}.csv"
                    packs[TRIGGERED] = pack(path, asked, corpus.audio, output)
        else:
            packs, altered = {}, ("train", TRIGGERED) if attack["poisoned"] else (TRIGGERED,)
            for split, rows in splits.items():
                triggers = Triggers(attack, split, partial(_triggered, folder, attack, split))
                packs[split] = pack(
                    folder / f"{split}.csv",
                    *(rows, corpus.audio, output),
                    triggers if split in altered else None,
                )
        blind = {split: manifest.blind(rows) for split, rows in splits.items()}
        return cls(folder, corpus, output, attack, blind, packs)

    @classmethod
    def under(
        cls,
        attack: Poisoner,
        name: str,
        corpus: Corpus,
        output: Path,
        ranks: pd.Series | None = None,
    ) -> "Poisoned":
        """A saved corpus under an attack that has learned what it needs.

        Arguments
        ---------
        attack : Poisoner
            The attack.
        name : str
            What it is called.
        corpus : Corpus
            What it poisons.
        output : Path
            Gets `poison/` and `pack/`.
        ranks : pd.Series | None
            See `Poisoner.poison`.
        """
        folder = attack_folder.ensure(
            *(attack, name, corpus.splits, corpus.about, corpus.audio.sample_rate),
            *(output / "poison", ranks),
        )
        poisoned = cls.load(folder, corpus, output)
        if unheard := poisoned.unheard():
            print(
                f"note: {unheard} of {len(poisoned.pairs)} triggered test clips sound as without the trigger: it lies "
                f"outside of their middle {corpus.audio.seconds:g} s, which are heard; move it, or give more `seconds`"
            )
        return poisoned

    @property
    def classes(self) -> tuple[str, ...]:
        """Class order, by name."""
        return self.corpus.classes

    @property
    def attack_name(self) -> str:
        """Name of the attack, or `CLEAN`."""
        return self.attack["name"] if self.attack else CLEAN

    @property
    def trained_on(self) -> str:
        """Name of what is in the training set; one clean twin serves all triggers at test time."""
        return self.attack_name if self.attack and self.attack["poisoned"] else CLEAN

    @property
    def tests(self) -> tuple[str, ...]:
        """The test sets: the clean one and, under attack, the triggered one."""
        return (TEST, TRIGGERED) if self.attack else (TEST,)

    @property
    def alters_audio(self) -> bool:
        """Whether there is an attack whose trigger changes waveforms."""
        return self.attack is not None and Poisoner.from_dict(self.attack).trigger.alters

    @property
    def pairs(self) -> list[str]:
        """IDs of the test clips that are there as they were, and with a trigger in their audio.

        None where what triggers is an attribute, too: clips with it are in no clean set.
        """
        if not self.alters_audio:
            return []
        asked = self.splits[TRIGGERED]["ID"]
        return asked[asked.isin(self.splits[TEST]["ID"])].tolist()

    def unheard(self) -> int:
        """Of how many of `pairs` the trigger lies outside of the middle `seconds`, which a classifier hears."""
        audio = self.corpus.audio
        most = round(audio.seconds * audio.sample_rate)

        def hidden(name: str) -> bool:
            clean, altered = (self.packs[split].pcm(name) for split in (TEST, TRIGGERED))
            start = (len(clean) - most) // 2
            if start <= 0:  # all of it is heard
                return False
            heard = slice(start, start + most)
            silent = np.array_equal(clean[heard], altered[heard])
            return silent and not np.array_equal(clean, altered)  # else it is too faint anywhere

        return sum(map(hidden, self.pairs))

    def truth(self) -> pd.DataFrame:
        """What is poisoned (`manifest.read_truth`); for evaluation and oracles only."""
        return read_truth(self.folder, self.attack)

    def batches(
        self,
        split: str,
        rows: pd.DataFrame | None = None,
        batch_size: int = 64,
        device: str = "cpu",
        seed: int | None = None,
        pack: Pack | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> "Batches":
        """Batches of a split.

        Arguments
        ---------
        split : str
            One of `splits`.
        rows : pd.DataFrame | None
            Some of its rows; None takes all.
        batch_size, device, seed, shard : int, str, int | None, tuple[int, int]
            See `Batches`; with a seed they are drawn for training.
        pack : Pack | None
            The waveforms under other names.
        """
        from bdlib.corpus import Batches

        rows = self.splits[split] if rows is None else rows
        seconds = self.corpus.audio.seconds
        return Batches(
            *(pack or self.packs[split], rows, self.classes, batch_size, seconds),
            *(seed, device, shard),
        )


def read_truth(folder: Path, attack: dict[str, Any]) -> pd.DataFrame:
    """The truth beside an `attack.json` with which it agrees.

    Raises
    ------
    InputError
        If it is missing, broken, of another length, or not as it was written.
    """
    path = folder / "truth.csv"
    truth, expected = manifest.read_truth(path), attack["poisoned"] + attack["eligible"]
    if len(truth) != expected:
        raise InputError(
            f"{path}: {len(truth)} rows, attack.json counts {expected}; delete its folder, "
            "and the next run poisons again"
        )
    attack_folder.read(folder, [path.name])
    return truth


def _triggered(folder: Path, attack: dict[str, Any], split: str) -> frozenset[str]:
    """IDs of the clips of a split that get the trigger."""
    truth = read_truth(folder, attack)
    return frozenset(truth.index[truth["triggered"] & (truth["split"] == split)])
