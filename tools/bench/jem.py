"""Cost of a training step of MVJ over one of MVD, and what the sampler adds to its passes.

A step is that of `ViewBrain` on one batch: features, views, samples (MVJ), loss, backward and Adam.
Arithmetic counts passes of one view: a forward is 1, the gradients of input and parameters 2, that
of the input alone 1. MVD takes 3 for each of B views. MVJ takes 3 for each of B views and S
samples, 2 for each sample and each of K Langevin steps, and 1 for each final sample, which the tuner
looks at. Few samples at once keep a device less busy than a batch, so `overhead` (beyond arithmetic)
tells what that costs, too, and `overhead_beyond_passes` leaves it out: it compares the step with its
bare passes, B + S views forward and backward and S views K times forward and back to the input. MVD
has one, too: features, norm of the gradient and Adam. `throughput` counts views trained on (B a
step). On a GPU `recording_saves` is the time of a step whose Langevin steps are not recorded over one
whose are. All takes turns. With `--bf16`, the multiply-adds of a step a second are also given as a share
of those of a large bfloat16 matrix product. The last line is one JSON object.
"""

import argparse
import functools
import json
import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from shared.timing import facts, options, precision, ratio, summary, turns
from shared.trainers import CLASSES, noise
from views import multiply_adds, network

from bdlib.cli.command import guarded
from bdlib.corpus import Batches
from bdlib.models.wide_resnet import WideResNet
from bdlib.training.classifier_brain import Training
from bdlib.training.jem_brain import ViewBrain
from bdlib.training.sgld import SgldSettings

RATE = 1e-6  # of Adam; so small that the weights are the same in every turn
SIZES = {
    "quick": {"depth": 16, "width": 1, "mels": 40, "batch_size": 8, "samples": 6, "steps": 5},
    "cuda": {"depth": 28, "width": 10, "mels": 80, "batch_size": 64, "samples": 6, "steps": 21},
    "cpu": {"depth": 16, "width": 4, "mels": 40, "batch_size": 16, "samples": 6, "steps": 21},
}


def gpu(args: argparse.Namespace) -> bool:
    """Is the device a GPU?"""
    return args.device.startswith("cuda")


def brains(args: argparse.Namespace, train: Batches, folder: Path) -> dict[str, ViewBrain]:
    """MVD and MVJ over the same net, ready for a step; on a GPU also MVJ without a recording."""
    training = Training(
        number_of_epochs=1,
        batch_size=args.batch_size,
        optimizer=torch.optim.Adam,
        patience=1,
        warmup_epochs=0,
        max_grad_norm=math.inf,
        schedule=lambda step, total: RATE,
        loss=torch.nn.functional.cross_entropy,
    )
    run_opts = {"device": args.device, "precision": "bf16" if args.bf16 else "fp32"}
    net = network(args).to(args.device)
    made = {}
    sampled = SgldSettings(args.samples, args.steps)
    kinds = {"mvd": None, "mvj": sampled} | ({"mvj_unrecorded": sampled} if gpu(args) else {})
    for name, sgld in kinds.items():
        brain = ViewBrain(net, training, train, folder / name, 0, run_opts, sgld=sgld)
        if brain.sampler is not None:
            brain.sampler.recorded = name == "mvj"
        brain.on_fit_start()
        brain.modules.train()
        made[name] = brain
    return made


