"""What the first stages leave: a corpus, clean or poisoned, on the disk and at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bdlib import listing, manifest
from bdlib.attacks import folder as attack_folder
from bdlib.attacks.poisoner import Poisoner
from bdlib.errors import InputError
from bdlib.files import atomic, digest, file_digest, plain_name, read_json
from bdlib.manifest import SPLITS, TEST, TRIGGERED
from bdlib.pack import Pack
from bdlib.seals import unsealed, write_sealed
from bdlib.stages.pack import Audio, Triggers, pack

if TYPE_CHECKING:  # torch takes seconds to import, and much is done without
    from bdlib.corpus import Batches

ABOUT = {
    **{"name": str, "variant": str | None, "scale": str, "digest": str, "classes": list[str]},
    **{"counts": dict[str, int], "classes_of": dict[str, dict[str, int]], "notes": list[str]},
    "fingerprint": str,
}
"""Keys of `manifest.json`, with their types."""

CLEAN = "clean"
"""What a training set is called that nothing was poisoned in."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """A clean corpus (stage 1).

    Arguments
    ---------
    key : str
        Digest of what its rows were chosen by; with its name, the folder of its manifests.
    about : dict[str, Any]
        `name`, `variant`, `scale`, `classes`, `counts` and the like; once saved also `digest`.
    splits : Mapping[str, pd.DataFrame]
        Validated rows of `train`, `valid` and `test`.
    audio : Audio
        Where its clips are, and how they become waveforms.
    folder : Path | None
        Holds `train.csv`, `valid.csv`, `test.csv` and `manifest.json`; None before `save`.
    """

    key: str
    about: dict[str, Any]
    splits: Mapping[str, pd.DataFrame]
    audio: Audio
    folder: Path | None = None

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(rows)} {split}" for split, rows in self.splits.items())
        return f"{self.about['name']}: {len(self.classes)} classes, clips: {counts}"

    @classmethod
    def of(
        cls,
        name: str,
        key: str,
        splits: Mapping[str, pd.DataFrame],
        audio: Audio,
        scale: str = "subset",
        variant: str = "all",
        notes: Sequence[str] = (),
    ) -> "Corpus":
        """A corpus from rows.

        Raises
        ------
        InputError
            If rows are not valid, or a split has a class that training has not.
        """
        classes = sorted(set(splits["train"]["label"]))
        for split, rows in splits.items():
            manifest.validate(rows, f"{name} {split}", classes)
        about = {
            "name": name,
            "variant": variant,
            "scale": scale,
            "classes": classes,
            "counts": {split: len(rows) for split, rows in splits.items()},
            "classes_of": {
                split: rows["label"].value_counts().to_dict() for split, rows in splits.items()
            },
            "notes": list(notes),
            "fingerprint": audio.fingerprint,
        }
        return cls(key, about, splits, audio)

    @classmethod
    def load(cls, folder: Path, key: str, audio: Audio) -> "Corpus":
        """The corpus whose manifests `save` wrote; they are read and validated here, once."""
        path, files = folder / "manifest.json", {s: folder / f"{s}.csv" for s in SPLITS}
        about = read_json(path, ABOUT)
        plain_name(about["name"], f"{path}: name")
        splits = {split: manifest.read(file, about["classes"]) for split, file in files.items()}
        return cls(key, unsealed(path, about, files.values()), splits, audio, folder)

    def save(self, output: str | Path) -> "Corpus":
        """The same corpus with its manifests below ``output/manifest``, where they stay."""
        folder = manifest_folder(Path(output), self.about["name"], self.key)
        if not (folder / "manifest.json").exists():
            with atomic(folder) as temporary:
                temporary.mkdir()
                files = [temporary / f"{split}.csv" for split in SPLITS]
                for split, file in zip(SPLITS, files, strict=True):
                    manifest.write(self.splits[split], file)
                about = self.about | {"digest": file_digest(*files)}
                about = {key: about[key] for key in ABOUT}
                write_sealed(temporary / "manifest.json", about, files)
        return self.load(folder, self.key, self.audio)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class order, by name."""
        return tuple(self.about["classes"])

    def audio_digest(self) -> str:
        """Digest of the audio files of all splits, byte for byte; read once, and kept beside them.

        Raises
        ------
        InputError
            If one cannot be read.
        """
        path = self.folder / "audio.json"
        if not path.exists():
            names = {name for rows in self.splits.values() for name in rows["wav"]}
            write_sealed(path, {"digest": listing.audio_digest(names, self.audio.root)})
        return unsealed(path, read_json(path, {"digest": str}))["digest"]

    def poisoned(
        self, attack: Poisoner, name: str, output: Path, ranks: pd.Series | None = None
    ) -> "Poisoned":
        """The saved corpus under an attack that has learned what it needs (stages 2 and 3).

        Arguments
        ---------
        attack : Poisoner
            The attack.
        name : str
            What it is called.
        output : Path
            Gets `poison/` and `pack/`.
        ranks : pd.Series | None
            See `Poisoner.poison`.
        """
        folder = attack_folder.ensure(
            *(attack, name, self.splits, self.about, self.audio.sample_rate, output / "poison"),
            ranks,
        )
        poisoned = Poisoned.load(folder, self, output)
        if unheard := poisoned.unheard():
            print(
                f"note: {unheard} of {len(poisoned.pairs)} triggered test clips sound as without the trigger: it lies "
                f"outside of their middle {self.audio.seconds:g} s, which are heard; move it, or give more `seconds`"
            )
        return poisoned


def corpus_key(name: str, settings: Mapping[str, Any], audio: Audio) -> str:
    """Digest by which the manifests of a corpus are recognised."""
    return digest([name, dict(settings), audio.fingerprint], 8)


def manifest_folder(output: Path, name: str, key: str) -> Path:
    """Where the manifests of a corpus go."""
    return output / "manifest" / f"{plain_name(name, 'the name of the corpus')}-{key}"


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
