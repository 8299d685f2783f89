"""A poisoned corpus on the disk: its rows, its truth, its waveforms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bdlib import manifest
from bdlib.attacks.poisoner import Poisoner
from bdlib.cli.export import TRIGGERED
from bdlib.cli.prepare import Manifests
from bdlib.errors import InputError
from bdlib.evaluation.metrics import read_truth
from bdlib.files import alone, digest, file_digest
from bdlib.pack import Pack, pack

CLEAN = "test"


@dataclass(frozen=True)
class Poisoned:
    """A corpus as the defender gets it, on the disk.

    Arguments
    ---------
    folder : Path
        Holds a csv a split; under attack also `test_triggered.csv`, `attack.json`, `truth.csv`.
    clean : Manifests
        What it was made from.
    attack : dict[str, Any] | None
        What `attack.json` says; None for a clean corpus.
    """

    folder: Path
    clean: Manifests
    attack: dict[str, Any] | None

    def rows(self, split: str) -> pd.DataFrame:
        """Rows of a split, as the defender sees them."""
        return manifest.blind(
            manifest.read(self.folder / f"{split}.csv", self.clean.about["classes"])
        )

    def benign(self, split: str) -> pd.DataFrame:
        """Clean rows of a split, as they were recorded, without those that trigger by themselves."""
        rows = self.clean.rows(split)
        return rows if self.attack is None else Poisoner.from_dict(self.attack).benign(rows)

    @property
    def audio(self) -> "Poisoned":
        """What the waveforms are packed from: the clean corpus, if the attack alters none."""
        if self.attack is None or Poisoner.from_dict(self.attack).trigger.alters:
            return self
        return Poisoned(self.clean.folder, self.clean, None)

    def truth(self) -> pd.DataFrame:
        """What is poisoned; for evaluation and oracles only."""
        truth, path = read_truth(self.folder / "truth.csv"), self.folder / "truth.csv"
        expected = self.attack["poisoned"] + self.attack["eligible"]
        if len(truth) != expected:
            raise InputError(
                f"{path}: {len(truth)} rows, attack.json counts {expected}; delete its folder, "
                "and the next run poisons again"
            )
        return truth


def packed(poisoned: Poisoned, split: str, corpus: dict[str, Any], output: Path) -> Pack:
    """The waveforms of a split, triggers applied, packed once.

    Clean splits are shared by all attacks on the same corpus, and all splits by attacks that alter
    no audio; these hold clips that are not in the manifest.
    """
    poisoned = poisoned.audio
    if poisoned.attack is None and split == TRIGGERED:
        split = CLEAN
    csv = poisoned.folder / f"{split}.csv"
    attacked = poisoned.attack is not None and split in ("train", TRIGGERED)
    wanted = [
        file_digest(csv),
        poisoned.clean.about["fingerprint"],
        corpus["sample_rate"],
        corpus["pad_seconds"],
    ]
    if attacked:
        wanted += [split, poisoned.attack]
    folder = output / "pack" / digest(wanted)
    with alone(folder.parent):
        if (folder / "pack.json").exists():
            return Pack.open(folder)
        return _pack(poisoned, split, attacked, corpus, folder)


def _pack(
    poisoned: Poisoned, split: str, attacked: bool, corpus: dict[str, Any], folder: Path
) -> Pack:
    alter = None
    if attacked:
        poisoner, truth = Poisoner.from_dict(poisoned.attack), poisoned.truth()
        altered = set(truth.index[(truth["split"] == split) & (truth["triggered"] == "1")])

        def alter(name: str, waveform: np.ndarray) -> np.ndarray:
            if name not in altered:
                return waveform
            return poisoner.apply(waveform, corpus["sample_rate"], split, name)

    rows = manifest.read(poisoned.folder / f"{split}.csv", poisoned.clean.about["classes"])
    made = pack(
        rows, poisoned.clean.root, folder, corpus["sample_rate"], corpus["pad_seconds"], alter
    )
    if made.silent:
        print(f"note: {len(made.silent)} silent clips in {split}, such as {made.silent[0]}")
    return made
