"""Records: one line of JSON for one measured run, appended and never rewritten."""

import contextlib
import fcntl
import json
import math
import os
import re
from pathlib import Path
from typing import Any

from bdlib.errors import InputError
from bdlib.files import check_regular
from bdlib.names import plain_name

SCHEMA = 1
STATUSES = ("ok", "failed")
SCALES = ("full", "subset", "mini")
STAGES = ("filter", "training", "repair", "inference")
SELECTIONS = ("validation", "oracle", "fixed")
RATE_OF = ("source", "dataset")

# Keys every record has, with the types their values may take.
TOP = {
    "id": str,
    "time": str,
    "commit": (str, type(None)),
    "dirty": (bool, type(None)),
    "command": str,
    "dataset": dict,
    "model": dict,
    "attack": (dict, type(None)),
    "defense": (dict, type(None)),
    "experiment": (str, type(None)),
    "seed": int,
    "metrics": dict,
    "runtime": dict,
    "versions": dict,
}
PARTS = {
    "dataset": {"name": str, "variant": (str, type(None)), "digest": str, "counts": dict},
    "model": {"name": str, "yaml": str},
    "attack": {
        "name": str,
        "trigger": (dict, type(None)),
        "seed": int,
        "poisoned": (int, type(None)),
    },
    "defense": {"name": str, "clean_budget": (int, float)},
}
# Those that are not in every record, and that tables and figures read.
OPTIONAL = {
    "model": {"settings": dict, "parameters": int, "epochs": int, "clips": int},
    "attack": {"source": (str, type(None)), "target": (str, type(None)), "labels": dict},
    "defense": {"settings": dict},
}
CHOICES = {
    "dataset": {"scale": SCALES},
    "attack": {"of": RATE_OF},
    "defense": {"stage": STAGES, "selection": SELECTIONS},
}


