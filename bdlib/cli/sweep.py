"""Run the cells of an experiment that have no record yet, each as a program of its own, on Ray."""

import argparse
import ctypes
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from bdlib.cli.cells import SCRATCH, Cell, cells
from bdlib.cli.command import guarded, told
from bdlib.errors import InputError
from bdlib.files import digest
from bdlib.records import record
from bdlib.records.provenance import place, source, versions


def done(folders: Iterable[Path], scale: str) -> dict[str, str]:
    """Commands that have a record in some results folders, and the status of the newest.

    What was measured on less than all data is no cell of a full table.
    """
    newest = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.jsonl"))):
        for entry in record.read(path):
            if scale != "full" or entry["dataset"]["scale"] == "full":
                newest[told(entry["command"], entry["dataset"]["name"])] = entry["status"]
    return newest


def pending(listed: Sequence[Cell], folders: Iterable[Path], scale: str, retry: bool) -> list[Cell]:
    """The cells without a record; with `retry` also those whose newest record is a failure."""
    known = done(folders, scale)
    skip = {"ok"} if retry else {"ok", "failed"}
    return [cell for cell in listed if known.get(cell.told) not in skip]


def run(cell: Cell) -> tuple[int, float]:
    """Run a cell with its output in its log; exit code and seconds. It dies with its parent."""
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    started = time.time()
    with cell.log.open("w") as log:
        code = subprocess.run(
            [sys.executable, *shlex.split(cell.line)[1:]],
            cwd=cell.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
            preexec_fn=_die_with_parent,
        ).returncode
    return code, time.time() - started


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: a lost worker leaves no orphan


def record_failure(cell: Cell, scale: str, results: Path, seconds: float) -> None:
    """Append a failed record with the last lines of the log."""
    options = dict(option[2:].partition("=")[::2] for option in cell.options)
    entry = {
        "schema": record.SCHEMA,
        "id": digest(["failed", cell.told, time.time()]),
        **source(),
        "command": cell.told,
        "recipe": place(cell.folder.resolve()),
        "status": "failed",
        "error": "\n".join(cell.log.read_text(errors="replace").splitlines()[-5:]),
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


def sweep(listed: Sequence[Cell], given: argparse.Namespace, results: Path) -> int:
    """Run cells on Ray as resources allow; the number that failed."""
    try:
        import ray
    except ImportError as error:
        raise InputError('sweeps need Ray: pip install -e ".[sweep]"') from error
    ray.init(address=given.address, log_to_driver=False, logging_level="error")
    there = ray.cluster_resources()
    cpus = given.cpus_per_cell or there["CPU"]
    gpus = min(1, there.get("GPU", 0)) if given.gpus_per_cell is None else given.gpus_per_cell
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=3)(run)
    waiting = {remote.remote(cell): cell for cell in listed}
    failed = 0
    try:
        with tqdm(total=len(listed), unit="cell", desc=given.experiment.stem) as progress:
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                cell = waiting.pop(ready)
                code, seconds = ray.get(ready)
                if code:
                    failed += 1
                    record_failure(cell, given.scale, results, seconds)
                    tqdm.write(f"failed: {cell.line}\n  its log: {cell.log}")
                progress.update()
    finally:
        ray.shutdown()
    return failed


def main() -> None:
    """``tools/sweep.py``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="recipes/<Dataset>/experiments/<name>.yaml")
    parser.add_argument("--scale", default="full", choices=record.SCALES)
    parser.add_argument("--data_folder", help="the corpus; not needed for --scale mini")
    parser.add_argument(
        "--results_folder",
        default=SCRATCH,
        help="where records go: by default exp/results of the recipe; results publishes them",
    )
    parser.add_argument("--max-runs", type=int, help="run at most so many cells")
    parser.add_argument("--retry-failed", action="store_true", help="try failed cells again")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and stop")
    parser.add_argument(
        "--export-commands", action="store_true", help="print shell commands and stop"
    )
    parser.add_argument("--address", help="a Ray cluster; default: this machine alone")
    parser.add_argument("--cpus_per_cell", type=float, help="default: all, one cell at a time")
    parser.add_argument(
        "--gpus_per_cell", type=float, help="default: one, where there are any; 0.25 packs four"
    )
    given = parser.parse_args()
    with guarded():
        listed = cells(given.experiment, given.scale, given.data_folder, given.results_folder)
        recipe = listed[0].folder
        results = recipe / SCRATCH
        if given.results_folder != SCRATCH:
            results = Path(given.results_folder)
        published = recipe / "../../results"
        todo = pending(listed, (published, results), given.scale, given.retry_failed)
        if given.export_commands:
            for cell in todo:
                print(f"cd {shlex.quote(str(cell.folder))} && {cell.line}")
            return
        print(f"{len(listed)} cells, {len(listed) - len(todo)} have a record, {len(todo)} to run")
        todo = todo[: given.max_runs]
        if given.dry_run:
            print("\n".join(cell.line for cell in todo))
        elif todo and (failed := sweep(todo, given, results)):
            raise InputError(
                f"{failed} cells failed; their records say why, --retry-failed tries again"
            )
