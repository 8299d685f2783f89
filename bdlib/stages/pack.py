"""Stage 3: a manifest to packed waveforms, triggers applied, once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bdlib.attacks.poisoner import Poisoner
from bdlib.audio import HIGHEST_RATE, LONGEST_HEARD, LOWEST_RATE
from bdlib.errors import within
from bdlib.files import alone, digest, file_digest
from bdlib.pack import SHORTEST, Pack
from bdlib.pack import pack as pack_rows


@dataclass(frozen=True)
class Audio:
    """How the clips of a corpus become waveforms.

    Arguments
    ---------
    root : Path
        The corpus folder, ``$data_root`` of the manifests.
    fingerprint : str
        Digest of its files: a changed corpus is packed anew.
    sample_rate : int
        Hz; clips at other rates are resampled.
    seconds : float
        What a classifier hears: longer clips are cropped, shorter ones padded with zeros.
    pad_seconds : float | None
        Shorter clips get zeros at the end, before a trigger; None leaves them.

    Raises
    ------
    InputError
        If a number is none, or out of range.
    """

    root: Path
    fingerprint: str
    sample_rate: int = 16000
    seconds: float = 1.0
    pad_seconds: float | None = None

    def __post_init__(self) -> None:
        within("sample_rate", self.sample_rate, LOWEST_RATE, HIGHEST_RATE, int)
        within("seconds", self.seconds, SHORTEST, LONGEST_HEARD)
        if self.pad_seconds is not None:
            within("pad_seconds", self.pad_seconds, 0, LONGEST_HEARD)


@dataclass(frozen=True)
class Triggers:
    """Which clips of a manifest get the trigger of an attack.

    Arguments
    ---------
    attack : dict[str, Any]
        What `attack.json` says.
    split : str
        `train` or `test_triggered`.
    altered : Callable[[], frozenset[str]]
        Gives their IDs; called where a pack is made, as one that stands needs no truth.
    """

    attack: dict[str, Any]
    split: str
    altered: Callable[[], frozenset[str]]


def pack(
    csv: Path, rows: pd.DataFrame, audio: Audio, output: Path, triggers: Triggers | None = None
) -> Pack:
    """The waveforms of a manifest, packed below ``output/pack`` unless that was done.

    Clean manifests are shared by all attacks on the same corpus.

    Arguments
    ---------
    csv, rows : Path, pd.DataFrame
        The manifest, as a file and as read.
    audio : Audio
        Where its clips are, and what becomes of them.
    output : Path
        The folder for everything a run makes.
    triggers : Triggers | None
        None leaves all clips as they are.
    """
    made_of = [file_digest(csv), audio.fingerprint, audio.sample_rate, audio.pad_seconds]
    if triggers is not None:
        made_of += [triggers.split, triggers.attack]
    folder = output / "pack" / digest(made_of)
    with alone(folder.parent):
        if (folder / "pack.json").exists():
            return Pack.open(folder)
        alter = None
        if triggers is not None:
            poisoner = Poisoner.from_dict(triggers.attack)
            alter = poisoner.alter(triggers.altered(), audio.sample_rate, triggers.split)
        made = pack_rows(rows, audio.root, folder, audio.sample_rate, audio.pad_seconds, alter)
    if made.silent:
        print(f"note: {len(made.silent)} silent clips in {csv.stem}, such as {made.silent[0]}")
    return made
