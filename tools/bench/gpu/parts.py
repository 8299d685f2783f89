"""The parts of a look at a GPU: what each measures, most valuable first, and how it is told.

A part is called with what it may need and a function to tell figures by, as early as it has them:
what was told stands, whatever happens to the part afterwards. `says` is its line of the table.
"""

import argparse
import functools
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jem
import torch
import torch._dynamo  # which a first step of Adam asks for, in every process that is forked
from gpu.processes import together, way
from shared.timing import facts, turns
from shared.trainers import CLASSES, HPARAMS, ROOT, document, noise, trainer
from torch.utils.flop_counter import FlopCounterMode

from bdlib.stages import compute
from bdlib.stages.document import Document
from bdlib.training.classifier_brain import ClassifierBrain

Tell = Callable[..., None]
"""Called with figures by name."""
TINY = {"depth": 10, "width": 1, "mels": 8, "batch_size": 4, "samples": 2, "steps": 2}
RECURRENT = {"attention_lstm", "rnn", "smalllstm"}  # slow by the frame on a CPU
PUBLISHED = ("mvd", "mvj", "resnet50", "ecapa", "resnet", "xvector")
SMALL = ("mvd_small",)
BYTES = 2**30  # copied, for the bandwidth of the memory


def device(args: argparse.Namespace, tell: Tell) -> None:
    """Is there such a device, and what is it?"""
    compute.device(args.device)
    about = facts(args.device)
    if args.device.startswith("cuda"):
        card = torch.cuda.get_device_properties(args.device)
        about |= {
            "memory_gb": round(card.total_memory / 2**30, 1),
            "multiprocessors": card.multi_processor_count,
            "capability": f"{card.major}.{card.minor}",
        }
    tell(**about, says=f"{about['device']}, torch {about['versions']['torch']}")


def smoke(args: argparse.Namespace, tell: Tell) -> None:
    """A step of every yaml of every recipe, forward, backward and optimiser, in the default precision."""
    steps: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for path in recipes(args.quick):
        name = path.relative_to(ROOT / "recipes").as_posix()
        started = time.perf_counter()
        try:
            loss = _one_step(path, args)
        except Exception as error:  # whatever it is, the next yaml may work
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        else:
            steps[name] = {"loss": loss, "s": round(time.perf_counter() - started, 2)}
            steps[name] |= _memory(args.device)
        says = f"{len(steps)} yaml files step, {len(failed)} fail {' '.join(sorted(failed))}"
        tell(steps=steps, failed=failed, says=says.strip())


def recipes(quick: bool) -> list[Path]:
    """One yaml of every model, `quick` in its small form where there is one; without, all others after.

    Models whose throughput was measured come after those that nothing has stepped.
    """
    small = {path: "_small" in path.stem for path in ROOT.glob("recipes/*/hparams/*.yaml")}
    found: dict[str, Path] = {}
    for path in sorted(small, key=lambda path: (small[path] != quick, path)):
        found.setdefault(path.stem.replace("_small", ""), path)
    if quick:
        return list(found.values())
    new = {path for model, path in found.items() if model not in PUBLISHED}
    return sorted(small, key=lambda path: (path not in new, path))


def _one_step(path: Path, args: argparse.Namespace) -> float:
    """Its loss, which `fit_batch` refuses if it is not finite."""
    recipe, clips = Document(path), 4 if args.quick else None
    if clips and "langevin_steps" in recipe.plain()["model"]:
        recipe.place("langevin_steps", 1)
    if clips and "samples" in recipe.plain()["model"]:
        recipe.place("samples", clips)
    clips = clips or recipe.plain()["train"]["batch_size"]
    seconds = 0.3 if args.quick and path.stem in RECURRENT else 1.0
    batches = noise(max(clips, CLASSES), clips, args.device, seconds)
    with tempfile.TemporaryDirectory() as folder:
        brain = trainer(recipe, batches, Path(folder))
        return round(float(brain.fit_batch(next(iter(batches)))), 4)


def _memory(device: str) -> dict[str, int]:
    """The peak since it was last asked for, on a GPU."""
    if not device.startswith("cuda"):
        return {}
    most = round(torch.cuda.max_memory_allocated(device) / 2**20)
    torch.cuda.reset_peak_memory_stats(device)
    return {"peak_memory_mb": most}


