"""What the benchmarks share: options, work that takes turns, and spreads."""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

from bdlib.errors import InputError
from bdlib.records.provenance import source, versions
from bdlib.stages.compute import exact_float32

Sizes = dict[str, dict[str, int]]
"""Defaults by option name, for each of "quick", "cuda" and "cpu"."""


def options(doc: str, sizes: Sizes) -> argparse.Namespace:
    """The command line: `quick`, `bf16`, `device` and whole numbers with defaults from `sizes`.

    Raises
    ------
    InputError
        If torch has no such device.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help="a smaller run, within a minute")
    parser.add_argument("--bf16", action="store_true", help="time under bfloat16 autocast")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    for name in sizes["cpu"]:
        shown = ", ".join(f"{kind} {size[name]}" for kind, size in sizes.items())
        parser.add_argument(f"--{name}", type=_positive, help=f"default: {shown}")
    args = parser.parse_args()
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros((), device=args.device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"--device={args.device}: {why}; give cpu or cuda") from error
    if args.device.startswith("cuda"):
        exact_float32()  # as the recipes do
    kind = "quick" if args.quick else args.device.partition(":")[0]
    for name, value in sizes.get(kind, sizes["cpu"]).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number above 0")
    return int(text)


def precision(args: argparse.Namespace) -> torch.autocast:
    """bfloat16 autocast where `--bf16` asks for it."""
    kind = args.device.partition(":")[0]
    return torch.autocast(kind, torch.bfloat16, enabled=args.bf16)


def turns(
    works: dict[str, Callable[[], object]],
    args: argparse.Namespace,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list]:
    """Seconds a call of each work in each turn, in which every work has its time.

    A work that is short is called several times, so that the clock and the last wait for the device
    do not count. One call before is not timed. `time.process_time` as the clock counts what the
    processor does for this process, and not what others make it wait.
    """
    repeats, least = (3, 0.02) if args.quick else (7, 0.5)
    calls = {}
    for name, work in works.items():
        work()
        calls[name] = math.ceil(least / _seconds(work, 1, args.device, clock))
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in tqdm(range(repeats), desc="measuring", leave=False, disable=None):
        for name, work in works.items():
            spent[name].append(_seconds(work, calls[name], args.device, clock))
    return spent


def _seconds(
    work: Callable[[], object], calls: int, device: str, clock: Callable[[], float]
) -> float:
    """Of one call, where the device has done all it was given."""
    _wait(device)
    started = clock()
    for _ in range(calls):
        work()
    _wait(device)
    return (clock() - started) / calls


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Spread of the quotient in each turn."""
    return summary([a / b for a, b in zip(above, below, strict=True)], 3)


def summary(values: list[float], digits: int) -> dict[str, float]:
    """Median, least and most."""
    spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits or None) for name, value in spread.items()}


def facts(device: str) -> dict[str, Any]:
    """What the figures were measured with, and by which code."""
    name = device
    if device.startswith("cuda"):
        name += f" ({torch.cuda.get_device_name(device)})"
    about = {"device": name, "threads": torch.get_num_threads(), "versions": versions()}
    return about | source()
