"""Trials of an autoencoder filter judged, measured, and told as records."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score
from tqdm import tqdm

from bdlib.defenses.filters.vae_pls.filter import Judged, VaePls
from bdlib.evaluation import metrics
from bdlib.files import seed_of
from bdlib.records import record
from bdlib.records.provenance import device_name, made, peak_memory_mb
from bdlib.stages.defend import origins
from bdlib.stages.record import brief, dataset, provenance, run_by
from bdlib.stages.trials import Bench, Trial

FEW = 20  # trials that are judged faster than processes are started


def judge_trial(defense: VaePls, latents: np.ndarray, trial: Trial, seed: int) -> Judged:
    """Judge all classes of a trial, with all poison that a defender would have among them."""
    return defense.judged(trial.of(latents), trial.labels, seed)


def judge_trials(bench: Bench, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Judged]]:
    """Judge all trials, on all cores, in their order, each with chance of its own."""
    # Before any thread takes tasks: an identity reads yaml, and its parser is one for all threads.
    seeds = [seed_of("trial", bench.identity(trial)) for trial in trials]
    tasks = (
        joblib.delayed(judge_trial)(bench.defense, bench.latents, trial, seed)
        for trial, seed in zip(trials, seeds, strict=True)
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


def record_trials(
    bench: Bench, trials: Sequence[Trial], started: float
) -> Iterator[tuple[dict[str, Any], Trial, Judged]]:
    """Judge trials, and tell each as a record.

    Arguments
    ---------
    bench : Bench
        What judges.
    trials : Sequence[Trial]
        What is judged.
    started : float
        Time at which the run began, in seconds since the epoch.
    """
    recipe, document = bench.recipe, bench.recipe.defense
    corpus, device = bench.poisoned.corpus, bench.options["device"]
    shared = {
        "schema": record.SCHEMA,
        **provenance({"filter": made(), **origins(bench.defense)}),
        **run_by(recipe),
        "status": "ok",
        "dataset": dataset(corpus),
        "model": {
            "name": "dsa",
            "yaml": document.path.name,
            "parameters": sum(p.numel() for p in bench.network.parameters()),
            "trained_on": brief(bench.poisoned.attack),
            "rebuilding_error": round(bench.error, 6),  # variances of the corpus
        },
        "defense": {
            "name": document.path.stem,
            "stage": "filter",
            "selection": bench.defense.selection,
            "clean_budget": 0,
            "settings": {
                k: v for k, v in document.plain().items() if k not in ("defense", "selection")
            },
        },
        "experiment": recipe.settings["run"]["experiment"],
    }
    for trial, judged in judge_trials(bench, trials):
        own = {
            "id": bench.identity(trial),
            "attack": brief(trial.attack),
            "seed": trial.seed if trial.attack is None else recipe.seed,
            # Class scores: above 1 a class is called poisoned.
            "classes": {name: round(score, 6) for name, score in judged.class_scores.items()},
            "scores": {name: round(v.score, 6) for name, v in judged.verdicts.items()},
            # Share of the Gaussians of a class whose covariance was shrunk.
            "shrunk": {n: round(v.shrunk, 6) for n, v in judged.verdicts.items() if v.shrunk},
            "metrics": measure(trial, judged),
            "runtime": {
                "wall_s": round(time.time() - started, 1),
                "device": device_name(device),
                "peak_memory_mb": peak_memory_mb(device),
            },
        }
        yield shared | own, trial, judged