def passes(net: WideResNet, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The bare passes of the steps: without features, buffers, noise, tuner and Adam."""

    def views(count: int) -> torch.Tensor:
        return torch.randn(count, net.view_frames, args.mels, device=args.device)

    def height(inputs: torch.Tensor) -> torch.Tensor:
        return net.view_logits(inputs).float().logsumexp(2).sum()

    def trained(inputs: torch.Tensor) -> None:
        net.zero_grad(set_to_none=True)
        with precision(args):
            loss = height(inputs)
        loss.backward()

    def climbed(inputs: torch.Tensor) -> None:
        with precision(args):
            for _ in range(args.steps):
                torch.autograd.grad(height(inputs), inputs)

    def judged(inputs: torch.Tensor) -> None:
        with precision(args), torch.no_grad():
            height(inputs)

    samples = views(args.samples)
    return {
        "batch": functools.partial(trained, views(args.batch_size)),
        "batch_and_samples": functools.partial(trained, views(args.batch_size + args.samples)),
        "chain": functools.partial(climbed, samples.clone().requires_grad_(True)),
        "final_samples": functools.partial(judged, samples),
    }


def product(args: argparse.Namespace) -> tuple[Callable[[], object], int]:
    """A large matrix product, in bfloat16 on a GPU, and its multiply-adds.

    In float32 on a CPU: one without instructions for bfloat16 takes many times as long for it.
    """
    size, dtype = (8192, torch.bfloat16) if gpu(args) else (1024, torch.float32)
    matrix = torch.randn(size, size, device=args.device, dtype=dtype)
    return lambda: matrix @ matrix, size**3


def arithmetic(args: argparse.Namespace) -> dict[str, int]:
    """Passes of one view in a step (see the docstring of this file)."""
    batch, samples = args.batch_size, args.samples
    return {
        "mvd": 3 * batch,
        "mvj": 3 * (batch + samples) + 2 * samples * args.steps + samples,
    }


def report(seconds: dict[str, list[float]], args: argparse.Namespace) -> dict:
    """Ratios of each turn, overheads and throughput."""
    steps = ratio(seconds["mvj"], seconds["mvd"])
    counts = arithmetic(args)
    expected = counts["mvj"] / counts["mvd"]
    parts = zip(
        *(seconds[name] for name in ("batch_and_samples", "chain", "final_samples")), strict=True
    )
    beyond = {
        "mvd": ratio(seconds["mvd"], seconds["batch"]),
        "mvj": ratio(seconds["mvj"], [sum(turn) for turn in parts]),
    }
    over = {name: round(spread["median"] - 1, 3) for name, spread in beyond.items()}
    median = {name: statistics.median(values) for name, values in seconds.items()}
    saved = {}
    if gpu(args):
        saved["recording_saves"] = ratio(seconds["mvj_unrecorded"], seconds["mvj"])
    return saved | {
        "name": "jem",
        "ratio": steps["median"],
        "over": "time of a training step of MVJ over that of one of MVD",
        "ratio_spread": steps,
        "arithmetic_ratio": round(expected, 3),
        "overhead": round(steps["median"] / expected - 1, 3),
        "overhead_beyond_passes": over["mvj"],
        "overhead_beyond_passes_of_mvd": over["mvd"],
        "throughput": {name: round(args.batch_size / median[name], 2) for name in counts},
        "ms": {
            name: summary([1000 * value for value in values], 3) for name, values in seconds.items()
        },
    }


def share_of_peak(
    seconds: dict[str, list[float]], counts: dict[str, int], view: int, peak: int
) -> dict[str, float]:
    """Multiply-adds a second of each step over those of the matrix product.

    `counts` are passes of a step, each of `view` multiply-adds; `peak` is those of the product.
    """
    shares = {}
    for name, count in counts.items():
        turn = zip(seconds["product"], seconds[name], strict=True)
        quotient = statistics.median(fastest / step for fastest, step in turn)
        shares[name] = round(count * view / peak * quotient, 4)
    return shares


def measure(args: argparse.Namespace, folder: Path) -> dict:
    """All figures for the sizes asked for; `folder` is for what a training writes."""
    torch.manual_seed(0)
    train = noise(max(args.batch_size, CLASSES), args.batch_size, args.device)
    batch = next(iter(train))
    trained = brains(args, train, folder)
    net = trained["mvd"].classifier
    works: dict[str, Callable[[], object]] = {
        name: functools.partial(brain.fit_batch, batch) for name, brain in trained.items()
    }
    works |= passes(net, args)
    if not args.bf16:
        return report(turns(works, args), args) | vars(args) | facts(args.device)
    works["product"], peak = product(args)
    seconds = turns(works, args)
    view = multiply_adds(args, net.view_frames)
    share = share_of_peak(seconds, arithmetic(args), view, peak)
    figures = report(seconds, args) | {"share_of_matmul_peak": share}
    return figures | vars(args) | facts(args.device)


def main() -> None:
    """Command line."""
    args = options(__doc__, SIZES)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(args, Path(folder))))


if __name__ == "__main__":
    with guarded():
        main()
