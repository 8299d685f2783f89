"""What a training writes about itself: a line an epoch, and where it went back."""

import json
from pathlib import Path
from typing import Any

from bdlib.errors import InputError, fits
from bdlib.files import atomic, check_regular, read_json, write_json

LOG = "train_log.txt"
ROLLBACKS = "rollbacks.json"


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The training log: a dict an epoch with losses, validation accuracy, rate and seconds.

    Raises
    ------
    InputError
        If it is broken.
    """
    path = Path(folder) / LOG
    check_regular(path)
    try:
        lines = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )
        if not all(fits(line, dict) and line.keys() >= {"epoch", "seconds"} for line in lines):
            raise ValueError("no epochs")
        if not all(fits(line[key], float) for line in lines for key in ("epoch", "seconds")):
            raise ValueError("no numbers")
        return lines
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: broken; delete {folder} and train again") from error


def write_epoch(folder: str | Path, line: dict[str, Any]) -> None:
    """Append to the log, over a line that an interrupted run left for the same epoch."""
    lines = [old for old in read_log(folder) if old["epoch"] < line["epoch"]]
    with atomic(Path(folder) / LOG) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in [*lines, line]))


def read_rollbacks(folder: str | Path) -> list[str]:
    """Where a training diverged and went back, an entry a time."""
    path = Path(folder) / ROLLBACKS
    rollbacks = read_json(path) if path.exists() else []
    if not fits(rollbacks, list[str]):
        raise InputError(f"{path}: broken; delete {folder} and train again")
    return rollbacks


def write_rollbacks(folder: str | Path, rollbacks: list[str]) -> None:
    """Replace the list of rollbacks."""
    write_json(Path(folder) / ROLLBACKS, rollbacks)
