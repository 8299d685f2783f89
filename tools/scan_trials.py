#!/usr/bin/env python3
"""Try `bdlib scan` on corpora poisoned in memory: one line of JSON a trial.

    scan_trials.py confirmation --words FOLDER --speakers FOLDER    # appends to results/scan/
    scan_trials.py ranges --words FOLDER --speakers FOLDER          # "about how many": is it so?
    scan_trials.py moved --speakers FOLDER                          # triggers that the encoder hears
    scan_trials.py computed_words --words FOLDER                    # a computed room, a filled tempo
    scan_trials.py computed_speakers --speakers FOLDER              # the same, on voices
    scan_trials.py voices --speakers FOLDER                         # voices again: other targets, seeds
    scan_trials.py loud --words FOLDER                              # clean labels, loud sounds
    scan_trials.py loud_speakers --speakers FOLDER                  # the same, on voices

Which corpora and attacks there are stands in tools/scan_trials.yaml. A trial that has its line is
not tried again. Only the evidence that decides is used: labels, moved clips and repeated sounds.
`tools/tables.py` makes the tables of it.
"""

import argparse
import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdlib.attacks.labels import AllToOne, CleanLabel, OneToOne
from bdlib.attacks.natural import NaturalAttribute, Unaltered
from bdlib.attacks.poisoner import Poisoner
from bdlib.defenses.disagreement import judge
from bdlib.encoders import ENCODERS, Cache, content_digest
from bdlib.records.provenance import source
from bdlib.scanning.decide import decide
from bdlib.scanning.heard import MEASURES, Heard
from bdlib.scanning.moved import Moved
from bdlib.scanning.repeats import Repeats
from bdlib.scanning.scan import versions
from bdlib.scanning.sources import Source
from bdlib.stages.document import common

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tools" / "scan_trials.yaml"
LISTS = [
    *("development", "confirmation", "ranges"),
    *("moved", "computed_words", "computed_speakers", "voices", "loud", "loud_speakers"),
]
RESULTS = ROOT / "results" / "scan"
COMMANDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
SECOND = 16000
FEW = 60  # clips of a word in a small corpus


@dataclass(frozen=True)
class InMemory(Heard):
    """A corpus whose waveforms are at hand."""

    waves: tuple[np.ndarray, ...] = ()

    def read(self, clip: int) -> np.ndarray:
        """See `Heard`."""
        return self.waves[clip]


class Corpus:
    """Clean clips of one task, in memory, with a cache of embeddings.

    Arguments
    ---------
    task : str
        `words` or `speakers`.
    folder : Path
        Speech Commands, or RAVDESS at 16 kHz.
    cache : Path | None
        Of embeddings.
    """

    def __init__(self, task: str, folder: Path, cache: Path | None) -> None:
        self.task, self.encoder = task, ENCODERS[task]()
        name = f"trials-{self.encoder.name}-{self.encoder.digest}"
        self.store = Cache(cache, name, self.encoder.size)
        files = [p for p in sorted(folder.rglob("*.wav")) if p.parent.name != "_background_noise_"]
        names = [p.relative_to(folder).as_posix() for p in files]
        rows = pd.DataFrame({"ID": names, "word": [p.parent.name for p in files]})
        if task == "words":
            rows["label"] = rows["word"].where(rows["word"].isin(COMMANDS), "_unknown_")
        else:
            rows["label"] = rows["word"] = rows["word"].str[-2:]
            rows["emotion"] = [EMOTIONS[int(p.name.split("-")[2]) - 1] for p in files]
        self.rows, self.waves = rows, [soundfile.read(p, dtype="float32")[0] for p in files]
        if task == "words":  # Armory pads them before the trigger
            self.waves = [np.pad(w, (0, max(0, SECOND - len(w)))) for w in self.waves]
        self.place = {name: number for number, name in enumerate(names)}

    def heard(self, rows: pd.DataFrame, altered: dict[str, np.ndarray]) -> InMemory:
        """Rows (ID, label) as a scan hears them, some clips altered."""
        waves = tuple(altered.get(name, self.waves[self.place[name]]) for name in rows["ID"])
        keys = [content_digest(wave.tobytes()) for wave in waves]
        new = {
            key: wave for key, wave in zip(keys, waves, strict=True) if key not in self.store.rows
        }
        made = self.encoder.embed(list(new.values())) if new else []
        self.store.rows |= dict(zip(new, made, strict=True))
        seconds = np.array([len(wave) / SECOND for wave in waves])
        table = pd.DataFrame(
            {
                "path": rows["ID"].to_numpy(),
                "label": rows["label"].to_numpy(),
                "start": 0,
                "stop": -1,
            }
        )
        measured = np.zeros((len(waves), len(MEASURES)), np.float32)
        measured[:, MEASURES.index("seconds")] = seconds
        embeddings = np.stack([self.store.rows[key] for key in keys])
        return InMemory(Source(ROOT, table), embeddings, keys, measured, (), self.task, waves)

    def subset(self, seed: int, least: int) -> pd.DataFrame:
        """Some classes of it, and some of their clips; of words, all 35 or the 11 by lot."""
        generator = np.random.Generator(np.random.PCG64(seed))
        rows = self.rows
        if self.task == "words" and generator.random() < 0.5:
            rows = rows.assign(label=rows["word"])
        classes = generator.permutation(np.unique(rows["label"]))
        classes = classes[: generator.integers(least, len(classes) + 1)]
        share = generator.uniform(0.4, 1)
        kept = rows["label"].isin(classes) & (generator.random(len(rows)) < share)
        return rows[kept].reset_index(drop=True)

    def few(self, seed: int) -> pd.DataFrame:
        """`FEW` clips of each of 4 to 6 words: of even seeds the first by name, else by lot."""
        generator = np.random.Generator(np.random.PCG64(seed))
        counts = self.rows["word"].value_counts()
        words = generator.permutation(sorted(counts.index[counts >= FEW]))
        words = words[: generator.integers(4, 7)]
        rows = self.rows.assign(label=self.rows["word"])
        parts = [rows[rows["word"] == word] for word in words]
        if seed % 2:
            parts = [part.iloc[generator.permutation(len(part))] for part in parts]
        return pd.concat([part.head(FEW) for part in parts], ignore_index=True)


