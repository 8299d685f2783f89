"""One autoencoder, many attacks: every source and target with every trigger (VAE-PLS, section 4.4).

The clean corpus is encoded once, and of an attack only the altered clips.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from bdlib import stages
from bdlib.cli import command
from bdlib.records import record
from bdlib.report import pictures
from bdlib.stages.prepare import Prepare
from bdlib.stages.recipe import Recipe

if TYPE_CHECKING:  # torch takes seconds to import
    from bdlib.stages.trials import Bench, Trial


def main(prepare: Prepare) -> None:
    """``pls.py``: one autoencoder judges all attacks between classes, and clean draws."""
    options = command.parser("Judge many attacks with one autoencoder, a record each.")
    options.add_argument("--defense", help="vae_pls or vae_pls_search", default="vae_pls")
    options.add_argument("--triggers", default="clap,whistle", help="yamls of attacks, by comma")
    options.add_argument("--draws", type=int, default=100, help="clean corpora")
    options.add_argument(
        "--fractions", default="", help="poisoned shares, by comma, of the yaml's own attack"
    )

    def walk(recipe: Recipe, own: argparse.Namespace) -> None:
        started = time.time()
        poisoned = stages.poison(recipe, stages.prepare(recipe, prepare))

        from bdlib.stages.trial_records import record_trials  # with torch, which takes seconds
        from bdlib.stages.trials import Bench

        bench = Bench.of(recipe, poisoned)
        pictures.draw_autoencoders(recipe.output / "filters")
        results = Path(recipe.settings["run"]["results_folder"]) / "attacks"
        path = results / f"{poisoned.corpus.about['name']}.jsonl"
        known = {line["id"] for line in record.read(path)} if path.exists() else set()
        trials = _trials(bench, own)
        new = [trial for trial in trials if bench.identity(trial) not in known]
        for line, trial, judged in record_trials(bench, new, started):
            record.append(path, line)
            pictures.draw_trial(bench, trial, judged, line, results.parent / "figures")
        print(f"{len(new)} of {len(trials)} trials were new; recorded in {path}")

    command.run(options, walk)


def _trials(bench: "Bench", own: argparse.Namespace) -> list["Trial"]:
    """The trials of a command line: all pairs of classes, clean draws, and the fractions."""
    poison, names = bench.recipe.settings["poison"], bench.classes
    pairs = [(a, b) for a in names for b in names if a != b]
    plan = [(t, *pair, poison["rate"]) for t in own.triggers.split(",") for pair in pairs]
    for text in filter(None, own.fractions.split(",")):
        plan.append((poison["attack"], poison["source"], poison["target"], float(text)))
    shown = tqdm(dict.fromkeys(plan), "encoding", unit="attack", disable=None)
    return [bench.attack(*line) for line in shown] + [bench.draw(n) for n in range(own.draws)]
