"""Manifests: one row an utterance; read, written, validated, and made from folders.

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
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from bdlib.audio import (
    HIGHEST_RATE,
    LONGEST_CLIP,
    LOWEST_RATE,
    check_clip,
    check_rate,
)
from bdlib.errors import InputError
from bdlib.files import atomic, check_regular, digest, is_utf8
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
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg"})
NO_CLASS = "_background_noise_"
"""A folder of Speech Commands that is no class."""
_INTEGERS = ("start", "stop", "rate")


def read(path: str | Path, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Read and validate a manifest.

    Raises
    ------
    InputError
        Names the file, the row (1 is the first below the header) and the remedy.
    """
    path = Path(path)
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
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
        numbers = _numbers(rows[column], path)
        rows[column] = numbers.astype("int64" if column in _INTEGERS else "float64")
    validate(rows, path, classes)
    return rows


def _numbers(texts: pd.Series, path: str | Path) -> pd.Series:
    """A column as finite numbers."""
    numbers = pd.to_numeric(texts, errors="coerce")
    bad = ~np.isfinite(numbers)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise InputError(
            f"{path}, row {row + 1}: {texts.name} is {texts.iloc[row]!r}; write a number"
        )
    return numbers


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
    inside = PurePosixPath(wav.removeprefix(DATA_ROOT))
    return not wav.startswith(DATA_ROOT) or inside.is_absolute() or ".." in inside.parts


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


def from_files(root: str | Path, entries: Iterable[dict]) -> pd.DataFrame:
    """Make rows from audio files by reading their headers.

    Arguments
    ---------
    root : str | Path
        The corpus folder.
    entries : Iterable[dict]
        Per utterance: `path` (below `root`), `label`, attributes, and optionally `ID`, `start`
        and `stop` (samples). An absent `ID` is the path without its suffix.

    Raises
    ------
    InputError
        For a file that is missing, unreadable, empty, or shorter than its header says.
    """
    return _from_headers(Path(root), entries).sort_values("ID", ignore_index=True)


def _from_headers(root: Path, entries: Iterable[dict]) -> pd.DataFrame:
    """See `from_files`; the rows are in the order given."""
    rows = []
    for entry in tqdm(
        list(entries), desc="reading headers", unit="file", leave=False, disable=None
    ):
        entry = dict(entry)
        path = PurePosixPath(entry.pop("path"))
        frames, rate = header(root / path)
        start, stop = entry.pop("start", 0), entry.pop("stop", frames)
        check_clip(root / path, stop - start, rate)
        rows.append(
            {
                "ID": entry.pop("ID", str(path.with_suffix(""))),
                "duration": (stop - start) / rate,
                "wav": DATA_ROOT + str(path),
                "start": start,
                "stop": stop,
                "rate": rate,
                **entry,
            }
        )
    if not rows:
        raise InputError(f"{root}: no audio in it; check `data_folder`")
    return pd.DataFrame(rows)


def header(path: str | Path) -> tuple[int, int]:
    """Frames and rate (Hz) of an audio file.

    Raises
    ------
    InputError
        If it is missing, no regular file, unreadable, empty, cut off before the end its header
        promises, or at a rate that is not read.
    """
    check_regular(path)
    try:
        info = soundfile.info(str(path), verbose=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: not readable as audio; restore or remove the file") from error
    if info.frames == 0:
        raise InputError(f"{path}: no samples; restore or remove the file")
    # libsndfile repairs the length in silence, but notes it in its log.
    if (
        "data : " in info.extra_info
        and "(should be" in info.extra_info.split("data : ")[1].split("\n")[0]
    ):
        raise InputError(
            f"{path}: truncated, shorter than its header says; restore or remove the file"
        )
    check_rate(path, info.samplerate)
    return info.frames, info.samplerate


def from_folder(folder: str | Path) -> pd.DataFrame:
    """A manifest of any corpus that has a folder a class: ``folder/<class>/**/*.wav``.

    Raises
    ------
    InputError
        If the folder is missing, a class has no audio, or two files differ in their endings alone.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder that holds one folder a class")
    entries = []
    for class_folder in sorted(p for p in folder.iterdir() if p.is_dir() and may_be_class(p.name)):
        files = audio_files(class_folder)
        if not files:
            raise InputError(f"{class_folder}: class without audio; add files or remove the folder")
        entries += [
            {"path": file.relative_to(folder).as_posix(), "label": class_folder.name}
            for file in files
        ]
    rows = from_files(folder, entries)
    validate(rows, folder)
    return rows


def may_be_class(folder: str) -> bool:
    """Whether a folder of this name may be a class, as `_unknown_` is: not hidden, and no background noise."""
    return folder[0] != "." and folder != NO_CLASS


def from_csv(path: str | Path, root: str | Path) -> pd.DataFrame:
    """A manifest of any corpus listed in a CSV with at least the columns `path` and `label`.

    `path` is relative to `root`. An optional `ID`, `start`, `stop` (samples; an empty `stop` is the
    end of the file) and any attribute columns are kept. An absent `ID` is the path without its suffix,
    and of several spans of one file `start` behind it. Audio poisoned elsewhere comes in this way too.

    Raises
    ------
    InputError
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error).strip()
        raise InputError(
            f"{path}: cannot be read as CSV ({what}); give a CSV with path and label"
        ) from error
    table = table.map(plain_cell)
    for column in ("path", "label"):
        if column not in table.columns:
            raise InputError(f"{path}: missing column {column}; give at least path and label")
    if own := [column for column in ("duration", "wav", "rate") if column in table.columns]:
        raise InputError(
            f"{path}: column {own[0]} is made from the audio files; rename it or leave it out"
        )
    for number, file in enumerate(table["path"], start=1):
        if leaves_folder(DATA_ROOT + file):
            raise InputError(f"{path}, row {number}: {file} leaves {root}; use paths below it")
    given = {c: table[c] != "" for c in ("start", "stop") if c in table.columns}
    for column, there in given.items():
        table[column] = _numbers(table[column].where(there, "0"), path).astype("int64")
    entries = table.to_dict("records")
    for entry, there in zip(entries, given.get("stop", ()), strict=False):
        if not there:
            del entry["stop"]
    if "ID" not in table.columns and "start" in given:
        for entry, again in zip(entries, table["path"].duplicated(keep=False), strict=True):
            if again:
                stem = PurePosixPath(entry["path"]).with_suffix("")
                entry["ID"] = f"{stem}_{entry['start']}"
    rows = _from_headers(Path(root), entries)
    validate(rows, path)
    return rows.sort_values("ID", ignore_index=True)


def audio_files(folder: str | Path) -> list[Path]:
    """All audio files below a folder, in sorted order."""
    return sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)


def audio_digest(names: Iterable[str], root: str | Path) -> str:
    """Short sha256 over audio files, by name and byte for byte.

    Arguments
    ---------
    names : Iterable[str]
        As in the column `wav`, in any order.
    root : str | Path
        The corpus folder, which stands for ``$data_root``.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    names = sorted(names)

    def of(name: str) -> str:
        path = Path(root) / name.removeprefix(DATA_ROOT)
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); restore it, then prepare again"
            ) from error

    with ThreadPoolExecutor() as pool:  # reading and hashing hold no lock
        return digest([names, list(pool.map(of, names))])
