"""The programs of a sweep on Ray: as many at once as there is room for, again where they were lost."""

import argparse
import contextlib
import ctypes
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from bdlib.cli.cells import Cell
from bdlib.cli.programs import Program
from bdlib.errors import InputError
from bdlib.files import digest
from bdlib.records import record
from bdlib.records.provenance import place, source, versions

RETRIES = 3  # of a program that was stopped from outside, or whose worker or node was lost
INTERRUPTED = 130  # what a program ends with after Ctrl-C


class Stopped(Exception):
    """A program did not end by itself: the system, its node's scheduler or somebody stopped it."""


def run(program: Program) -> tuple[int, float]:
    """Run a program with its output in its log; exit code and seconds. It dies with its parent.

    The program inherits the lock of its log. So one that outlives its worker for a moment, or that
    another sweep runs, is waited for, and `Program.state` knows of it.

    Raises
    ------
    Stopped
        If it was stopped by a signal.
    """
    program.log.parent.mkdir(parents=True, exist_ok=True)
    started = time.time()
    with program.log.open("a") as log:
        with contextlib.suppress(OSError):  # of a file system without locks
            fcntl.flock(log, fcntl.LOCK_EX)
        log.truncate(0)
        code = subprocess.run(
            [sys.executable, *shlex.split(program.line)[1:]],
            cwd=program.folder,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},  # what it said stands, however it ends
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
            preexec_fn=_die_with_parent,
        ).returncode
        if code < 0 or code == INTERRUPTED:
            number = signal.SIGINT if code > 0 else -code
            log.write(f"\nstopped by {signal.Signals(number).name}\n")
            raise Stopped(program.line)
    return code, time.time() - started


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: a lost worker leaves no orphan


def record_failure(cell: Cell, log: Path, scale: str, results: Path, seconds: float) -> None:
    """Append a failed record with the last lines of the log."""
    options = dict(option[2:].partition("=")[::2] for option in cell.options)
    entry = {
        "schema": record.SCHEMA,
        "id": digest(["failed", cell.told, time.time()]),
        **source(),
        "command": cell.told,
        "recipe": place(cell.folder.resolve()),
        "status": "failed",
        "error": "\n".join(log.read_text(errors="replace").splitlines()[-5:]),
        "dataset": {
            "name": cell.folder.name,
            "variant": None,
            "scale": scale,
            "digest": "",
            "counts": {},
        },
        "model": {"name": Path(cell.yaml).stem, "yaml": cell.yaml},
        "attack": None,
        "defense": None,
        "experiment": options["experiment"],
        "seed": int(options["seed"]),
        "metrics": {},
        "runtime": {"wall_s": round(seconds, 1)},
        "versions": versions(),
    }
    record.append(results / f"{cell.folder.name}.jsonl", entry)


def shares(
    nodes: Sequence[Mapping[str, float]], cpus: float | None, gpus: float | None
) -> tuple[float, float]:
    """CPUs and GPUs of a program.

    By default one GPU where there are any, and its share of the CPUs; else all CPUs of the smallest node.

    Arguments
    ---------
    nodes : Sequence[Mapping[str, float]]
        Of each node its `CPU` and, where it has any, `GPU`.
    cpus, gpus : float | None
        What was asked.

    Raises
    ------
    InputError
        If it is no share of a machine, or no node has that much.
    """
    if gpus is None:
        gpus = min(1, max(node.get("GPU", 0) for node in nodes))
    if cpus is None:
        least = [
            node["CPU"] * (min(1, gpus / node["GPU"]) if gpus else 1)
            for node in nodes
            if node.get("CPU") and (node.get("GPU") or not gpus)
        ]
        cpus = min(least, default=1)
        cpus = int(cpus) if cpus > 1 else cpus
    for name, share in (("cpus", cpus), ("gpus", gpus)):
        if not (0 <= share <= 1 or share == share // 1 > 0):
            raise InputError(f"--{name}_per_cell={share}: give a share of one, or a whole number")
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        raise InputError(
            f"no node has {cpus:g} CPUs and {gpus:g} GPUs, which a cell takes; "
            "give less by --cpus_per_cell and --gpus_per_cell"
        )
    return cpus, gpus


def sweep(todo: Sequence[Program], given: argparse.Namespace, results: Path) -> int:
    """Run programs on Ray as there is room; the number of cells that failed.

    A program stops at its first cell that fails; the cells after it are another program.

    Raises
    ------
    InputError
        If there is no Ray, or no room for any program.
    """
    ray, failed = _started(given.address), 0
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus, gpus = shares(nodes, given.cpus_per_cell, given.gpus_per_cell)
        room = {"num_cpus": cpus, "num_gpus": gpus}
        remote = ray.remote(**room, max_retries=RETRIES, retry_exceptions=[Stopped])(run)
        waiting = {remote.remote(program): program for program in todo}
        cells = sum(len(program.cells) for program in todo)
        with tqdm(total=cells, unit="cell", desc=given.experiment.stem) as progress:
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                program = waiting.pop(ready)
                code, seconds = _ended(ray, ready, program)
                bad, rest = program.failure() if code else (None, None)
                if bad:
                    failed += 1
                    record_failure(bad, program.log, given.scale, results, seconds)
                    tqdm.write(f"failed: {bad.line}\n  its log: {program.log}")
                if rest:
                    waiting[remote.remote(rest)] = rest
                progress.update(len(program.cells) - len(rest.cells if rest else ()))
    finally:
        ray.shutdown()
    return failed


def _started(address: str) -> ModuleType:
    """Ray, connected to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise InputError('sweeps need Ray: pip install -e ".[sweep]"') from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"--address={address}: {why}; give host:port, or auto") from error
    return ray


def _ended(ray: ModuleType, ready: Any, program: Program) -> tuple[int, float]:
    """What `run` returned; of a program that was lost more often than it is tried again, a failure."""
    try:
        return ray.get(ready)
    except ray.exceptions.RayError as error:
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("a") as log:
            log.write(f"\nlost {RETRIES + 1} times: {type(error).__name__}\n")
        return INTERRUPTED, 0.0
