"""One autoencoder, many attacks: every source and target with every trigger (VAE-PLS, section 4.4).

The clean corpus is encoded once, and of an attack only the altered clips.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score
from tqdm import tqdm

from bdlib.cli import command, pictures
from bdlib.cli.experiment import Experiment
from bdlib.cli.prepare import Prepare
from bdlib.cli.trials import Bench, Trial
from bdlib.defenses.filters.vae_pls.filter import Judged, VaePls
from bdlib.defenses.filters.vae_pls.judge import whitened
from bdlib.errors import InputError
from bdlib.evaluation import metrics
from bdlib.files import digest, seed_of
from bdlib.records import pls_figure, record
from bdlib.records.provenance import peak_memory_mb, source, versions

COMPONENTS = 24  # in which the clips of a class are drawn
FEW = 20  # trials that are judged faster than processes are started


def judge_trial(defense: VaePls, latents: np.ndarray, trial: Trial, seed: int) -> Judged:
    """Judge all classes of a trial, with all poison that a defender would have among them."""
    return defense.judged(trial.of(latents), trial.labels, seed)


def judge_trials(bench: Bench, trials: list[Trial]) -> Iterator[tuple[Trial, Judged]]:
    """Judge all trials, on all cores, in their order, each with chance of its own."""
    tasks = (
        joblib.delayed(judge_trial)(
            bench.defense, bench.latents, trial, seed_of("trial", identity(bench, trial))
        )
        for trial in trials
    )
    jobs = -1 if len(trials) > FEW else 1
    done = joblib.Parallel(n_jobs=jobs, return_as="generator")(tasks)
    shown = tqdm(done, "judging", len(trials), unit="corpus", disable=None)
    yield from zip(trials, shown, strict=True)


def measure(trial: Trial, judged: Judged) -> dict[str, Any]:
    """What a record tells of a trial.

    `adjusted_rand_index` is over the target class, whether or not it was called poisoned, as in
    Figure 6 of the paper; `target_class_found` tells that.
    """
    if trial.attack is None:
        called = [score > 1 for score in judged.class_scores.values()]
        return {"class_false_alarms": metrics.rate(pd.Series(called))}
    target = trial.attack["target"]
    truth = pd.DataFrame({"split": ["train"], "label_after": [target]})
    measured = metrics.classes(judged.class_scores, truth)
    poisoned = trial.poisoned
    removed = np.zeros(len(trial.labels), bool)
    for name, soft in judged.suspicion.items():
        removed[trial.labels == name] = (soft > 0.5) & (judged.class_scores[name] > 1)
    here = trial.labels == target
    index = adjusted_rand_score(poisoned[here], judged.suspicion[target] > 0.5)
    everyone = pd.Index(np.arange(len(poisoned)))
    split = pd.DataFrame({"split": "train"}, index=everyone[poisoned])
    measured["adjusted_rand_index"] = {"value": float(index)}
    return measured | metrics.filtering(everyone, everyone[~removed], split)


def shared(bench: Bench) -> dict[str, Any]:
    """What the records of all trials have in common."""
    experiment, about = bench.experiment, bench.experiment.clean.about
    document = experiment.asked.defense
    return {
        "schema": record.SCHEMA,
        **source(),
        "command": experiment.asked.line,
        "status": "ok",
        "dataset": {k: about[k] for k in ("name", "variant", "scale", "digest", "counts")},
        "model": {
            "name": "dsa",
            "yaml": document.path.name,
            "parameters": sum(p.numel() for p in bench.network.parameters()),
            "trained_on": experiment.poisoned.attack,
        },
        "defense": {
            "name": document.path.stem,
            "stage": "filter",
            "selection": "fixed",
            "clean_budget": 0,
            "settings": {k: v for k, v in document.plain().items() if k != "defense"},
        },
        "experiment": experiment.run["experiment"],
        "versions": versions(),
    }


def identity(bench: Bench, trial: Trial) -> str:
    """The id of a trial's record."""
    return digest([trial.attack, trial.seed, *bench.judged_by])


