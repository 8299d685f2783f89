"""What a step of GN-FT costs over one of fine-tuning.

Both are whole steps of the small residual net on waveforms, front end and optimiser included. GN-FT
goes through the net twice; what the ratio has beyond 2 is the probe, and what it lacks is what both
do once. The exact form, through the second derivative, is timed beside them. The ways take turns, so
that a slow moment strikes all. The last line is one JSON object.
"""

import argparse
import copy
import json
from collections.abc import Callable

import torch
from shared.timing import facts, options, precision, ratio, summary, turns

from bdlib.cli.command import guarded
from bdlib.corpus import Batch
from bdlib.defenses.repair.fine_tuning import descent
from bdlib.defenses.repair.gradient_norm import GradientNorm
from bdlib.defenses.repair.tuning import Gradient
from bdlib.features import NormalizedFbank
from bdlib.models.keyword import SmallResNet

SAMPLES, CLASSES = 16000, 12
SIZES = {
    "quick": {"width": 16, "mels": 40, "batch_size": 8},
    "cuda": {"width": 16, "mels": 64, "batch_size": 128},
    "cpu": {"width": 16, "mels": 64, "batch_size": 32},
}
WAYS: dict[str, Gradient] = {
    "fine_tuning": descent,
    "gn_ft": GradientNorm().penalised,
    "exact": GradientNorm(exact=True).penalised,
}


def steps(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """A step of each way, on a net of its own."""
    torch.manual_seed(0)
    channels = [args.width * factor for factor in (1, 2, 4, 8)]
    given = SmallResNet(NormalizedFbank(args.mels), CLASSES, channels).to(args.device).train()
    wavs = (torch.randn(args.batch_size, SAMPLES) / 10).to(args.device)
    labels = torch.arange(args.batch_size, device=args.device) % CLASSES
    batch = Batch([""] * len(wavs), wavs, torch.ones(len(wavs), device=args.device), labels)

    def step(gradient: Gradient) -> Callable[[], object]:
        net = copy.deepcopy(given)
        optimizer = torch.optim.SGD(net.parameters(), 1e-4, 0.9, weight_decay=5e-4)

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            with precision(args):
                gradient(net, batch)
            optimizer.step()

        return run

    return {name: step(gradient) for name, gradient in WAYS.items()}


def report(seconds: dict[str, list[float]]) -> dict:
    """Ratios of each turn."""
    cost = ratio(seconds["gn_ft"], seconds["fine_tuning"])
    return {
        "name": "repair",
        "ratio": cost["median"],
        "over": "time of a step of GN-FT over that of a step of fine-tuning",
        "ratio_spread": cost,
        "ratio_exact": ratio(seconds["exact"], seconds["fine_tuning"])["median"],
        "ms": {
            name: summary([1000 * value for value in values], 3) for name, values in seconds.items()
        },
    }


def main() -> None:
    """Command line."""
    args = options(__doc__, SIZES)
    print(json.dumps(report(turns(steps(args), args)) | vars(args) | facts(args.device)))


if __name__ == "__main__":
    with guarded():
        main()
