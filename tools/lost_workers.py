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
TIMES = {
    "time",
    "commit",
    "dirty",
    "wall_s",
    "train_s",
    "score_ms",
    "peak_memory_mb",
}  # when, and how long
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
    """A recipe with the table of this page, and its corpus; or those that stand there."""
    path = folder / "recipes" / "RAVDESS" / "experiments" / "lost.yaml"
    if path.exists():
        return path, folder / "clips"
    from disturbed import RECIPE, corpus  # with torch

    skip = shutil.ignore_patterns("exp", "data", "experiments")
    recipe = shutil.copytree(RECIPE, folder / "recipes" / "RAVDESS", ignore=skip)
    shutil.copytree(RECIPE.with_name("common"), recipe.with_name("common"))
    clips = corpus(folder / "clips")
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(TABLE, sort_keys=False))
    return path, clips


@contextlib.contextmanager
def two_nodes(**room: float) -> Iterator[tuple[str, int]]:
    """A Ray cluster of two nodes on this machine: its address, and the process of the second."""
    # Else what this machine does besides comes first, and workers wait for a second sweep.
    os.environ |= {"RAY_worker_niceness": "0", "RAY_prestart_worker_first_driver": "0"}
    from ray.cluster_utils import Cluster

    bare = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args=bare | room)
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


def measured(results: Path) -> set[str]:
    """Commands that have a record."""
    return {entry["command"] for entry in record.read(results)} if results.exists() else set()


def disturbed(
    command: Sequence[str], raylet: int, results: Path, listed: Sequence[Cell]
) -> dict[str, Any]:
    """Start a sweep, lose workers and sweep, and start it again; what happened."""

    def in_the_middle(share: float) -> bool:
        """Whether so many cells have a record, and one that has none is being run."""
        there = measured(results)
        if len(there) < share * len(listed):
            return False
        left = [cell for cell in listed if cell.told not in there]
        return any(program.state == "running" for program in programs(left))

    def until(there: Callable[[], Any]) -> Any:
        while not (found := there()):
            if sweep.poll() is not None:
                raise SystemExit(f"the sweep ended before it was disturbed: {sweep.stdout.read()}")
            time.sleep(0.1)
        return found

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sweep:
        killed = until(lambda: in_the_middle(0.25) and workers(raylet))
        for worker in killed:
            os.kill(worker, signal.SIGKILL)
        until(lambda: in_the_middle(0.5))
        sweep.kill()
    there = len(measured(results))
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
    """The whole comparison; cells of the serial run that stand in the folder are not run again."""
    path, corpus = table(folder)
    serial, swept = (folder / name / "RAVDESS.jsonl" for name in ("serial", "swept"))
    for cell in cells(path, "subset", str(corpus), *_places(serial.parent)):
        if cell.told not in measured(serial):
            words = [sys.executable, *shlex.split(cell.line)[1:]]
            subprocess.run(words, cwd=cell.folder, check=True, stdout=subprocess.DEVNULL)
    own, results = _places(swept.parent)
    listed = cells(path, "subset", str(corpus), own, results)
    command = [*SWEEP, str(path), "--scale=subset", f"--data_folder={corpus}"]
    command += [f"--results_folder={results}", *(f"--{key}={value}" for key, value in own.items())]
    with two_nodes(num_cpus=1) as (address, raylet):
        command.append(f"--address={address}")
        happened = disturbed(command, raylet, swept, listed)
    differ = differences(serial, swept)
    return {
        "name": "lost_workers",
        "ratio": 1 - len(differ) / len(listed),
        "over": "cells; those with one record, equal to a serial run's but for times and commit",
        "cells": len(listed),
        "programs": len(programs(listed)),
        **happened,
        "differ": differ,
        "cores": os.cpu_count(),
        "source": source(),
        "versions": versions(),
    }


def _places(folder: Path) -> tuple[dict[str, str], str]:
    """Options of the recipe, and the results folder, with which all goes below a folder."""
    return {"output_folder": str(folder / "exp")}, str(folder)


def main() -> int:
    """Measure; 1 if a cell has not its one record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="keep all here, and go on from the serial run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lost") as folder:
        found = measure(given.folder or Path(folder))
    print(json.dumps(found))
    return int(bool(found["differ"] or found["status"]))


if __name__ == "__main__":
    sys.exit(main())
