"""Stages 2 and 3: manifests and an attack to poisoned manifests, the truth, and packs."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bdlib import manifest
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.trigger import LearnedTrigger
from bdlib.cli import command, prepare
from bdlib.cli.command import Command
from bdlib.cli.export import TRIGGERED, export
from bdlib.cli.poisoned import CLEAN, Poisoned, packed
from bdlib.cli.prepare import SPLITS, Manifests
from bdlib.errors import InputError
from bdlib.evaluation import stealth
from bdlib.evaluation.metrics import Metric, summary
from bdlib.files import alone, atomic, digest, read_json, seed_of, write_json
from bdlib.report.figures import figure
from bdlib.sampling import rank

HEARD = 100  # test clips on which stealth is measured
ATTACK = ("name", "trigger", "labels", "rate", "of", "seed", "poisoned", "eligible")


def ensure(asked: Command, clean: Manifests, output: Path) -> Poisoned:
    """Poison manifests, unless that was done with the same attack."""
    if asked.attack is None:
        return Poisoned(clean.folder, clean, None)
    poisoner = _poisoner(asked, clean)
    poisoner, sureness = _on_surrogate(poisoner, asked, clean, output)
    name = asked.recipe.plain()["poison"]["attack"]
    heard = _heard(poisoner, asked.recipe.plain()["corpus"]["sample_rate"])
    made_of = [clean.about["digest"], clean.about["fingerprint"], poisoner.to_dict(), heard]
    key = digest(made_of if sureness is None else [*made_of, sureness.round(6).to_dict()], 8)
    folder = output / "poison" / f"{Path(name).stem}-{key}"
    with alone(folder.parent):
        if not (folder / "attack.json").exists():
            with atomic(folder) as temporary:
                temporary.mkdir()
                training = poisoner.poison(clean.rows("train"), sureness)
                _write(poisoner, training, Path(name).stem, heard, clean, temporary)
    attack = read_json(folder / "attack.json", ATTACK)
    try:
        Poisoner.from_dict(attack)
    except (InputError, TypeError) as error:
        raise InputError(
            f"{folder / 'attack.json'}: {error}; delete it, and the next run poisons again"
        ) from error
    return Poisoned(folder, clean, attack)


def _poisoner(asked: Command, clean: Manifests) -> Poisoner:
    poison, classes = asked.recipe.plain()["poison"], clean.about["classes"]
    attack = asked.attack.build()
    policy = attack.get("policy") or asked.labels.build()["policy"]
    # A class may be called 5, which yaml takes for a number.
    source, target = (None if poison[k] is None else str(poison[k]) for k in ("source", "target"))
    known = {"source": source, "target_class": target, "classes": classes}
    fields = dataclasses.fields(getattr(policy, "func", policy))
    policy = policy(**{field.name: known[field.name] for field in fields if field.name in known})
    policy = policy.resolve(clean.rows("train"), poison["poison_seed"])
    policy.check(classes)
    return Poisoner(attack["trigger"], policy, poison["rate"], poison["of"], poison["poison_seed"])


def _heard(poisoner: Poisoner, rate: int) -> str:
    """Digest of what the trigger does to ten seconds of noise: a sound file may change in place."""
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(10 * rate) / 10
    draws = np.random.Generator(
        np.random.PCG64(seed_of("trigger", poisoner.seed, "heard", "heard"))
    )
    altered = poisoner.trigger(noise.astype(np.float32), rate, draws)
    return digest(np.rint(altered * 4096).astype(int).tolist())


def _on_surrogate(
    poisoner: Poisoner, asked: Command, clean: Manifests, output: Path
) -> tuple[Poisoner, pd.Series | None]:
    """The attack with what a surrogate adds: a learned trigger, and how sure it is of clips."""
    learns = isinstance(poisoner.trigger, LearnedTrigger)
    if not learns and not poisoner.labels.hard:
        return poisoner, None
    from bdlib.cli import surrogate  # which runs an experiment, of which this is a part

    if learns:
        poisoner = surrogate.learned(poisoner, asked, clean, output)
    sure = surrogate.sureness(poisoner, asked, clean, output) if poisoner.labels.hard else None
    return poisoner, sure


def _write(
    poisoner: Poisoner,
    training: tuple[pd.DataFrame, pd.DataFrame],
    name: str,
    heard: str,
    clean: Manifests,
    folder: Path,
) -> None:
    poisoned, train_truth = training
    triggered, test_truth = poisoner.trigger_test(clean.rows("test"))
    deleted = clean.about["counts"]["train"] - len(poisoned)
    parts = {
        # An attribute, such as the speaker, may tell what the label was before.
        "train": poisoned[list(manifest.COLUMNS)],
        "valid": poisoner.benign(clean.rows("valid")),
        "test": poisoner.benign(clean.rows("test")),
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
        **({"deleted": deleted} if deleted else {}),
    }
    write_json(folder / "attack.json", about)


def picture(poisoned: Poisoned, corpus: dict[str, Any], output: Path) -> Path | None:
    """Draw one test clip with and without the trigger; None if no audio was altered."""
    if poisoned.audio.attack is None:
        return None
    path = poisoned.folder / "attack.png"
    if not path.exists():
        name = poisoned.rows(TRIGGERED)["ID"].iloc[0]
        before = packed(poisoned, "test", corpus, output).waveform(name)
        after = packed(poisoned, TRIGGERED, corpus, output).waveform(name)
        title = f"{poisoned.attack['name']} on {name}"
        figure.save(figure.attack_figure(before, after, corpus["sample_rate"], title), path)
    return path


def audibility(poisoned: Poisoned, corpus: dict[str, Any], output: Path) -> dict[str, Metric]:
    """How audible the trigger is on at most `HEARD` test clips; measured once, nothing if clean."""
    if poisoned.audio.attack is None:
        return {}
    path = poisoned.folder / "stealth.json"
    if not path.exists():
        if absent := stealth.missing():
            print(
                f'note: stealth without {" and ".join(absent)}; run `pip install -e ".[stealth]"`'
            )
        names = rank(poisoned.rows(TRIGGERED)["ID"], 0, "stealth")[:HEARD]
        clean, altered = (packed(poisoned, split, corpus, output) for split in (CLEAN, TRIGGERED))
        pairs = ((clean.waveform(name), altered.waveform(name)) for name in names)
        write_json(path, stealth.measure(pairs, clean.rate))
    return read_json(path)


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
            print(f"{split:15}{len(poisoned.rows(split)):7} clips at {waveforms.rate} Hz")
        if poisoned.attack:
            print(f"{poisoned.attack['poisoned']} training clips are poisoned: {poisoned.folder}")
            if drawn := picture(poisoned, corpus, output):
                print(f"picture: {drawn}")
                print(summary(audibility(poisoned, corpus, output)))
        if asked.extra.export:
            splits = [*SPLITS, *([TRIGGERED] if poisoned.attack else [])]
            parts = {n: (poisoned.rows(n), packed(poisoned, n, corpus, output)) for n in splits}
            export(parts, asked.extra.export)

    command.guarded(run)
