"""Time of a training step beside the same training written plainly in SpeechBrain's style.

A step is all of it: batching, front end, forward, loss, backward and optimiser. Both train the same
layers (`plain/train.py`) on the same wav files of noise, one second long and in the page cache, in
the same batches on one process; they take turns, an epoch each, so that a slow moment strikes both,
and seconds are those that the processor worked, so that what else runs on the machine counts less.
What a recipe does once is not in it: packing here, and in both a new optimiser an epoch. `bf16` is
the recipes' own switch `--precision=bf16`, off by default on a CPU. `front_end` is the part of a step here
that computes features, and `kinds` what a profile of an epoch says of convolutions and batch
normalisation, in shares. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import speechbrain as sb
import torch
from pipeline import listed, synthetic
from plain.train import brain, dataio_prep
from shared.timing import facts, ratio, summary, turns
from shared.trainers import CLASSES, HPARAMS, document, trainer
from torch.profiler import ProfilerActivity, profile

from bdlib import manifest
from bdlib.cli.command import guarded
from bdlib.corpus import Batches
from bdlib.pack import pack
from bdlib.training.classifier_brain import loader

MODELS = {  # steps of an epoch
    "keyword_resnet": 3, "xvector_small": 6, "mvd_small": 3, "ecapa_small": 3,
    "xvector": 1, "ecapa": 1,
}  # fmt: skip
AIMED = ("xvector_small", "ecapa_small")  # to be half as fast again


@dataclass(frozen=True)
class Way:
    """A Brain and its batches."""

    brain: sb.Brain
    batches: Iterable

    def epoch(self) -> None:
        """Train on them once, with a new optimiser."""
        self.brain.fit(range(1, 2), self.batches, progressbar=False)

    @torch.no_grad()
    def hear(self) -> None:
        """Compute their features once, as an epoch does."""
        for batch in self.batches:
            self.brain.classifier.features(batch.wavs, batch.lens)

    def kinds(self) -> dict[str, float]:
        """Shares of convolutions and of batch normalisation, forward and backward, in an epoch."""
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            self.epoch()
        spent = {event.key.lower(): event.self_cpu_time_total for event in seen.key_averages()}
        total = sum(spent.values())
        return {
            kind: round(sum(time for key, time in spent.items() if kind in key) / total, 3)
            for kind in ("convolution", "batch_norm")
        }


def corpus(folder: Path, batch_size: int, steps: int) -> tuple[Path, Path, Batches]:
    """Wav files in `CLASSES` classes: their root, their manifest, and packed batches of them."""
    root = synthetic(folder / "wavs", batch_size * steps, CLASSES)
    rows = listed(root, batch_size * steps)
    manifest.write(rows, folder / "train.csv")
    made = pack(rows, root, folder / "pack", 16000, 1.0)
    classes = sorted(set(rows["label"]))
    return root, folder / "train.csv", Batches(made, rows, classes, batch_size, 1.0, seed=0)


def ways(name: str, batch_size: int | None, steps: int, folder: Path) -> dict[str, Way]:
    """A model with an epoch of `steps` steps, in each way; None takes the batch size of its yaml."""
    settings = {"batch_size": batch_size} if batch_size else {}
    recipe = document(HPARAMS / f"{name}.yaml", **settings)
    batch_size = recipe.plain()["train"]["batch_size"]
    root, csv, batches = corpus(folder, batch_size, steps)
    made = {
        way: Way(trainer(recipe, batches, folder / way, precision=precision), loader(batches))
        for way, precision in (("bdlib", "fp32"), ("bf16", "bf16"))
    }
    torch.manual_seed(0)
    built = recipe.build()
    theirs = brain(built["model"], built["train"]["lr"], batches)
    theirs.modules.train()
    return made | {"plain": Way(theirs, dataio_prep(csv, root, batch_size))}


def report(seconds: dict[str, dict[str, list[float]]], steps: dict[str, int]) -> dict:
    """Ratios of each turn; `seconds` of an epoch by model and way, `steps` in one by model."""
    ratios = {name: ratio(ways["plain"], ways["bdlib"]) for name, ways in seconds.items()}
    return {
        "name": "training",
        "ratio": min(spread["median"] for spread in ratios.values()),
        "over": "time of a training step in plain SpeechBrain over that here, the least of the models",
        "ratios": ratios,
        "ratios_bf16": {n: ratio(ways["plain"], ways["bf16"]) for n, ways in seconds.items()},
        "front_end": {n: ratio(ways["front_end"], ways["bdlib"]) for n, ways in seconds.items()},
        "step_ms": {
            name: {
                way: summary([1000 * s / steps[name] for s in some], 1)
                for way, some in ways.items()
            }
            for name, ways in seconds.items()
        },
    }


def measure(args: argparse.Namespace) -> dict:
    """All figures over the models asked for."""
    seconds, kinds = {}, {}
    steps = {name: 2 if args.quick else MODELS[name] for name in args.models}
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            made = ways(name, 6 if args.quick else None, steps[name], Path(folder))
            epochs = {way: of.epoch for way, of in made.items()} | {"front_end": made["bdlib"].hear}
            seconds[name] = turns(
                epochs, argparse.Namespace(device="cpu", quick=True), process_time
            )
            kinds[name] = made["bdlib"].kinds()
    return report(seconds, steps) | {"kinds": kinds} | facts("cpu")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny batches of one model")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="default: all")
    args = parser.parse_args()
    args.models = args.models or (["xvector_small"] if args.quick else list(MODELS))
    print(json.dumps(measure(args)))


if __name__ == "__main__":
    with guarded():
        main()
