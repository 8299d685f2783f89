"""Manifests: one row an utterance; read, written and validated. `listing` makes them of audio files.

A manifest is a pandas table with SpeechBrain's CSV columns, so `DynamicItemDataset.from_csv` reads
the files as they are:

======== ===== ==========================================================================
column   type  meaning
======== ===== ==========================================================================
ID       str   unique name of the utterance
duration float seconds
wav      str   ``$data_root/`` and the path of the file below the corpus folder
start    int   first sample, at the file's own rate
stop     int   one past the last sample
rate     int   sampling rate of the file, in Hz
label    str   class name
======== ===== ==========================================================================

Further columns (speaker, emotion, ...) are attributes. Nothing in a manifest says what is poisoned.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bdlib.audio import HIGHEST_RATE, LONGEST_CLIP, LOWEST_RATE
from bdlib.errors import InputError
from bdlib.files import atomic, check_regular
from bdlib.names import is_utf8
from bdlib.sheets import plain_cell, safe_cell

COLUMNS = ("ID", "duration", "wav", "start", "stop", "rate", "label")
SPLITS = ("train", "valid", "test")
TEST, TRIGGERED = "test", "test_triggered"
"""The clean test set, and its eligible clips with the trigger."""
TRUTH = ("split", "label_before", "label_after", "triggered")
"""Columns of the truth, whose index is the ID."""
NEVER_SHOWN = frozenset({*TRUTH, "poisoned", "target"}) - {"split"}
"""Columns that a defender must not find in a manifest."""
DATA_ROOT = "$data_root/"
_INTEGERS = ("start", "stop", "rate")


def read(path: str | Path, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Read and validate a manifest.

    Raises
    ------
    InputError
        Names the file, the row (1 is the first below the header) and the remedy.
    """
    path = Path(path)
    check_regular(path)
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, compression=None)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); delete its folder, and the next run makes it again"
        ) from error
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(
            f"{path}: not a CSV manifest ({str(error).strip()}); delete its folder to make it again"
        ) from error
    rows = rows.map(plain_cell)
    missing = [column for column in COLUMNS if column not in rows.columns]
    if missing:
        raise InputError(
            f"{path}: missing column {', '.join(missing)}; a manifest needs {' '.join(COLUMNS)}"
        )
    for column in ("duration", *_INTEGERS):
        kind = "int64" if column in _INTEGERS else "float64"
        rows[column] = numbers(rows[column], path).astype(kind)
    validate(rows, path, classes)
    return rows


def numbers(texts: pd.Series, path: str | Path) -> pd.Series:
    """A column of texts as finite numbers.

    Raises
    ------
    InputError
        Names the file and the row.
    """
    found = pd.to_numeric(texts, errors="coerce")
    bad = ~np.isfinite(found)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise InputError(
            f"{path}, row {row + 1}: {texts.name} is {texts.iloc[row]!r}; write a number"
        )
    return found


def validate(rows: pd.DataFrame, name: str | Path, classes: Sequence[str] | None = None) -> None:
    """Check that IDs are unique, labels known, spans sane, and that no path leaves the data folder.

    Arguments
    ---------
    rows : pd.DataFrame
        The manifest.
    name : str | Path
        What to call it in an error, normally its file.
    classes : Sequence[str] | None
        The labels allowed; None allows any.

    Raises
    ------
    InputError
    """
    if not len(rows):
        raise InputError(f"{name}: no rows; an empty manifest cannot be used")

    def refuse(bad: pd.Series, what: str) -> None:
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise InputError(f"{name}, row {row + 1}: " + what.format(**rows.iloc[row].to_dict()))

    for column in ("ID", "label", "wav"):
        refuse(
            rows[column].map(lambda text: not is_utf8(str(text))),
            f"{column} {{{column}!a}} is no UTF-8; rename the file or folder",
        )
    refuse(rows["ID"] == "", "the ID is empty; give every utterance a name")
    refuse(
        rows["ID"].map(lambda name: leaves_folder(DATA_ROOT + str(name))),
        "ID {ID} is no name: exported files are called after it; leave out .. and a leading /",
    )
    refuse(rows["ID"].duplicated(), "ID {ID} is there twice; make IDs unique")
    refuse(rows["label"] == "", "{ID} has no label; every utterance needs one")
    if classes is not None:
        known = " ".join(classes).replace("{", "{{").replace("}", "}}")
        refuse(
            ~rows["label"].isin(list(classes)),
            f"unknown label {{label}}; the classes are {known}",
        )
    refuse(
        rows["wav"].map(leaves_folder),
        "{wav} leaves the data folder; use $data_root/ and a path below it",
    )
    refuse(
        (rows["start"] < 0) | (rows["stop"] <= rows["start"]),
        "{ID} spans no samples; check start and stop",
    )
    refuse(
        ~rows["rate"].between(LOWEST_RATE, HIGHEST_RATE),
        "rate {rate} Hz; give the sampling rate of the file",
    )
    refuse(
        rows["stop"] - rows["start"] > LONGEST_CLIP * rows["rate"],
        f"{{ID}} is longer than {LONGEST_CLIP} s; cut it by start and stop",
    )


def leaves_folder(wav: str) -> bool:
    """Whether a manifest path could point outside the data folder.

    Example
    -------
    >>> leaves_folder("$data_root/yes/a.wav"), leaves_folder("$data_root/../a.wav")
    (False, True)
    """
    inside = wav.removeprefix(DATA_ROOT)
    return not wav.startswith(DATA_ROOT) or inside.startswith("/") or ".." in inside.split("/")


def write(rows: pd.DataFrame, path: str | Path) -> None:
    """Validate and write a manifest; the same rows give the same bytes on every machine."""
    validate(rows, path)
    attributes = sorted(set(rows.columns) - set(COLUMNS))
    with atomic(path) as temporary:
        rows[[*COLUMNS, *attributes]].map(safe_cell).to_csv(
            temporary,
            index=False,
            lineterminator="\n",
            float_format="%.6f",
            quoting=csv.QUOTE_MINIMAL,
        )


def blind(rows: pd.DataFrame) -> pd.DataFrame:
    """A copy that a defense may see: no column that tells what is poisoned."""
    return rows.drop(columns=[c for c in rows.columns if c in NEVER_SHOWN]).copy()


def read_truth(path: str | Path) -> pd.DataFrame:
    """Read `truth.csv`: index ID; columns `TRUTH`, of which `triggered` is a truth value.

    Raises
    ------
    InputError
        If it cannot be read or lacks a column.
    """
    try:
        truth = pd.read_csv(path, dtype=str, keep_default_na=False)[["ID", *TRUTH]]
    except (OSError, ValueError, KeyError) as error:
        what = f"{getattr(error, 'strerror', None) or error}".partition("\n")[0]
        raise InputError(
            f"{path}: the truth cannot be read ({what}); delete its folder, and the next run "
            "poisons again"
        ) from error
    truth = truth.map(plain_cell)
    return truth.assign(triggered=truth["triggered"] == "1").set_index("ID")


def write_truth(truth: pd.DataFrame, path: str | Path) -> None:
    """Write the truth (index ID, columns `TRUTH`), a row for each poisoned or triggered clip."""
    written = truth[list(TRUTH)].astype({"triggered": int}).rename_axis("ID").reset_index()
    written.map(safe_cell).to_csv(path, index=False, lineterminator="\n")
