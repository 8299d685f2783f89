"""Cost of one pass over all views of a clip, beside one view and beside separate passes.

A clip of 100 frames has 40 views of 61 frames. The wide residual net gives the logits of all in one
pass; first it is checked, in float32, that they equal those of 40 separate passes.
Multiply-adds of convolutions and matrix products are counted on the graph, for no time; `overhead`
is what one pass costs beyond them. The ways take turns, so that a slow moment strikes all; features
are given, except where whole classifications of waveforms are compared (`over_plain`). The last line
is one JSON object.
"""

import argparse
import copy
import json
from collections.abc import Callable

import torch
from shared.timing import facts, options, precision, ratio, summary, turns
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bdlib.cli.command import guarded
from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.models.wide_resnet import WideResNet

FRAMES, SAMPLES, CLASSES = 100, 16000, 12
LARGEST = 1e-4  # difference between one pass and separate passes
SIZES = {
    "quick": {"depth": 16, "width": 1, "mels": 80, "batch_size": 1},
    "cuda": {"depth": 28, "width": 10, "mels": 80, "batch_size": 64},
    "cpu": {"depth": 28, "width": 10, "mels": 80, "batch_size": 1},
}


def network(args: argparse.Namespace) -> WideResNet:
    """The net of the sizes asked for, on the current default device."""
    return WideResNet(NormalizedFbank(args.mels), CLASSES, args.depth, args.width)


def multiply_adds(args: argparse.Namespace, frames: int) -> int:
    """Of a forward pass over `frames` frames of one clip, counted without computing them."""
    with torch.device("meta"):
        net, clip = network(args), torch.empty(1, frames, args.mels)
    with FlopCounterMode(display=False) as counter:
        net.view_logits(clip)
    return counter.get_total_flops() // 2


def apart(net: WideResNet, clips: Tensor) -> Tensor:
    """Logits (B, views, C) of clips (B, T, F) by a pass for each view."""
    views = clips.unfold(1, net.view_frames, 1).transpose(2, 3)  # (B, views, frames, F)
    return torch.cat([net.view_logits(view) for view in views.unbind(1)], 1)


@torch.no_grad()
def differences(net: WideResNet, clips: Tensor) -> dict[str, float]:
    """Of one pass from separate passes, at most, and how far apart the views of a clip are.

    Raises
    ------
    InputError
        If the two differ by more than `LARGEST`.
    """
    together = net.view_logits(clips)
    largest = float((together - apart(net, clips)).abs().max())
    if not largest <= LARGEST:
        raise InputError(
            f"one pass differs from separate passes by {largest:.2g}, more than {LARGEST}; "
            "run tests/models/test_wide_resnet.py, and try --device=cpu"
        )
    return {"max_difference": largest, "deviation_of_views": float(together.std(1).mean())}


def ways(
    net: WideResNet, clips: Tensor, args: argparse.Namespace
) -> dict[str, Callable[[], object]]:
    """All that is timed."""
    view = clips[:, : net.view_frames].contiguous()
    wavs, lens = torch.randn(len(clips), SAMPLES) / 10, torch.ones(len(clips))
    wavs, lens = wavs.to(clips), lens.to(clips)
    plain = copy.copy(net)  # the same weights
    plain.multi_view = False

    def forward(work: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad(), precision(args):
                work(*inputs)

        return run

    def backward(features: Tensor) -> Callable[[], object]:
        def run() -> None:
            net.zero_grad(set_to_none=True)
            with precision(args):
                loss = net.join(net.view_logits(features).float()).sum()
            loss.backward()

        return run

    return {
        "view": forward(net.view_logits, view),
        "pass": forward(net.view_logits, clips),
        "apart": forward(lambda: apart(net, clips)),
        "view_backward": backward(view),
        "pass_backward": backward(clips),
        "joined": forward(net, wavs, lens),
        "plain": forward(plain, wavs, lens),
    }


def report(seconds: dict[str, list[float]], view: int, whole: int) -> dict:
    """Ratios of each turn; `view` and `whole` are multiply-adds of one view and of one pass."""
    forward = ratio(seconds["pass"], seconds["view"])
    backward = ratio(seconds["pass_backward"], seconds["view_backward"])
    return {
        "name": "views",
        "ratio": forward["median"],
        "over": "time of one forward pass over all 40 views over that of one view",
        "ratio_spread": forward,
        "ratio_backward": backward["median"],
        "ratio_backward_spread": backward,
        "arithmetic_ratio": round(whole / view, 3),
        "overhead": round(forward["median"] * view / whole - 1, 3),
        "overhead_backward": round(backward["median"] * view / whole - 1, 3),
        "naive_ratio": ratio(seconds["apart"], seconds["view"])["median"],
        "over_plain": ratio(seconds["joined"], seconds["plain"])["median"],
        "multiply_adds": {"view": view, "pass": whole},
        "ms": {
            name: summary([1000 * value for value in values], 3) for name, values in seconds.items()
        },
    }


def measure(args: argparse.Namespace) -> dict:
    """All figures for the sizes asked for."""
    torch.manual_seed(0)
    net = network(args).to(args.device).eval()
    clips = torch.randn(args.batch_size, FRAMES, args.mels).to(args.device)
    checked = differences(net, clips)
    seconds = turns(ways(net, clips, args), args)
    macs = [multiply_adds(args, frames) for frames in (net.view_frames, FRAMES)]
    return report(seconds, *macs) | checked | vars(args) | facts(args.device)


def main() -> None:
    """Command line."""
    print(json.dumps(measure(options(__doc__, SIZES))))


if __name__ == "__main__":
    with guarded():
        main()
