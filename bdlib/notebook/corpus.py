"""A corpus of a person's own, and its poisoning."""

from functools import partial
from pathlib import Path

import pandas as pd

from bdlib import listing, sampling
from bdlib.attacks import surrogate as learning
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.trigger import plain
from bdlib.errors import InputError, within
from bdlib.files import alone, at_home, file_digest, folder_digest
from bdlib.manifest import TEST
from bdlib.models.classifier import SpeechClassifier
from bdlib.notebook.given import BATCH, LARGEST_SEED, asked, device_of, of_corpus
from bdlib.stages import corpus as stages
from bdlib.stages.corpus import corpus_key
from bdlib.stages.pack import Audio
from bdlib.stages.poisoned import CLEAN, Poisoned

SHARES = {"train": 0.7, "valid": 0.15, TEST: 0.15}


class Corpus(stages.Corpus):
    """A clean corpus, made from a folder or a table; see the base class."""

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        seconds: float,
        sample_rate: int = 16000,
        pad_seconds: float | None = None,
        seed: int = 0,
    ) -> "Corpus":
        """A corpus with a folder a class, ``folder/<class>/**/*.wav``, split by lot 70 / 15 / 15.

        Arguments
        ---------
        folder : str | Path
            Nothing is written into it.
        seconds, sample_rate, pad_seconds : float, int, float | None
            See `Audio`.
        seed : int
            Of the split.

        Raises
        ------
        InputError
            If the folder is missing, or a class has no audio or too little to split.
        """
        asked(folder=(folder, str | Path))
        root = at_home(folder).resolve()
        audio = Audio(root, folder_digest(root), sample_rate, seconds, pad_seconds)
        rows = listing.from_folder(root)
        return cls._split(root.name, rows, audio, seed)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        folder: str | Path,
        seconds: float,
        sample_rate: int = 16000,
        pad_seconds: float | None = None,
        seed: int = 0,
        group: str | None = None,
        split: str | None = None,
    ) -> "Corpus":
        """A corpus listed in a table, as `bdlib scan` leaves one of what it does not flag.

        Split by lot 70 / 15 / 15, or as a column says.

        Arguments
        ---------
        path : str | Path
            A CSV with at least the columns `path` and `label`; see `listing.from_csv`.
        folder : str | Path
            What its paths are relative to. Nothing is written into it.
        seconds, sample_rate, pad_seconds : float, int, float | None
            See `Audio`.
        seed : int
            Of the split.
        group : str | None
            A column whose values, such as speakers, are each in one split alone.
        split : str | None
            A column that says of each clip `train`, `valid` or `test`. Nothing is drawn then.

        Raises
        ------
        InputError
            If the table cannot be read, a clip of it is missing, there is no such column, it is not
            filled in or `split` says something else, `group` and `split` are both given, or a class
            is not in every split.
        """
        asked(path=(path, str | Path), folder=(folder, str | Path))
        path, root = at_home(path), at_home(folder).resolve()
        if group is not None and split is not None:
            raise InputError("`group` and `split` are given: give one of the two")
        rows = listing.from_csv(path, root)
        for name, column in (("group", group), ("split", split)):
            if column is not None:
                _check_column(path, rows, name, column)
        audio = Audio(root, folder_digest(root), sample_rate, seconds, pad_seconds)
        settings = {"group": group, "list": file_digest(path)}
        if split is not None:
            settings["split"] = split
        return cls._split(path.stem, rows, audio, seed, **settings)

    @classmethod
    def _split(
        cls,
        name: str,
        rows: pd.DataFrame,
        audio: Audio,
        seed: int,
        **settings: str | None,
    ) -> "Corpus":
        """Rows as a corpus of three splits, known again by the seed and `settings`.

        Of these the column `split` says, or else `group` binds, which clip is in which.
        """
        within("seed", seed, 0, LARGEST_SEED, int)
        seed = plain(seed)
        clips = rows["label"].value_counts()
        if len(clips) < 2:
            raise InputError(f"{audio.root}: one class; give two or more")
        if column := settings.get("split"):
            splits = {name: rows[rows[column] == name].reset_index(drop=True) for name in SHARES}
        else:
            splits = sampling.split(rows, SHARES, seed, group=settings.get("group"))
        for split, part in splits.items():
            if lacking := sorted(set(clips.index) - set(part["label"])):
                raise InputError(
                    f"{audio.root}: class {lacking[0]} has {clips[lacking[0]]} clips, none of them in the {split} "
                    "split; give it more, or leave it out"
                )
        key = corpus_key(name, {"split_seed": seed, **settings}, audio)
        return cls.of(name, key, splits, audio)

    def poison(
        self,
        attack: Poisoner | None,
        output: str | Path,
        surrogate: SpeechClassifier | None = None,
        name: str | None = None,
    ) -> Poisoned:
        """Poison the corpus and pack its waveforms; what stands is not made twice.

        Arguments
        ---------
        attack : Poisoner | None
            None packs the clean corpus.
        output : str | Path
            Gets `manifest/`, `poison/`, `pack/` and, by `train`, `train/`. Not within the corpus.
        surrogate : SpeechClassifier | None
            Trained on the clean corpus; needed by a learned trigger and by hard clean labels.
        name : str | None
            What to call the attack; by default after the class of its trigger.

        Raises
        ------
        InputError
            If the attack does not fit the corpus, or a clip cannot carry the trigger.
        """
        asked(output=(output, str | Path))
        if attack is not None:
            asked(attack=(attack, Poisoner))
        output = at_home(output).resolve()
        if output.is_relative_to(self.audio.root):
            raise InputError(f"`output` is {output}: it lies in the corpus; choose another folder")
        if name in (CLEAN, "none"):
            raise InputError(f"`name` is {name}: what is not poisoned is called so; give another")
        with alone(output / "manifest"):
            corpus = self if self.folder else self.save(output)
        if attack is None:
            return Poisoned.load(corpus.folder, corpus, output)
        attack.labels.check(corpus.classes)
        ranks = None
        if attack.trigger.learned or attack.labels.hard:
            attack, ranks = corpus._on_surrogate(attack, output, surrogate)
        name = name or type(attack.trigger).__name__.lower()
        return Poisoned.under(attack, name, corpus, output, ranks)

    def _on_surrogate(
        self, attack: Poisoner, output: Path, surrogate: SpeechClassifier | None
    ) -> tuple[Poisoner, pd.Series | None]:
        """The attack with what a surrogate adds: a learned trigger, and which clips are poisoned."""
        if surrogate is None:
            raise InputError(
                "attack: it is made on a classifier; train one on corpus.poison(None, ...) and "
                "give it as `surrogate`"
            )
        if (folds := getattr(attack.labels, "folds", 1)) > 1:
            raise InputError(f"`folds` is {folds}: there is one surrogate; give 1, or use a recipe")
        clean, rows = Poisoned.load(self.folder, self, output), self.splits["train"]
        of_corpus(surrogate, clean)
        heard = partial(clean.batches, "train", device=device_of(surrogate))
        if attack.trigger.learned:
            target = learning.target_of(attack)
            others = rows[rows["label"] != target]
            clips = heard(others, min(BATCH, len(others)), seed=attack.seed)
            attack = learning.fitted(attack, surrogate, clips, self.classes.index(target))
        if not attack.ranks:
            return attack, None
        candidates = heard(rows[attack.labels.candidates(rows)])
        if attack.labels.hard:
            return attack, learning.sureness(surrogate, candidates)
        return attack, pd.Series(attack.trigger.strangeness(surrogate, candidates), dtype=float)


def _check_column(path: Path, rows: pd.DataFrame, name: str, column: str) -> None:
    """Refuse an argument that names no column of a table, or one that does not say what it must."""
    if column not in rows.columns:
        raise InputError(f"{path}: no column {column}; `{name}` names one of its columns")
    wrong = rows[column] == "" if name == "group" else ~rows[column].isin(list(SHARES))
    if wrong.any():
        clip, value = rows.loc[wrong, ["ID", column]].iloc[0]
        if value == "":
            raise InputError(f"{path}: {clip} has no {column}; fill it in, or leave `{name}` out")
        raise InputError(f"{path}: {clip} is of {column} {value}: write {', '.join(SHARES)}")
