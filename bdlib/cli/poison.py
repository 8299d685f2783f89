"""Stages 2 and 3: manifests and an attack to poisoned manifests, the truth, and packs."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bdlib import manifest
from bdlib.attacks.poisoner import Poisoner
from bdlib.cli import command, prepare
from bdlib.cli.command import Command
from bdlib.cli.export import TRIGGERED, export
from bdlib.cli.prepare import SPLITS, Manifests
from bdlib.errors import InputError
from bdlib.evaluation.metrics import read_truth
from bdlib.files import alone, atomic, digest, file_digest, read_json, write_json
from bdlib.pack import Pack, pack
from bdlib.records import figure

CLEAN = "test"
ATTACK = ("name", "trigger", "labels", "rate", "of", "seed", "poisoned", "eligible")


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


def ensure(asked: Command, clean: Manifests, output: Path) -> Poisoned:
    """Poison manifests, unless that was done with the same attack."""
    if asked.attack is None:
        return Poisoned(clean.folder, clean, None)
    poisoner = _poisoner(asked, clean.about["classes"])
    name = asked.recipe.plain()["poison"]["attack"]
    heard = _heard(poisoner, asked.recipe.plain()["corpus"]["sample_rate"])
    key = digest([clean.about["digest"], clean.about["fingerprint"], poisoner.to_dict(), heard], 8)
    folder = output / "poison" / f"{Path(name).stem}-{key}"
    with alone(folder.parent):
        if not (folder / "attack.json").exists():
            with atomic(folder) as temporary:
                temporary.mkdir()
                _write(poisoner, Path(name).stem, heard, clean, temporary)
    attack = read_json(folder / "attack.json", ATTACK)
    try:
        Poisoner.from_dict(attack)
    except (InputError, TypeError) as error:
        raise InputError(
            f"{folder / 'attack.json'}: {error}; delete it, and the next run poisons again"
        ) from error
    return Poisoned(folder, clean, attack)


def _poisoner(asked: Command, classes: list[str]) -> Poisoner:
    poison = asked.recipe.plain()["poison"]
    policy = asked.labels.build()["policy"]
    # A class may be called 5, which yaml takes for a number.
    source, target = (None if poison[k] is None else str(poison[k]) for k in ("source", "target"))
    known = {"source": source, "target_class": target, "classes": classes}
    wanted = [field.name for field in dataclasses.fields(policy)]
    policy = policy(**{name: known[name] for name in wanted})
    policy.check(classes)
    trigger = asked.attack.build()["trigger"]
    return Poisoner(trigger, policy, poison["rate"], poison["of"], poison["poison_seed"])


def _heard(poisoner: Poisoner, rate: int) -> str:
    """Digest of what the trigger does to ten seconds of noise: a sound file may change in place."""
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(10 * rate) / 10
    altered = poisoner.apply(noise.astype(np.float32), rate, "heard", "heard")
    return digest(np.rint(altered * 4096).astype(int).tolist())


def _write(poisoner: Poisoner, name: str, heard: str, clean: Manifests, folder: Path) -> None:
    poisoned, train_truth = poisoner.poison(clean.rows("train"))
    triggered, test_truth = poisoner.trigger_test(clean.rows("test"))
    parts = {
        # An attribute, such as the speaker, may tell what the label was before.
        "train": poisoned[list(manifest.COLUMNS)],
        "valid": clean.rows("valid"),
        "test": clean.rows("test"),
        TRIGGERED: triggered,
    }
    for split, rows in parts.items():
        manifest.write(rows, folder / f"{split}.csv")
    truth = pd.concat([train_truth, test_truth])
    truth.to_csv(folder / "truth.csv", index=False, lineterminator="\n")
    about = {
        "schema": 1,
        "name": name,
        **poisoner.to_dict(),
        "heard": heard,
        "dataset_digest": clean.about["digest"],
        "poisoned": len(train_truth),
        "eligible": len(test_truth),
    }
    write_json(folder / "attack.json", about)


def packed(poisoned: Poisoned, split: str, corpus: dict[str, Any], output: Path) -> Pack:
    """The waveforms of a split, triggers applied, packed once.

    Clean splits are shared by all attacks on the same corpus.
    """
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


def picture(poisoned: Poisoned, corpus: dict[str, Any], output: Path) -> Path | None:
    """Draw one test clip with and without the trigger; None for a clean corpus."""
    if poisoned.attack is None:
        return None
    path = poisoned.folder / "attack.png"
    if not path.exists():
        name = poisoned.rows(TRIGGERED)["ID"].iloc[0]
        before = packed(poisoned, "test", corpus, output).waveform(name)
        after = packed(poisoned, TRIGGERED, corpus, output).waveform(name)
        title = f"{poisoned.attack['name']} on {name}"
        figure.attack_figure(before, after, corpus["sample_rate"], path, title)
    return path


def main(prepare_corpus: prepare.Prepare) -> None:
    """``poison.py``: poisoned manifests, the truth, the packs and a picture of the attack."""

    def run() -> None:
        options = command.parser("Poison a corpus and pack its waveforms (stages 1 to 3).")
        options.add_argument(
            "--export",
            type=Path,
            metavar="FOLDER",
            help="also write it as WAV files to a new folder",
        )
        asked = command.read(sys.argv[1:], options)
        settings = asked.recipe.plain()
        output, corpus = Path(settings["run"]["output_folder"]), settings["corpus"]
        root = prepare.corpus_folder(settings["run"]["data_folder"], corpus["name"], output)
        poisoned = ensure(asked, prepare.ensure(prepare_corpus, corpus, root, output), output)
        for split in [*SPLITS, *([TRIGGERED] if poisoned.attack else [])]:
            waveforms = packed(poisoned, split, corpus, output)
            print(f"{split:15}{len(waveforms.ids):7} clips at {waveforms.rate} Hz")
        if poisoned.attack:
            print(f"{poisoned.attack['poisoned']} training clips are poisoned: {poisoned.folder}")
            print(f"picture: {picture(poisoned, corpus, output)}")
        if asked.extra.export:
            splits = [*SPLITS, *([TRIGGERED] if poisoned.attack else [])]
            parts = {n: (poisoned.rows(n), packed(poisoned, n, corpus, output)) for n in splits}
            export(parts, asked.extra.export)

    command.guarded(run)
