"""Clips of a stranger's checkpoint: a clean folder a class, or files to be judged."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bdlib import listing, sampling
from bdlib.audio import LONGEST_HEARD
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.corpus import Batches
from bdlib.defenses.base import CleanData
from bdlib.errors import InputError, within
from bdlib.files import at_home
from bdlib.listing import audio_files
from bdlib.pack import SHORTEST, Pack, pack

HEARD = 4.0  # seconds of longer clips, where a checkpoint does not say what it was trained on
BATCH = 32


@dataclass(frozen=True)
class Clips:
    """Clips with labels, packed.

    Arguments
    ---------
    root : Path
        What their paths are relative to.
    rows : pd.DataFrame
        As `listing.from_folder` makes them.
    pack : Pack
        Their waveforms.
    classes : tuple[str, ...]
        Of the checkpoint, in the order of its logits.
    seconds : float
        What is heard of each.
    """

    root: Path
    rows: pd.DataFrame
    pack: Pack
    classes: tuple[str, ...]
    seconds: float

    @property
    def lacking(self) -> tuple[str, ...]:
        """Classes of the checkpoint of which there is no clip."""
        heard = set(self.rows["label"])
        return tuple(name for name in sorted(self.classes) if name not in heard)

    def batches(
        self, rows: pd.DataFrame | None = None, size: int = BATCH, seed: int | None = None
    ) -> Batches:
        """Some of the rows, or all; with a seed, drawn for training."""
        rows = self.rows if rows is None else rows
        size = min(size, len(rows))
        return Batches(self.pack, rows, self.classes, size, self.seconds, seed)

    def budget(self, parts: dict[str, pd.DataFrame], seed: int) -> CleanData:
        """The parts `train` and `valid` as a repair gets them."""
        return CleanData(
            lambda size: self.batches(parts["train"], size, seed),
            lambda: self.batches(parts["valid"]),
            len(parts["train"]),
            seed,
        )


@contextlib.contextmanager
def clean_clips(
    folder: str | Path, checkpoint: Checkpoint, seconds: float | None = None, whole: bool = True
) -> Iterator[Clips]:
    """The clips of a clean folder, ``folder/<class>/**/*.wav``, for as long as the block lasts.

    Arguments
    ---------
    folder : str | Path
        A folder a class, of the names the checkpoint has.
    checkpoint : Checkpoint
        What hears them.
    seconds : float | None
        What it hears of each; by default what it was trained on, or the longest, up to `HEARD`.
    whole : bool
        Whether more of a clip is kept than its middle, for parts of it that are drawn.

    Raises
    ------
    InputError
        If a class is none of the checkpoint's, or a file cannot be read.
    """
    root = at_home(folder).resolve()
    rows = listing.from_folder(root)
    if unknown := sorted(set(rows["label"]) - set(checkpoint.classes)):
        raise InputError(
            f"{root / unknown[0]}: no class of the checkpoint; it has: "
            f"{' '.join(checkpoint.classes[:20])}{' ...' if len(checkpoint.classes) > 20 else ''}"
        )
    with _packed(rows, root, checkpoint, seconds, whole) as clips:
        yield clips


@contextlib.contextmanager
def unknown_clips(
    paths: Sequence[str | Path], checkpoint: Checkpoint, seconds: float
) -> Iterator[Clips]:
    """Files, or all audio below folders, without labels, for as long as the block lasts.

    Raises
    ------
    InputError
        If there are none, or one cannot be read.
    """
    files = files_of(paths)
    root = Path(os.path.commonpath([file.parent for file in files]))
    entries = [
        {
            "path": file.relative_to(root).as_posix(),
            "ID": f"{number:09}",  # IDs are sorted as text, and answers are in the order of the files
            "label": checkpoint.classes[0],
        }
        for number, file in enumerate(files)
    ]
    rows = listing.from_files(root, entries)
    with _packed(rows, root, checkpoint, seconds, whole=False) as clips:
        yield clips


def files_of(paths: Sequence[str | Path]) -> list[Path]:
    """Files, or all audio below folders, in sorted order.

    Raises
    ------
    InputError
        If there are none, or the header of one cannot be read.
    """
    files = []
    for path in map(at_home, paths):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; give audio")
        files += audio_files(path, hidden=True) if path.is_dir() else [path]
    files = sorted({Path(os.path.realpath(file)) for file in files})  # `resolve` fails on a loop
    if not files:
        raise InputError(f"{' '.join(map(str, paths))}: no audio in it; give WAV or FLAC files")
    for file in files:
        listing.header(file)
    return files


@contextlib.contextmanager
def _packed(
    rows: pd.DataFrame,
    root: Path,
    checkpoint: Checkpoint,
    seconds: float | None,
    whole: bool,
) -> Iterator[Clips]:
    if seconds is None:
        seconds = checkpoint.seconds or min(HEARD, float(rows["duration"].max()))
    within("seconds", seconds, SHORTEST, LONGEST_HEARD)
    rows = rows if whole else _middles(rows, seconds, checkpoint.sample_rate)
    with tempfile.TemporaryDirectory() as place:
        packed = pack(rows, root, Path(place) / "pack", checkpoint.sample_rate)
        yield Clips(root, rows, packed, checkpoint.classes, seconds)


def _middles(rows: pd.DataFrame, seconds: float, rate: int) -> pd.DataFrame:
    """What `Batches` takes of each clip at a rate (Hz): a small file may hold hours, and no more is unpacked."""
    wanted = (seconds * rows["rate"]).round().astype(int) + 2 * (rows["rate"] != rate)  # resampled
    start = rows["start"] + (rows["stop"] - rows["start"] - wanted).clip(lower=0) // 2
    stop = rows["stop"].where(rows["stop"] < start + wanted, start + wanted)
    return rows.assign(start=start, stop=stop, duration=(stop - start) / rows["rate"])


def parts_of(rows: pd.DataFrame, shares: dict[str, float], seed: int) -> dict[str, pd.DataFrame]:
    """Rows split by lot within each class.

    Raises
    ------
    InputError
        If a class has too few clips for every part to have one.
    """
    least = rows["label"].value_counts()
    if least.min() < 2 * len(shares):
        raise InputError(
            f"class {least.idxmin()!r} has {least.min()} clean clips: give {2 * len(shares)} or more"
        )
    return sampling.split(rows, shares, seed)
