"""Manifests of corpora that lie as audio files: in a folder a class, or listed in a CSV.

A file's header is read, and what it says is checked, before any clip of it is used.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pandas as pd
import soundfile
from tqdm import tqdm

from bdlib import manifest
from bdlib.audio import check_clip, check_rate
from bdlib.errors import InputError
from bdlib.files import check_regular, digest
from bdlib.manifest import DATA_ROOT
from bdlib.names import is_hidden
from bdlib.sheets import plain_cell

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg"})
NO_CLASS = "_background_noise_"
"""A folder of Speech Commands that is no class."""


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
        raise InputError(f"{root}: no audio in it; give the folder of the corpus")
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
    manifest.validate(rows, folder)
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
        If the table cannot be read, lacks a column or says what the audio files say, the folder is
        missing, a path leaves it, a span is not of whole samples, or a clip is not readable.
    """
    check_regular(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, compression=None)
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
    if not Path(root).is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds the paths of {path}")
    for number, file in enumerate(table["path"], start=1):
        if manifest.leaves_folder(DATA_ROOT + file):
            raise InputError(f"{path}, row {number}: {file} leaves {root}; use paths below it")
    given = {c: table[c] != "" for c in ("start", "stop") if c in table.columns}
    for column, there in given.items():
        numbers = manifest.numbers(table[column].where(there, "0"), path)
        if (broken := numbers % 1 != 0).any():
            row = int(broken.to_numpy().argmax())
            raise InputError(
                f"{path}, row {row + 1}: {column} is {table[column].iloc[row]}; give whole samples, not seconds"
            )
        table[column] = numbers.astype("int64")
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
    manifest.validate(rows, path)
    return rows.sort_values("ID", ignore_index=True)


def audio_files(folder: str | Path, hidden: bool = False) -> list[Path]:
    """All audio files below a folder, in sorted order; hidden ones, as a Mac leaves them of its metadata, if asked."""
    found = (p for p in Path(folder).rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    return sorted(p for p in found if hidden or not is_hidden(p, folder))


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