def peak(args: argparse.Namespace, tell: Tell) -> None:
    """The most that the device gives: a large matrix product, and a copy of its memory."""
    product, count = jem.product(args)
    source = torch.zeros(BYTES // (64 if args.quick else 1), dtype=torch.uint8, device=args.device)
    target = torch.empty_like(source)
    spent = turns({"product": product, "copy": lambda: target.copy_(source)}, args)
    tflops = 2 * count / statistics.median(spent["product"]) / 1e12
    copied = 2 * len(source) / statistics.median(spent["copy"]) / 1e9
    dtype = "bf16" if jem.gpu(args) else "fp32"
    tell(
        **{f"{dtype}_tflops": round(tflops, 3)},
        copy_gb_per_s=round(copied, 1),
        says=f"{tflops:.3g} TFLOP/s in {dtype}, {copied:.3g} GB/s read and written",
    )


def throughput(name: str, args: argparse.Namespace, tell: Tell) -> None:
    """Clips a second of a recipe's training step on batches that are there, and its share of the peak."""
    recipe = Document(HPARAMS / f"{name}.yaml")
    if args.quick:
        recipe.place("batch_size", 2)
    clips = recipe.plain()["train"]["batch_size"]
    batches = noise(max(clips, CLASSES), clips, args.device)
    with tempfile.TemporaryDirectory() as folder:
        brain = trainer(recipe, batches, Path(folder))
        batch = next(iter(batches))
        operations = _operations(brain, batch)
        _memory(args.device)
        product, count = jem.product(args)
        spent = turns({"step": lambda: brain.fit_batch(batch), "product": product}, args)
    step = statistics.median(spent["step"])
    pairs = zip(spent["product"], spent["step"], strict=True)
    share = operations / 2 / count * statistics.median(fast / slow for fast, slow in pairs)
    tell(
        batch_size=clips,
        step_s=round(step, 5),
        clips_per_s=round(clips / step, 2),
        step_tflop=round(operations / 1e12, 5),
        share_of_matmul_peak=round(share, 4),
        says=f"{clips / step:.4g} clips/s, {100 * share:.3g} % of the matrix product",
        **_memory(args.device),
    )


class _Nowhere:
    """In place of the counter's record of modules, whose hooks refuse the gradient of an input alone."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "_Nowhere":
        return self

    def __exit__(self, *raised: object) -> None:
        pass


def _operations(brain: ClassifierBrain, batch: Any) -> int:
    """Multiplications and additions of convolutions and matrix products of a step."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Nowhere()
    with counter:
        brain.fit_batch(batch)
    return counter.get_total_flops()


def mvj_step(args: argparse.Namespace, tell: Tell) -> None:
    """Cost of a step of MVJ over one of MVD, beside the arithmetic of both (`jem.py`)."""
    settings = argparse.Namespace(**vars(args), **(TINY if args.quick else jem.SIZES["cuda"]))
    settings.bf16 = not args.quick
    with tempfile.TemporaryDirectory() as folder:
        figures = jem.measure(settings, Path(folder))
    kept = ("ratio", "over", "arithmetic_ratio", "overhead", "overhead_beyond_passes",
            "throughput", "share_of_matmul_peak", "recording_saves", "ms")  # fmt: skip
    tell(
        **{name: figures[name] for name in kept if name in figures},
        says=f"{figures['ratio']} times MVD, {figures['arithmetic_ratio']} by arithmetic",
    )


def trainings(args: argparse.Namespace, tell: Tell) -> None:
    """EmoBack trainings an hour (ECAPA on RAVDESS) with 1, 4 and 8 processes on the device.

    Of the steps alone: what a training needs to start, validate and score is not in it.
    """
    clips, epochs = 1008, 100  # of the recipe's training set, and of its yaml
    name, window = ("ecapa_small", 0.1) if args.quick else ("ecapa", 12.0)
    recipe = document(HPARAMS.parents[1] / "RAVDESS" / "hparams" / f"{name}.yaml")
    if args.quick:
        recipe.place("batch_size", 2)
    steps = epochs * (clips // recipe.plain()["train"]["batch_size"])
    hourly: dict[str, float] = {}
    for count in (1, 2) if args.quick else (1, 4, 8):
        rates = together(_steps_a_second, count, way(args.device), recipe, args.device, window)
        hourly[str(count)] = round(3600 * math.fsum(rates) / steps, 2)
        says = ", ".join(f"{n} at a time {value:.4g}" for n, value in hourly.items())
        tell(model=name, steps_of_a_training=steps, per_hour=hourly, says=f"an hour: {says}")


def _steps_a_second(
    ready: Callable[[], object], recipe: Document, device: str, window: float
) -> float:
    """Steps a second of one process among several, once all are `ready`."""
    clips, seconds = (128, 3.0) if window > 1 else (24, 0.5)
    batches = noise(clips, recipe.plain()["train"]["batch_size"], device, seconds, 24)
    with tempfile.TemporaryDirectory() as folder:
        brain = trainer(recipe, batches, Path(folder))
        following = itertools.chain.from_iterable(itertools.repeat(batches))
        for _ in range(1 if window < 1 else 5):
            brain.fit_batch(next(following))
        ready()
        started, steps = time.perf_counter(), 0
        while (spent := time.perf_counter() - started) < window:
            brain.fit_batch(next(following))  # which waits for its loss
            steps += 1
    return steps / spent


def measured(quick: bool) -> dict[str, tuple[Callable[[argparse.Namespace, Tell], None], int]]:
    """The parts in their order, each with its limit in seconds, but for the last (`real.py`)."""
    speeds = {f"throughput_{name}": (functools.partial(throughput, name), 45)
              for name in (SMALL if quick else PUBLISHED)}  # fmt: skip
    return {
        "device": (device, 60),
        "peak": (peak, 30),
        **speeds,
        "mvj_step": (mvj_step, 90),
        "trainings": (trainings, 120),
        "smoke": (smoke, 180),
    }