def entry(bench: Bench, trial: Trial, judged: Judged, wall_s: float) -> dict[str, Any]:
    """What differs from record to record; `classes` holds the class scores, above 1 is poisoned."""
    experiment, device = bench.experiment, bench.experiment.device
    return {
        "id": identity(bench, trial),
        "attack": trial.attack,
        "seed": trial.seed if trial.attack is None else experiment.seed,
        "classes": {name: round(score, 6) for name, score in judged.class_scores.items()},
        "scores": {name: round(v.score, 6) for name, v in judged.verdicts.items()},
        "metrics": measure(trial, judged),
        "runtime": {
            "wall_s": round(wall_s, 1),
            "device": device,
            "peak_memory_mb": peak_memory_mb(device),
        },
    }


def main(prepare: Prepare) -> None:
    """``pls.py``: one autoencoder judges all attacks between classes, and clean draws."""

    def run() -> None:
        options = command.parser("Judge many attacks with one autoencoder, a record each.")
        options.add_argument("--defense", help="vae_pls or vae_pls_search", default="vae_pls")
        options.add_argument(
            "--triggers", default="clap,whistle", help="yamls of attacks, by comma"
        )
        options.add_argument("--draws", type=int, default=100, help="clean corpora")
        options.add_argument(
            "--fractions", default="", help="poisoned shares, by comma, of the yaml's own attack"
        )
        asked = command.read(sys.argv[1:], options)
        started, experiment = time.time(), Experiment(asked, prepare)
        defense = asked.defense.build()["defense"]
        if not isinstance(defense, VaePls):
            raise InputError(f"--defense={asked.defense.path.stem}: give vae_pls or vae_pls_search")
        bench = Bench(experiment, defense)
        pictures.autoencoders(experiment.output / "filters")
        results = Path(experiment.run["results_folder"]) / "attacks"
        path = results / f"{experiment.clean.about['name']}.jsonl"
        known = {line["id"] for line in record.read(path)} if path.exists() else set()
        about = shared(bench)
        trials = _asked(bench, asked.extra)
        new = [trial for trial in trials if identity(bench, trial) not in known]
        for trial, judged in judge_trials(bench, new):
            line = about | entry(bench, trial, judged, time.time() - started)
            record.append(path, line)
            if trial.attack and pls_figure.of_encoder(line):
                _scatter(bench, trial, judged, results.parent / "figures", line)
        print(f"{len(new)} of {len(trials)} trials were new; recorded in {path}")

    command.guarded(run)


def _scatter(
    bench: Bench, trial: Trial, judged: Judged, folder: Path, line: dict[str, Any]
) -> None:
    """Draw the target class of the attack that the autoencoder was trained on."""
    target = trial.attack["target"]
    here = trial.labels == target
    points = whitened(trial.of(bench.latents)[here], COMPONENTS)
    suspected = judged.suspicion[target] > 0.5
    stem = pls_figure.stem(line)
    title = f"{stem.replace('-', ' ')}: class {target}"
    path = folder / f"pls-scatter-{stem}.png"
    pls_figure.scatter(points, trial.poisoned[here], suspected, path, title)


def _asked(bench: Bench, extra: Any) -> list[Trial]:
    """The trials of a command line: all pairs of classes, clean draws, and the fractions."""
    own, names = bench.experiment.settings["poison"], bench.classes
    pairs = [(a, b) for a in names for b in names if a != b]
    plan = [(t, *pair, own["rate"]) for t in extra.triggers.split(",") for pair in pairs]
    for text in filter(None, extra.fractions.split(",")):
        plan.append((own["attack"], own["source"], own["target"], float(text)))
    shown = tqdm(dict.fromkeys(plan), "encoding", unit="attack", disable=None)
    return [bench.attack(*line) for line in shown] + [bench.draw(n) for n in range(extra.draws)]
