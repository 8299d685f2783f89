"""What a defender is shown of a poisoned corpus: rows and waveforms under aliases, and clean clips.

Nothing shown may tell what is poisoned but the audio and the labels themselves: no name, no order,
no length before padding, no clean twin of a poisoned clip. That labels can be counted is no leak: an
attack with dirty labels moves clips into its target class, and whoever has the data sees how large a
class is. Only where `max_per_class` cut all classes alike, which is done before the poison, is the
target the one above the rest; in the world classes differ anyway, so no defense here takes its size
for a sign.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bdlib.corpus import Batches
from bdlib.defenses.base import BlindView, CleanData, FilterDefense, OracleFilter
from bdlib.errors import InputError
from bdlib.files import alone, digest
from bdlib.models.classifier import SpeechClassifier
from bdlib.pack import Pack, reordered
from bdlib.sampling import rank
from bdlib.stages.pack import pack
from bdlib.stages.poisoned import Poisoned


def aliases(names: Iterable[str]) -> dict[str, str]:
    """Alias to name, in the order of the aliases.

    Names give away what an utterance was before (left/..., word=backward), and so does their order.
    This one is by a hash, the same on every machine.
    """
    return {f"u{n:07}": name for n, name in enumerate(rank(names, 0, "alias"))}


def unnamed(
    poisoned: Poisoned,
    split: str,
    rows: pd.DataFrame | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    seed: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Batches:
    """`Poisoned.batches` under aliases, in the same order: for trainings, and clips known as clean.

    What is drawn for training is in no order, so that its rows need none of their own.
    """
    rows = poisoned.splits[split] if rows is None else rows
    alias = {name: alias for alias, name in aliases(rows["ID"]).items()}
    waveforms = poisoned.packs[split]
    waveforms = replace(waveforms, ids=[alias.get(name, "") for name in waveforms.ids], silent=[])
    rows = rows.assign(ID=rows["ID"].map(alias))
    return poisoned.batches(split, rows, batch_size, device, seed, waveforms, shard)


@dataclass(frozen=True)
class Blinded:
    """The training set as a defense sees it, in the order of its aliases.

    Arguments
    ---------
    rows : pd.DataFrame
        Aliases, durations as packed, and labels.
    pack : Pack
        Waveforms by alias, a copy below ``output/blind``.
    names : Mapping[str, str]
        The names behind the aliases.
    """

    rows: pd.DataFrame
    pack: Pack
    names: Mapping[str, str]

    @classmethod
    def of(cls, poisoned: Poisoned) -> "Blinded":
        """That of a poisoned corpus."""
        rows, heard = poisoned.splits["train"], poisoned.packs["train"]
        names = aliases(rows["ID"])
        folder = poisoned.output / "blind" / digest([heard.digest, list(names.values())])
        with alone(folder.parent):
            stands = (folder / "pack.json").exists()
            copy = Pack.open(folder) if stands else reordered(heard, names, folder)
        labels = rows.set_index("ID")["label"][list(names.values())].to_numpy()
        seconds = np.diff(copy.offsets) / copy.rate
        shown = pd.DataFrame({"ID": list(names), "duration": seconds, "label": labels})
        return cls(shown, replace(copy, digest=heard.digest), names)

    def reveal(self, defense: FilterDefense, poisoned: Poisoned) -> None:
        """Tell a control which utterances are poisoned; a defense is told nothing."""
        if isinstance(defense, OracleFilter) and poisoned.attack:
            truth, alias = poisoned.truth(), {name: alias for alias, name in self.names.items()}
            defense.reveal([alias[name] for name in truth.index[truth["split"] == "train"]])

    def behind(self, rows: pd.DataFrame, aliases: pd.Series) -> pd.DataFrame:
        """The rows, of the training set under their own names, that bear these aliases here."""
        chosen = rows["ID"].isin({self.names[alias] for alias in aliases})
        return rows[chosen].reset_index(drop=True)


@dataclass(frozen=True)
class Defender:
    """How a defender computes: seed, batches, SpeechBrain's run options.

    Arguments
    ---------
    seed : int
        Of what it draws.
    batch_size : int
        Of clips that are not trained on.
    options : Mapping[str, Any]
        All of SpeechBrain's run options, the device among them.
    """

    seed: int
    batch_size: int
    options: Mapping[str, Any]

    @property
    def device(self) -> str:
        """Where it computes."""
        return self.options["device"]

    def view(
        self,
        poisoned: Poisoned,
        blinded: Blinded,
        train: Callable[[pd.DataFrame], SpeechClassifier],
    ) -> BlindView:
        """All that a filter may look at; `train` takes rows of the blinded training set."""
        size, device = self.batch_size, self.device
        return BlindView(
            blinded.rows,
            blinded.pack,
            poisoned.classes,
            self.seed,
            train,
            lambda: self.validation(poisoned),
            lambda share: self.clean_data(poisoned, share),
            lambda rows: poisoned.batches("train", rows, size, device, pack=blinded.pack),
            poisoned.output / "filters",
            dict(self.options),
        )

    def validation(self, poisoned: Poisoned) -> Batches:
        """The validation set, which nobody poisoned."""
        return unnamed(poisoned, "valid", None, self.batch_size, self.device)

    def budget(self, poisoned: Poisoned, share: float) -> pd.DataFrame:
        """The clean budget: rows of the training set that are as they were recorded.

        This is the part of a training set that a defender recorded himself, and that no adversary
        had in his hands; see `_clean`. Where clips were held out it is drawn from these.

        Raises
        ------
        InputError
            If the share is not within [0, 1], or a class has too few clean clips.
        """
        apart = poisoned.held_out
        rows = poisoned.splits["train"] if apart is None else apart
        return _clean(poisoned, rows, share, self.seed, "clean_share")

    def clean_data(self, poisoned: Poisoned, share: float) -> CleanData:
        """The clean budget and the validation set, as a defense gets them; see `budget`."""
        rows = self.budget(poisoned, share)

        def train(batch_size: int) -> Batches:
            size = min(batch_size, len(rows))
            return unnamed(poisoned, "train", rows, size, self.device, self.seed)

        return CleanData(train, lambda: self.validation(poisoned), len(rows), self.seed)


def hold_out(poisoned: Poisoned, share: float, seed: int) -> Poisoned:
    """Keep clean clips of the training set apart, as a defender's own recordings are.

    A budget that was trained on is classified right already, which makes a repair harder than in
    the world, where the clean clips are others. These leave the training set after it was
    poisoned: of what remains a larger share is poisoned than `rate` says.

    Arguments
    ---------
    poisoned : Poisoned
        With its whole training set.
    share : float
        Of that, as many clips of each class.
    seed : int
        Of the training; the budget of a repair is drawn by it, too.

    Raises
    ------
    InputError
        If the share is not within [0, 1), or a class has too few clean clips.
    """
    if not 0 <= share < 1:
        raise InputError(f"`held_out` is {share}: give a share of the training set, below 1")
    rows = poisoned.splits["train"]
    apart = _clean(poisoned, rows, share, seed, "held_out")
    rest = rows[~rows["ID"].isin(apart["ID"])].reset_index(drop=True)
    if len({*rest["label"]}) < len({*rows["label"]}):
        raise InputError(
            f"`held_out` is {share}: leaves a class without clips; give a smaller share"
        )
    return replace(poisoned, splits={**poisoned.splits, "train": rest}, held_out=apart)


def _clean(
    poisoned: Poisoned, rows: pd.DataFrame, share: float, seed: int, name: str
) -> pd.DataFrame:
    """Some of these rows, all as recorded, this share of the whole training set.

    They hold no original of a poisoned clip, which would point at its copy. Of each class there is
    the same number, rounded up: a share of the clean clips of a class would tell how many of the
    others are poisoned. Which clips are as recorded is seen beside the clean corpus; nobody is asked
    for the truth. Those of a smaller share are among those of a larger one.
    """
    if not 0 <= share <= 1:
        raise InputError(f"`{name}` is {share}: give a share of the training set, 0 to 1")
    apart = 0 if poisoned.held_out is None else len(poisoned.held_out)
    whole, chosen = len(poisoned.splits["train"]) + apart, []
    count = math.ceil(share * whole / rows["label"].nunique())
    untouched = _as_recorded(poisoned, rows) if share else None
    for label, group in rows.groupby("label", sort=True):
        order = rank(group["ID"], seed, "share")
        drawn = list(itertools.islice(filter(untouched, order), count))
        if len(drawn) < count:
            raise InputError(
                f"`{name}` is {share}: needs {count} clean clips of {label}, there are "
                f"{len(drawn)}; give a smaller share"
            )
        chosen += drawn
    return rows[rows["ID"].isin(chosen)].reset_index(drop=True)


def _as_recorded(poisoned: Poisoned, rows: pd.DataFrame) -> Callable[[str], bool]:
    """Tells of training rows, by ID, whether label and samples are those of the clean corpus."""
    corpus, clean = poisoned.corpus, poisoned.corpus.splits["train"]
    recorded = pack(corpus.folder / "train.csv", clean, corpus.audio, poisoned.output)
    heard = poisoned.packs["train"]
    given, true = (part.set_index("ID")["label"] for part in (rows, clean))

    def untouched(name: str) -> bool:
        same = np.array_equal(heard.pcm(name), recorded.pcm(name))
        return same and given[name] == true[name]

    return untouched