Made = tuple[pd.DataFrame, dict[str, np.ndarray], set[str]]
"""Rows, the clips that an attack altered, and the names of all that are poisoned or mislabelled."""


def poisoned(corpus: Corpus, clean: pd.DataFrame, poisoner: Poisoner) -> Made:
    """A corpus after an attack on clean rows."""
    rows, truth = poisoner.poison(clean)
    altered = {
        name: poisoner.apply(corpus.waves[corpus.place[name]], SECOND, "train", name)
        for name in (truth.index if poisoner.trigger.alters else ())
    }
    return rows.reset_index(drop=True), altered, set(truth.index)


def noisy(rows: pd.DataFrame, rate: float, seed: int) -> tuple[pd.DataFrame, set[str]]:
    """A share of the labels replaced by any other, uniformly."""
    generator = np.random.Generator(np.random.PCG64(seed))
    classes, labels = np.unique(rows["label"]), rows["label"].to_numpy(object).copy()
    wrong = generator.permutation(len(rows))[: round(rate * len(rows))]
    for place in wrong:
        labels[place] = generator.choice(classes[classes != labels[place]])
    return rows.assign(label=labels), set(rows["ID"].iloc[wrong])


def listed(half: str) -> Iterator[dict[str, Any]]:
    """The trials of a half, or of another list, as plain settings."""
    plan = yaml.safe_load(LIST.read_text())[half]
    targets = plan["target"] if isinstance(plan["target"], list) else [plan["target"]]
    pairs = list(zip(plan["seeds"], itertools.cycle(targets), strict=False))

    def given(trigger: str) -> dict[str, Any]:
        settings = plan.get("settings", {}).get(trigger)
        return {"settings": settings} if settings else {}

    tasks = [plan["task"]] if "task" in plan else ["words", "speakers"]
    for seed in plan["clean"]["seeds"]:
        for task in tasks if half == "development" else [tasks[seed % len(tasks)]]:
            yield {"kind": "clean", "task": task, "seed": seed}
    for task in tasks if plan["clean"]["seeds"] else ():
        yield {"kind": "clean", "task": task, "seed": None}
        for rate, seed in itertools.product(*plan["label_noise"].values()):
            yield {"kind": "noise", "task": task, "rate": rate, "seed": seed}
    for kind, seed in itertools.product(("clean", "one", "clean label"), plan["small"]["seeds"]):
        trial = {"kind": f"small, {kind}", "task": "words", "seed": seed}
        rate = {"one": 0.25, "clean label": 0.5}.get(kind)
        yield trial | ({"trigger": "clap", "rate": rate} if rate else {})
    for emotion, speaker, share in itertools.product(
        plan["emotions"], plan["speakers"], plan["shares"]
    ):
        yield {"kind": "emoback", "task": "speakers", "trigger": emotion, "target": speaker, "rate": share,
               "seed": 0}  # fmt: skip
    for trigger, rate in itertools.product(
        plan["clean_label"]["triggers"], plan["clean_label"]["rates"]
    ):
        for seed, target in pairs:
            yield given(trigger) | {
                   "kind": "clean label", "task": tasks[0], "trigger": trigger, "target": target,
                   "rate": rate, "seed": seed}  # fmt: skip
    for seed, target in pairs:
        for trigger, (policy, rates) in itertools.product(
            plan["triggers"], plan["policies"].items()
        ):
            for rate in rates:
                yield given(trigger) | {
                       "kind": policy, "task": plan.get("task", "words"), "trigger": trigger,
                       "target": target, "rate": rate, "seed": seed, "source": plan["source"]}  # fmt: skip


