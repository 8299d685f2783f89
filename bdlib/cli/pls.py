"""One autoencoder, many attacks: every source and target with every trigger (VAE-PLS, section 4.4).

The clean corpus is encoded once, and of an attack only the altered clips.
"""

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from bdlib import stages
from bdlib.cli import command
from bdlib.errors import InputError
from bdlib.records import record
from bdlib.report import pictures
from bdlib.stages.prepare import Prepare
from bdlib.stages.recipe import Recipe

if TYPE_CHECKING:  # torch takes seconds to import
    from bdlib.stages.trials import Bench, Trial

SAID = 50  # trials from one line of progress to the next


def parser() -> argparse.ArgumentParser:
    """The options of the program."""
    options = command.parser("Judge many attacks with one autoencoder, a record each.")
    options.add_argument("--defense", help="vae_pls or vae_pls_search", default="vae_pls")
    options.add_argument("--triggers", default="clap,whistle", help="yamls of attacks, by comma")
    options.add_argument("--pairs", default="", help="source:target, by comma; default: all")
    options.add_argument(
        "--poison_seeds",
        default="",
        help="draws of the poisoned clips, by comma; default: the yaml's",
    )
    options.add_argument("--draws", type=int, default=100, help="clean corpora")
    options.add_argument(
        "--fractions", default="", help="poisoned shares, by comma, of the yaml's own attack"
    )
    return options


def main(prepare: Prepare) -> None:
    """``pls.py``: one autoencoder judges all attacks between classes, and clean draws."""
    options = parser()

    def walk(recipe: Recipe, own: argparse.Namespace) -> None:
        started = time.time()
        poisoned = stages.poison(recipe, stages.prepare(recipe, prepare))

        from bdlib.stages.trial_records import record_trials  # with torch, which takes seconds
        from bdlib.stages.trials import Bench

        bench = Bench.of(recipe, poisoned)
        pictures.draw_autoencoders(recipe.output / "filters")
        results = recipe.results / "attacks"
        path = results / f"{poisoned.corpus.about['name']}.jsonl"
        known = {line["id"] for line in record.read(path)} if path.exists() else set()
        trials = _trials(bench, own)
        new = [trial for trial in trials if bench.identity(trial) not in known]
        print(
            f"judging {len(new)} of {len(trials)} trials, {time.time() - started:.0f} s", flush=True
        )
        for number, (line, trial, judged) in enumerate(record_trials(bench, new, started), 1):
            record.append(path, line)
            if number % SAID == 0:
                print(f"{number} are judged, {time.time() - started:.0f} s", flush=True)
            pictures.draw_trial(bench, trial, judged, line, results.parent / "figures")
        print(f"{len(new)} of {len(trials)} trials were new; recorded in {path}")

    command.run(options, walk)


def _trials(bench: "Bench", own: argparse.Namespace) -> list["Trial"]:
    """The trials of a command line: clean draws, pairs of classes seed by seed, and the fractions.

    In an order whose beginning tells something where the rest is cut off.
    """
    poison, names = bench.recipe.settings["poison"], bench.classes
    pairs = _pairs(own.pairs, names) or [(a, b) for a in names for b in names if a != b]
    triggers = own.triggers.split(",")
    seeds = _numbers("poison_seeds", own.poison_seeds, int) or [poison["poison_seed"]]
    plan = [(t, *pair, poison["rate"], seed) for seed in seeds for t in triggers for pair in pairs]
    for rate in _numbers("fractions", own.fractions, float):
        yaml_own = poison["attack"], poison["source"], poison["target"]
        plan += [(*yaml_own, rate, seed) for seed in seeds]
    shown = tqdm(dict.fromkeys(plan), "encoding", unit="attack", disable=None)
    return [bench.draw(n) for n in range(own.draws)] + [bench.attack(*line) for line in shown]


def _pairs(text: str, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Source and target classes, from ``a:b,c:d``."""
    pairs = [tuple(pair.split(":")) for pair in filter(None, text.split(","))]
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(names):
            raise InputError(
                f"--pairs={text}: {':'.join(pair)} is no pair; give source:target of {' '.join(names)}"
            )
    return pairs


def _numbers(name: str, text: str, kind: type[int] | type[float]) -> list[Any]:
    """Numbers by comma."""
    try:
        return [kind(word) for word in filter(None, text.split(","))]
    except ValueError as error:
        raise InputError(f"--{name}={text}: give numbers by comma") from error
