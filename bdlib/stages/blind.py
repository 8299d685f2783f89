"""What a defender is shown of a poisoned corpus: rows and waveforms under aliases, and clean clips."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bdlib import manifest, sampling
from bdlib.corpus import Batches
from bdlib.defenses.base import BlindView, CleanData, FilterDefense, OracleFilter
from bdlib.errors import InputError
from bdlib.files import digest
from bdlib.models.classifier import SpeechClassifier
from bdlib.pack import Pack
from bdlib.sampling import rank
from bdlib.stages.corpus import Poisoned
from bdlib.stages.pack import pack


@dataclass(frozen=True)
class Blinded:
    """The training set as a defense sees it.

    Names and attributes give away what an utterance was before (left/..., word=backward).

    Arguments
    ---------
    rows : pd.DataFrame
        Aliases, durations and labels.
    pack : Pack
        Waveforms by alias.
    names : Mapping[str, str]
        The names behind the aliases.
    """

    rows: pd.DataFrame
    pack: Pack
    names: Mapping[str, str]

    @classmethod
    def of(cls, poisoned: Poisoned) -> "Blinded":
        """That of a poisoned corpus."""
        rows, pack = poisoned.splits["train"], poisoned.packs["train"]
        alias = {name: f"u{n:07}" for n, name in enumerate(rank(pack.ids, 0, "alias"))}
        shown = rows.assign(ID=rows["ID"].map(alias)).sort_values("ID", ignore_index=True)
        pack = replace(pack, ids=[alias[name] for name in pack.ids])
        names = {alias: name for name, alias in alias.items()}
        return cls(shown[["ID", "duration", "label"]], pack, names)

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
            lambda: poisoned.batches("valid", None, size, device),
            lambda share: self.clean_data(poisoned, share),
            lambda rows: poisoned.batches("train", rows, size, device, pack=blinded.pack),
            poisoned.output / "filters",
            dict(self.options),
        )

    def clean_data(self, poisoned: Poisoned, share: float) -> CleanData:
        """The clean budget: a share of every class of the training set, and the validation set.

        Raises
        ------
        InputError
            If the share is not within [0, 1].
        """
        if not 0 <= share <= 1:
            raise InputError(f"`clean_share` is {share}: give a share of the training set, 0 to 1")
        rows = sampling.share(poisoned.benign("train"), share, self.seed)
        corpus = poisoned.corpus
        made_of = [list(rows["ID"]), corpus.about["digest"]]
        csv = poisoned.output / "budget" / digest(made_of) / "train.csv"

        def train(batch_size: int) -> Batches:
            manifest.write(rows, csv)
            waveforms = pack(csv, rows, corpus.audio, poisoned.output)
            size = min(batch_size, len(rows))
            return poisoned.batches("train", rows, size, self.device, self.seed, waveforms)

        def validation() -> Batches:
            return poisoned.batches("valid", None, self.batch_size, self.device)

        return CleanData(train, validation, len(rows), self.seed)
