"""Loses the workers of a node and then the driver of a sweep, and compares what the next one leaves.

A table of 20 small cells, trainings and guards, is run by one program a cell, one after the other. Then
`tools/sweep.py` runs it on a Ray cluster of two nodes, both on this machine: when a quarter of the cells
has a record, all workers of the second node are killed, and at half of them the sweep itself; the same
command is started again. Each cell must have one record, the one of the serial run but for its times.
The last line is one JSON object.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdlib.cli.cells import Cell, cells
from bdlib.cli.programs import programs
from bdlib.records import record
from bdlib.records.provenance import source, versions

ROOT = Path(__file__).resolve().parents[1]
SWEEP = [sys.executable, str(ROOT / "tools" / "sweep.py")]
TIMES = {"time", "wall_s", "train_s", "peak_memory_mb"}  # differ from run to run
TABLE = {
    "experiment": "lost",
    "seeds": [0, 1, 2, 3, 4],
    "options": {
        **{"number_of_epochs": 2, "batch_size": 16, "seconds": 0.7, "n_mels": 8},
        "attack": "tone",
    },
    "grid": [
        {"rate": [0.2, 0.4], "model": ["xvector_small"]},
        {"rate": [0.2], "model": ["xvector_small"], "defense": ["time_shift"], "most": [0.1, 0.2]},
    ],
    "scales": {"subset": {}},
}


def table(folder: Path) -> tuple[Path, Path]:
    """A recipe with the table of this page, and its corpus."""
    from disturbed import RECIPE, corpus  # with torch

    skip = shutil.ignore_patterns("exp", "data", "experiments")
    recipe = shutil.copytree(RECIPE, folder / "recipes" / "RAVDESS", ignore=skip)
    shutil.copytree(RECIPE.with_name("common"), recipe.with_name("common"))
    path = recipe / "experiments" / "lost.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(TABLE, sort_keys=False))
    return path, corpus(folder / "clips")


@contextlib.contextmanager
def two_nodes(**room: float) -> Iterator[tuple[str, int]]:
    """A Ray cluster of two nodes on this machine: its address, and the process of the second."""
    os.environ |= {"RAY_worker_niceness": "0"}  # or whatever else this machine does comes first
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **room})
    try:
        second = cluster.add_node(**room)
        yield cluster.address, second.all_processes["raylet"][0].process.pid
    finally:
        cluster.shutdown()


def workers(raylet: int) -> list[int]:
    """The workers of a node that run a program."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone by now
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == raylet and b"ray::run" in status.with_name("cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


def disturbed(
    command: Sequence[str], raylet: int, results: Path, listed: Sequence[Cell]
) -> dict[str, Any]:
    """Start a sweep, lose workers and sweep, and start it again; what happened."""

    def measured() -> set[str]:
        return {entry["command"] for entry in record.read(results)} if results.exists() else set()

    def in_the_middle(share: float) -> bool:
        """Whether so many cells have a record, and one that has none is being run."""
        left = [cell for cell in listed if cell.told not in measured()]
        enough = len(left) <= (1 - share) * len(listed)
        return enough and any(program.state == "running" for program in programs(left))

    def until(there: Callable[[], Any]) -> Any:
        while not (found := there()):
            if sweep.poll() is not None:
                raise SystemExit(f"the sweep ended before it was disturbed: {sweep.stdout.read()}")
            time.sleep(0.05)
        return found

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sweep:
        killed = until(lambda: in_the_middle(0.25) and workers(raylet))
        for worker in killed:
            os.kill(worker, signal.SIGKILL)
        until(lambda: in_the_middle(0.5))
        sweep.kill()
    there = len(measured())
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return {
        "killed_workers": len(killed),
        "records_when_the_sweep_was_killed": there,
        "then": again.stdout.partition("\n")[0],
        "status": again.returncode,
    }


def timeless(value: Any) -> Any:
    """A record without its times."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return value


def differences(one: Path, other: Path) -> list[str]:
    """Commands that have not one record in each of two files, the same but for times."""
    first, second = record.read(one), record.read(other)
    commands = {entry["command"] for entry in first + second}

    def of(command: str, entries: list[dict[str, Any]]) -> list[Any]:
        return [timeless(entry) for entry in entries if entry["command"] == command]

    return sorted(
        command
        for command in commands
        if len(of(command, first)) != 1 or of(command, first) != of(command, second)
    )


def measure(folder: Path) -> dict[str, Any]:
    """The whole comparison."""
    path, corpus = table(folder)
    listed = cells(path, "subset", str(corpus))
    serial, swept = folder / "serial", folder / "swept"
    started = time.monotonic()
    for cell in listed:
        places = [f"--output_folder={serial}/exp", f"--results_folder={serial}"]
        words = [sys.executable, *shlex.split(cell.line)[1:], *places]
        subprocess.run(words, cwd=cell.folder, check=True, stdout=subprocess.DEVNULL)
    one_by_one = time.monotonic() - started
    with two_nodes(num_cpus=1) as (address, raylet):
        command = [*SWEEP, str(path), "--scale=subset", f"--data_folder={corpus}"]
        command += [f"--address={address}", f"--results_folder={swept}"]
        command += [f"--output_folder={swept}/exp"]
        started = time.monotonic()
        happened = disturbed(command, raylet, swept / "RAVDESS.jsonl", listed)
        on_ray = time.monotonic() - started
    differ = differences(serial / "RAVDESS.jsonl", swept / "RAVDESS.jsonl")
    return {
        "name": "lost_workers",
        "ratio": round(on_ray / one_by_one, 3),
        "over": "seconds of one program a cell, one after the other, without kills",
        "seconds": {"swept": round(on_ray, 1), "one_by_one": round(one_by_one, 1)},
        "cells": len(listed),
        "programs": len(programs(listed)),
        **happened,
        "differ": differ,
        "cores": os.cpu_count(),
        "source": source(),
        "versions": versions(),
    }


def main() -> int:
    """Measure; 1 if a cell has not its one record."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory(prefix="lost") as folder:
        found = measure(Path(folder))
    print(json.dumps(found))
    return int(bool(found["differ"] or found["status"]))


if __name__ == "__main__":
    sys.exit(main())
