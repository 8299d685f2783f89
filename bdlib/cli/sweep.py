"""Run the cells of an experiment that have no record yet, each as a program of its own, on Ray."""

import argparse
import contextlib
import ctypes
import importlib.util
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from bdlib import stages
from bdlib.cli.cells import SCRATCH, Cell, cells, counts
from bdlib.cli.command import guarded, parser, read, told
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


def options(words: Sequence[str]) -> dict[str, str]:
    """Options of the recipe among the words of a command line, such as ``--test_folder=archive``.

    Raises
    ------
    InputError
        If a word is none.
    """
    for word in words:
        if not re.fullmatch(r"--\w+=.*", word):
            raise InputError(f"{word}: no option; write --key=value, or see --help")
    return dict(word[2:].split("=", 1) for word in words)


def check(cell: Cell, asked: dict[str, int] | None) -> None:
    """Refuse options that the recipe of a cell has not, and a corpus of other counts than asked.

    Arguments
    ---------
    cell : Cell
        Any one of those that are to run.
    asked : dict[str, int] | None
        Clips by split, as a paper has them; None takes any corpus.

    Raises
    ------
    InputError
        If so.
    """
    program = parser("")
    program.add_argument("--defense")
    with contextlib.chdir(cell.folder):
        recipe, _ = read(shlex.split(cell.line)[2:], program)
        if asked is None:
            return
        spec = importlib.util.spec_from_file_location("prepare", Path("prepare.py"))
        own = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(own)
        about = stages.prepare(recipe, own.prepare).about
    if about["counts"] != asked:
        wanted, found = (
            ", ".join(f"{count:,} {split}" for split, count in some.items())
            for some in (asked, about["counts"])
        )
        raise InputError(
            f"this table is of {wanted} clips; of {about['name']} {about['variant']} there are "
            f"{'; '.join([found, *about['notes']])}; give the whole corpus, or --scale subset"
        )


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
    line = argparse.ArgumentParser(
        description=__doc__,
        epilog="Any other --key=value is an option of the recipe, for every cell: --test_folder=archive.",
    )
    line.add_argument("experiment", type=Path, help="recipes/<Dataset>/experiments/<name>.yaml")
    line.add_argument("--scale", default="full", choices=record.SCALES)
    line.add_argument("--data_folder", help="the corpus; not needed for --scale mini")
    line.add_argument(
        "--results_folder",
        default=SCRATCH,
        help="where records go: by default exp/results of the recipe; results publishes them",
    )
    line.add_argument("--max-runs", type=int, help="run at most so many cells")
    line.add_argument("--retry-failed", action="store_true", help="try failed cells again")
    line.add_argument("--dry-run", action="store_true", help="list the cells and stop")
    line.add_argument(
        "--export-commands", action="store_true", help="print shell commands and stop"
    )
    line.add_argument("--address", help="a Ray cluster; default: this machine alone")
    line.add_argument("--cpus_per_cell", type=float, help="default: all, one cell at a time")
    line.add_argument(
        "--gpus_per_cell", type=float, help="default: one, where there are any; 0.25 packs four"
    )
    given, rest = line.parse_known_args()
    with guarded():
        own = options(rest)
        listed = cells(given.experiment, given.scale, given.data_folder, own, given.results_folder)
        asked = counts(given.experiment, given.scale)
        if rest or asked:
            check(listed[0], asked)
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
