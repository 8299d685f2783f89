"""Manifests of lhotse: recordings and supervisions, a line of JSON each, gzipped or not."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bdlib.audio import HIGHEST_RATE
from bdlib.errors import InputError, fits

SUFFIXES = (".jsonl", ".jsonl.gz")
PARTS = ("recordings", "supervisions")
LONGEST = 2**20  # characters of a line: no supervision is longer

Entry = tuple[str, str, str, int, int]
"""Where it stands, path, label, first sample and the one after the last."""


def lines(manifest: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each line stands, and what it holds; custom fields beside the others.

    Raises
    ------
    InputError
        For what is no such file.
    """
    opened = gzip.open if manifest.suffix == ".gz" else open
    where = f"{manifest}"
    try:
        with opened(manifest, "rt", encoding="utf-8") as file:
            number = 0
            while text := file.readline(LONGEST):
                where = f"{manifest}, line {(number := number + 1)}"
                row = json.loads(text)
                yield where, {**(row.get("custom") or {}), **row}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{where}: no lhotse manifest ({error}); give jsonl or jsonl.gz") from None


def pair(manifest: Path) -> tuple[Path, Path]:
    """The recordings and the supervisions, of which one is given and the other lies beside it.

    Raises
    ------
    InputError
        If it does not.
    """
    for given, other in (PARTS, PARTS[::-1]):
        if given in manifest.name:
            beside = manifest.with_name(manifest.name.replace(given, other))
            if not beside.is_file():
                raise InputError(f"{manifest}: no {beside.name} beside it; both are needed")
            both = {given: manifest, other: beside}
            return both["recordings"], both["supervisions"]
    raise InputError(
        f"{manifest}: neither recordings nor supervisions by its name; name it as "
        "words_supervisions.jsonl.gz, with words_recordings.jsonl.gz beside it"
    )


def entries(manifest: Path, labels: tuple[str, ...], left_out: list[str]) -> Iterator[Entry]:
    """The supervised spans, one a clip.

    Arguments
    ---------
    manifest : Path
        Of recordings or of supervisions.
    labels : tuple[str, ...]
        Fields that may be the label; the first that a supervision has is.
    left_out : list[str]
        Gets a line for each that is no part of one file: commands are not run, nothing is fetched.

    Raises
    ------
    InputError
        For a line that cannot be.
    """
    recordings, supervisions = pair(manifest)
    files: dict[str, tuple[Any, int, int]] = {}
    for where, row in lines(recordings):
        try:
            rate, most = int(row["sampling_rate"]), int(row["num_samples"])
            if rate > HIGHEST_RATE:
                raise ValueError
            files[row["id"]] = row["sources"], rate, most
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError(
                f"{where}: a recording has id, sources, sampling_rate and num_samples; correct it"
            ) from None
    for where, row in lines(supervisions):
        try:
            sources, rate, most = files[row["recording_id"]]
            if not fits([row["start"], row["duration"]], list[float]):
                raise TypeError
            start = round(row["start"] * rate)
            stop = min(start + round(row["duration"] * rate), most)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError(
                f"{where}: a supervision has start, duration and the recording_id of a line of "
                f"{recordings.name}; correct it"
            ) from None
        label = next((row[name] for name in labels if row.get(name)), None)
        if not isinstance(label, str):
            raise InputError(
                f"{where}: no {' or '.join(labels)} in words; name a field with `label_column`"
            )
        match sources:
            case [{"type": "file", "source": str(path)}]:
                yield where, path, label, start, stop
            case _:
                left_out.append(f"{where}: its recording is not one file; export it as audio files")
