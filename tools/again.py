#!/usr/bin/env python3
"""Do records come out again? Some are drawn by lot, and their commands run once more.

Everything is made anew in a folder of its own, training included. Prints a line of JSON for each: both values
and the counts of clean accuracy and ASR, and whether the new ones lie in the 95 % Wilson intervals of the
recorded ones. Exit status 0 all do, 1 one does not, or a command failed.

    python tools/again.py results/SpeechCommands.jsonl --data_folder /data/subset --cells 10
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdlib.cli.command import guarded
from bdlib.errors import InputError
from bdlib.records.record import read, wilson
from bdlib.sampling import rank

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {"train.py", "defend.py"}
MINI = "--data_folder=mini"
METRICS = ("clean_accuracy", "attack_success_rate")


def drawn(records: list[dict[str, Any]], cells: int, seed: int) -> list[dict[str, Any]]:
    """So many of the records with the status ok, by lot; all, if there are no more."""
    by_id = {record["id"]: record for record in records if record["status"] == "ok"}
    return [by_id[name] for name in rank(by_id, seed, "again")[:cells]]


def again(record: dict[str, Any], data_folder: str, folder: Path) -> dict[str, Any]:
    """The record that its command makes now, below a folder.

    Raises
    ------
    InputError
        If the command is no run of a recipe alone, fails, or leaves no record.
    """
    program, yaml, *given = [*shlex.split(record["command"])[1:], "", ""]
    recipe = ROOT / "recipes" / record["dataset"]["name"]
    synthetic = MINI in given
    given = [option for option in given if option and not option.startswith("--data_folder=")]
    # A yaml builds what it names: none but those of the recipe is read.
    own = program in PROGRAMS and re.fullmatch(r"hparams/\w+\.yaml", yaml)
    if not own or not recipe.is_dir() or "/" in "".join([record["dataset"]["name"], *given]):
        raise InputError(f"{record['id']}: {record['command']} is no run of a recipe alone")
    places = (
        MINI if synthetic else f"--data_folder={data_folder}",
        f"--output_folder={folder}",
        f"--results_folder={folder}",
    )
    line = [sys.executable, program, yaml, *given, *places]
    done = subprocess.run(line, cwd=recipe, capture_output=True, text=True)
    made = sorted(folder.glob("*.jsonl"))
    if done.returncode or not made:
        told = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise InputError(f"{record['id']}: {record['command']} failed: {' '.join(told)}")
    return read(made[0])[-1]


def compared(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What both say of `METRICS`, and whether the new values lie in the intervals of the old ones."""
    told, within = {}, True
    for name in METRICS:
        if name in old["metrics"]:
            before, after = (record["metrics"][name] for record in (old, new))
            low, high = wilson(before["count"], before["total"])
            within &= low <= after["value"] <= high and after["total"] == before["total"]
            told[name] = {"recorded": before, "again": after}
    return {
        "id": old["id"], "command": old["command"], "device": old["runtime"]["device"],
        "within": within, "same_id": new["id"] == old["id"], **told,
    }  # fmt: skip


def main() -> int:
    """Command line; returns the exit status."""
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    line.add_argument("records", type=Path, help="results/<Dataset>.jsonl")
    line.add_argument(
        "--data_folder", required=True, help="the corpus of those that are of real speech"
    )
    line.add_argument("--experiment", help="draw among its records (default: among all)")
    line.add_argument("--cells", type=int, default=10, help="how many (default: %(default)s)")
    line.add_argument("--seed", type=int, default=0, help="of the lot (default: %(default)s)")
    given = line.parse_args()
    with guarded():
        records = read(given.records)
        if given.experiment:
            records = [record for record in records if record["experiment"] == given.experiment]
        if not (chosen := drawn(records, given.cells, given.seed)):
            raise InputError(f"{given.records}: no record of {given.experiment or 'any run'}")
        data, all_within = str(Path(given.data_folder).resolve()), True
        for record in chosen:
            with tempfile.TemporaryDirectory() as folder:
                told = compared(record, again(record, data, Path(folder)))
            all_within &= told["within"]
            print(json.dumps(told), flush=True)
    return 0 if all_within else 1


if __name__ == "__main__":
    sys.exit(main())