def append(path: str | Path, record: dict[str, Any]) -> bool:
    """Append one record to a results file, unless its id is there, and wait until it is on the disk.

    The line is written in one piece under a lock, so several runs may share a file; a write that
    fails is taken back, and so is a line that a crash has cut short: its run is recorded again.

    Returns
    -------
    bool
        Whether it was new.

    Raises
    ------
    InputError
        If the record is not of the schema, or the file cannot be written.
    """
    validate(record)
    line = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:  # "a" is O_APPEND
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            there = file.read()
            if _has(there, record["id"]):
                return False
            size = len(there) - len(_cut_short(there, path))
            file.truncate(size)
            if size and there[size - 1 : size] != b"\n":
                line = b"\n" + line
            try:
                if file.write(line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
            return True
    except OSError as error:
        raise InputError(
            f"{path}: cannot append the record ({error.strerror or error}); "
            "free disk space or choose a writable folder"
        ) from error


def _has(there: bytes, name: str) -> bool:
    """Whether a record of this id is among lines."""
    quoted = json.dumps(name, ensure_ascii=False).encode()
    if quoted not in there:
        return False
    for line in there.split(b"\n"):
        if quoted in line:
            with contextlib.suppress(ValueError, RecursionError, AttributeError):
                if json.loads(line).get("id") == name:
                    return True
    return False


def _cut_short(there: bytes, path: Path) -> bytes:
    """The last line, where it has no end and is no JSON; what a crash leaves of a record."""
    last = there.rpartition(b"\n")[2]
    try:
        json.loads(last or b"0")
        return b""
    except (ValueError, RecursionError):
        print(f"note: {path}: the last line was cut short, and is left out; run its command again")
        return last


def read(path: str | Path) -> list[dict[str, Any]]:
    """Read all records of a results file, in the order they were appended.

    A last line that a crash has cut short is left out, and said so.

    Raises
    ------
    InputError
        If the file cannot be read, or a line is not JSON or not of the schema. The message names
        the file and the line.
    """
    check_regular(path)
    try:
        there = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    lines, records = there.removesuffix(_cut_short(there, Path(path))).split(b"\n"), []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            validate(record)
        except (ValueError, RecursionError) as error:  # InputError is a ValueError
            what = error if isinstance(error, InputError) else f"not a line of JSON ({error})"
            raise InputError(
                f"{path}, line {number}: {what}; delete the line and measure that run again"
            ) from error
        records.append(record)
    return records


def validate(record: Any) -> None:
    """Check that `record` has schema 1.

    Unknown keys and unknown metric names are allowed, so that a later field breaks no reader. A
    failed record needs everything but metrics that make sense.

    Raises
    ------
    InputError
        Naming the first field that is wrong.
    """
    if not isinstance(record, dict):
        raise InputError("a record is a JSON object")
    if record.get("schema") != SCHEMA:
        raise InputError(f"field schema is {record.get('schema')!r}, this version reads {SCHEMA}")
    _check_fields(record, TOP, "")
    _check_choice(record, "status", STATUSES, "")
    for part in PARTS:
        if record[part] is not None:
            _check_fields(record[part], PARTS[part], f"{part}.")
            there = {k: v for k, v in OPTIONAL.get(part, {}).items() if k in record[part]}
            _check_fields(record[part], there, f"{part}.")
            for key, choices in CHOICES.get(part, {}).items():
                _check_choice(record[part], key, choices, f"{part}.")
    _check_names(record)
    for split, count in record["dataset"]["counts"].items():
        if not _is_count(count):
            raise InputError(f"field dataset.counts.{split} is {count!r}, not a count")
    if record["attack"] is not None:
        rate = record["attack"].get("rate")
        if not _is_number(rate) or not 0 <= rate <= 1:
            raise InputError(f"field attack.rate is {rate!r}, not a rate between 0 and 1")
    for name, entry in record["metrics"].items():
        _check_metric(name, entry)


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    Parameters
    ----------
    count, total : int
        Successes and trials, ``0 <= count <= total``.
    z : float
        Normal quantile; 1.96 gives 95 %.

    Returns
    -------
    tuple of float
        Lower and upper bound within [0, 1]; (0, 1) where there was no trial.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22, 1927.

    Example
    -------
    >>> low, high = wilson(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if not 0 <= count <= total:
        raise ValueError(f"count {count} is not between 0 and total {total}")
    if total == 0:
        return 0.0, 1.0
    share = count / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _check_fields(value: dict[str, Any], fields: dict[str, Any], prefix: str) -> None:
    for key, types in fields.items():
        if key not in value:
            raise InputError(f"field {prefix}{key} is missing")
        entry = value[key]
        wrong_bool = isinstance(entry, bool) and types in (int, (int, float))
        if not isinstance(entry, types) or wrong_bool:
            raise InputError(f"field {prefix}{key} is {entry!r}, of the wrong type")


def _check_choice(value: dict[str, Any], key: str, choices: tuple[str, ...], prefix: str) -> None:
    if value.get(key) not in choices:
        raise InputError(f"field {prefix}{key} is {value.get(key)!r}, not {' or '.join(choices)}")


def _check_names(record: dict[str, Any]) -> None:
    """Tables and figures are called after these."""
    for part in PARTS:
        if record[part] is not None:
            plain_name(record[part]["name"], f"field {part}.name")
    for name, value in (
        ("dataset.variant", record["dataset"]["variant"]),
        ("experiment", record["experiment"]),
    ):
        if value:
            plain_name(value, f"field {name}")


def _check_metric(name: str, entry: Any) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise InputError(f"metric {name!r} is not in snake_case")
    if not isinstance(entry, dict) or not _is_number(entry.get("value")):
        raise InputError(f"metric {name} has no finite number as its value")
    if "count" not in entry and "total" not in entry:
        return
    count, total = entry.get("count"), entry.get("total")
    if not _is_count(count) or not _is_count(total) or count > total or total == 0:
        raise InputError(f"metric {name} counts {count!r} of {total!r}")
    if abs(entry["value"] - count / total) > 1e-3:
        raise InputError(f"metric {name} is {entry['value']} but counts {count} of {total}")


def _is_number(value: Any) -> bool:
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:
        return False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
