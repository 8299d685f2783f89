"""Run the cells of an experiment that have no record yet, on Ray.

A cell is finished when it has a record, whatever else is there. Each is a program of its own, but
those of one classifier behind several guards are one, which loads the classifier once.
"""

import argparse
import contextlib
import importlib.util
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bdlib import stages
from bdlib.cli import pls
from bdlib.cli.cells import SCRATCH, Cell, cells, counts
from bdlib.cli.command import guarded, parser, read, told
from bdlib.cli.programs import programs
from bdlib.cli.workers import sweep
from bdlib.errors import InputError
from bdlib.files import at_home
from bdlib.records import record


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
    with contextlib.chdir(cell.folder):
        recipe, _ = read(shlex.split(cell.line)[2:], arguments(cell))
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


def arguments(cell: Cell) -> argparse.ArgumentParser:
    """The options of a cell's program besides those of the recipe."""
    if cell.program == "pls":
        return pls.parser()
    program = parser("")
    program.add_argument("--defense")
    program.add_argument("--after")
    return program


def command_line() -> argparse.ArgumentParser:
    """The options of ``tools/sweep.py``."""
    line = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,  # --max=3 may be an option of a recipe
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
    line.add_argument(
        "--address",
        default="local",
        help="a Ray cluster, or auto for the one this machine is in; default: this machine alone",
    )
    line.add_argument(
        *("--cpus_per_cell", "--cpus-per-cell"),
        type=float,
        help="default: all of a machine, or as many as come with the share of its GPUs",
    )
    line.add_argument(
        *("--gpus_per_cell", "--gpus-per-cell"),
        type=float,
        help="default: one, where there are any; 0.25 packs four",
    )
    return line


def main() -> None:
    """``tools/sweep.py``."""
    given, rest = command_line().parse_known_args()
    with guarded():
        own = options(rest)
        listed = cells(given.experiment, given.scale, given.data_folder, own, given.results_folder)
        asked = counts(given.experiment, given.scale)
        if rest or asked:
            check(listed[0], asked)
        recipe = listed[0].folder
        results = recipe / SCRATCH
        if given.results_folder != SCRATCH:
            results = at_home(given.results_folder)
        published = recipe / "../../results"
        todo = pending(listed, (published, results), given.scale, given.retry_failed)
        run = programs(todo[: given.max_runs])
        if given.export_commands:
            for program in run:
                print(f"cd {shlex.quote(str(program.folder))} && {program.line}")
            return
        states = Counter(program.state for program in run)
        print(
            f"{len(listed)} cells, {len(listed) - len(todo)} have a record, {len(todo)} to run; "
            f"now {len(run)} programs: {states['new']} new, {states['begun']} begun before, "
            f"{states['running']} running elsewhere"
        )
        if given.dry_run:
            print("\n".join(program.line for program in run))
        elif run and (failed := sweep(run, given, results)):
            raise InputError(
                f"{failed} cells failed; their records say why, --retry-failed tries again"
            )