def attack(trial: dict[str, Any]) -> Poisoner:
    """The attack of a trial that names its target."""
    name, target, seed = trial["trigger"], trial["target"], trial["seed"]
    if trial["kind"] == "emoback":
        policy = NaturalAttribute("emotion", name, target)
        return Poisoner(Unaltered(), policy, trial["rate"], "dataset", seed)
    trigger = Unaltered()
    if name != "none":
        recipe = common("attacks", name)
        for setting, value in trial.get("settings", {}).items():
            recipe.place(setting, value)
        trigger = recipe.build()["trigger"]
    policy, of = {
        "one": (lambda: OneToOne(trial["source"], target), "source"),
        "all": (lambda: AllToOne(target), "dataset"),
        "clean label": (lambda: CleanLabel(target), "source"),
    }[trial["kind"].removeprefix("small, ")]
    return Poisoner(trigger, policy(), trial["rate"], of, seed)


def made(trial: dict[str, Any], corpus: Corpus) -> tuple[Made, str | None]:
    """The corpus of a trial, and the class that an attack is after."""
    kind, seed = trial["kind"], trial["seed"]
    rows = corpus.rows
    if kind.startswith("small"):
        rows = corpus.few(seed)
        source, target = rows["label"].unique()[:2].tolist()
        trial = trial | {"source": source, "target": target}
    if kind == "noise":
        rows, bad = noisy(rows, trial["rate"], seed)
        return (rows, {}, bad), None
    if "trigger" not in trial:
        whole = kind != "clean" or seed is None
        return (rows if whole else corpus.subset(seed, 5), {}, set()), None
    return poisoned(corpus, rows, attack(trial)), trial["target"]


def tried(trial: dict[str, Any], corpus: Corpus) -> dict[str, Any]:
    """What a scan says of a trial, beside the truth."""
    (rows, altered, bad), target = made(trial, corpus)
    started = time.monotonic()
    heard = corpus.heard(rows, altered)
    judged = judge(heard.embeddings, heard.labels)
    # Repeated sounds cost as much as all else: tried where they decide, and where nothing should be.
    repeats = Repeats(judged=judged).find(heard) if "clean" in trial["kind"] else ()
    verdict = decide(heard, judged, [*Moved(called=judged.called).find(heard), *repeats])
    wrong = np.array([name in bad for name in rows["ID"]])
    guilty = {accused.label for accused in verdict.accused}
    flagged = np.isin(np.arange(len(rows)), verdict.flagged["clip"])
    return {
        "clips": len(rows),
        "classes": len(judged.classes),
        "poisoned": int(wrong.sum()),
        "target": target,
        "verdict": verdict.kind,
        "called": sorted(guilty),
        "called_by_labels": list(judged.called),
        "found_by_labels": int((judged.flagged() & wrong).sum()),
        "ranges": {a.label: [a.low, a.suspects, a.high] for a in verdict.accused},
        "found": int((flagged & wrong).sum()),
        "clean_flagged": int((flagged & ~wrong).sum()),
        "clean": int((~wrong).sum()),
        "seconds": round(time.monotonic() - started, 1),
    }


def run(half: str, folders: dict[str, Path], cache: Path | None, only: str | None) -> None:
    """Try what has no line yet."""
    path = RESULTS / f"{half}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    done = [json.loads(line)["trial"] for line in lines]
    command = shlex.join(["python", "tools/scan_trials.py", half])
    corpora: dict[str, Corpus] = {}
    for trial in listed(half):
        if trial in done or (only and trial["kind"] != only):
            continue
        task = trial["task"]
        if task not in corpora:
            corpora = {task: Corpus(task, folders[task], cache)}
        told = {
            "trial": trial,
            **tried(trial, corpora[task]),
            "command": command,
            **source(),
            "versions": versions(),
        }
        with path.open("a") as file:
            file.write(json.dumps(told) + "\n")
            file.flush()
            os.fsync(file.fileno())
        corpora[task].store.save()
        print(
            json.dumps(
                {
                    k: told[k]
                    for k in (
                        "trial",
                        "verdict",
                        "called",
                        "found",
                        "poisoned",
                        "clean_flagged",
                        "seconds",
                    )
                }
            ),
            flush=True,
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("half", choices=LISTS)
    parser.add_argument("--words", type=Path, help="Speech Commands")
    parser.add_argument("--speakers", type=Path, help="RAVDESS at 16 kHz")
    parser.add_argument("--cache", type=Path, help="folder of embeddings")
    parser.add_argument(
        "--only", help="one kind of trial: clean, noise, emoback, clean label, one, all"
    )
    given = parser.parse_args()
    run(given.half, {"words": given.words, "speakers": given.speakers}, given.cache, given.only)


if __name__ == "__main__":
    main()
