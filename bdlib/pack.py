"""Packs: the waveforms of a manifest end to end in one memory-mapped int16 file.

Triggers are applied here, once, so that what training hears is what lies on the disk.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from bdlib.audio import check_clip, resampled
from bdlib.errors import InputError
from bdlib.files import atomic, check_regular, read_json
from bdlib.manifest import DATA_ROOT
from bdlib.seals import SEAL, digests, seal, unsealed

SILENT = 1e-3  # peak below -60 dB of full scale
SHORTEST = 0.05  # seconds; of less, no front end makes the frames that its classifier needs
ABOUT = {"ids": list[str], "offsets": list[int], "rate": int, "silent": list[str]}
"""Keys of `pack.json`, with their types."""
Alter = Callable[[str, np.ndarray], np.ndarray]


@dataclass
class Pack:
    """Waveforms of a manifest.

    Arguments
    ---------
    samples : np.ndarray
        (total,) int16, memory-mapped.
    offsets : np.ndarray
        (utterances + 1,) where each utterance begins.
    ids : list[str]
        The utterances, in order.
    rate : int
        Hz, the same for all.
    silent : list[str]
        Utterances whose peak is below -60 dB of full scale.
    digest : str
        Of what it was made from: the name of its folder.
    """

    samples: np.ndarray
    offsets: np.ndarray
    ids: list[str]
    rate: int
    silent: list[str]
    digest: str

    def __post_init__(self) -> None:
        self.row = {name: number for number, name in enumerate(self.ids)}

    def pcm(self, name: str) -> np.ndarray:
        """One utterance, (T,) int16."""
        row = self.row[name]
        return self.samples[self.offsets[row] : self.offsets[row + 1]]

    def waveform(self, name: str) -> np.ndarray:
        """One utterance, (T,) float32 in [-1, 1]."""
        return self.pcm(name).astype(np.float32) / 32768

    @classmethod
    def open(cls, folder: str | Path) -> "Pack":
        """Open what `pack` wrote; its samples are read once, to compare their digest, and mapped.

        Raises
        ------
        InputError
            If it is not whole, or not as it was written.
        """
        folder = Path(folder)
        path, file = folder / "pack.json", folder / "samples.i16"
        about = read_json(path, ABOUT)
        written = dict(about)
        try:
            samples = np.asarray(np.memmap(file, dtype="<i2", mode="r"))
            about["offsets"] = np.array(about["offsets"], dtype=np.int64)
            if len(about["offsets"]) != len(about["ids"]) + 1:
                raise ValueError("as many offsets as utterances")
            if about["offsets"][0] != 0 or (np.diff(about["offsets"]) <= 0).any():
                raise ValueError("offsets that do not rise from 0")
            if about["offsets"][-1] != len(samples):
                raise ValueError(f"{about['offsets'][-1]} samples expected, {len(samples)} there")
        except (OSError, ValueError, TypeError, LookupError) as error:
            what = getattr(error, "strerror", None) or error
            raise InputError(
                f"{folder}: broken pack ({what}); delete the folder and run the pack stage again"
            ) from error
        unsealed(path, written, [file])
        return cls(samples, digest=folder.name, **{key: about[key] for key in ABOUT})


def pack(
    rows: pd.DataFrame,
    root: str | Path,
    folder: str | Path,
    rate: int,
    pad_seconds: float | None = None,
    alter: Alter | None = None,
) -> Pack:
    """Read, downmix, resample, pad, alter and store every utterance of a manifest.

    Arguments
    ---------
    rows : pd.DataFrame
        The manifest.
    root : str | Path
        The corpus folder, which stands for ``$data_root``.
    folder : str | Path
        Where the pack goes; it appears when it is whole.
    rate : int
        Sampling rate of the pack in Hz.
    pad_seconds : float | None
        Shorter clips get zeros at the end up to this length, before `alter` (Armory pads Speech
        Commands to 1 s).
    alter : Callable[[str, np.ndarray], np.ndarray] | None
        Called with the ID and the waveform, (T,) float32; returns what to store. The trigger of
        poisoned utterances comes in here, once.

    Raises
    ------
    InputError
        Naming the manifest row, for audio that is missing, unreadable, cut short, not finite, not
        at the rate the manifest says, or shorter than `SHORTEST` and not padded.
    """

    def clips() -> Iterator[tuple[str, np.ndarray, bool]]:
        progress = tqdm(
            rows.to_dict("records"), desc="packing", unit="clip", leave=False, disable=None
        )
        for number, row in enumerate(progress, start=1):
            samples = _read(row, Path(root), number)
            samples = resampled(samples, row["rate"], rate, "sinc_interp_kaiser")
            samples = _padded(samples, rate, pad_seconds)
            if len(samples) < SHORTEST * rate:
                raise InputError(
                    f"{_where(row, Path(root), number)}: {len(samples)} samples at {rate} Hz, "
                    f"less than {SHORTEST} s; remove the clip or raise `pad_seconds`"
                )
            silent = np.abs(samples).max() < SILENT
            if alter is not None:
                samples = alter(row["ID"], samples)
            yield row["ID"], quantised(samples), silent

    return _store(clips(), folder, rate)


def reordered(made: Pack, names: Mapping[str, str], folder: str | Path) -> Pack:
    """A copy of a pack under other names, in the order of these.

    Silent is here what is silent in the pack: a clip that was so before its trigger only would be
    told by it.

    Arguments
    ---------
    made : Pack
        The waveforms.
    names : Mapping[str, str]
        New name to old, of some of them or all.
    folder : str | Path
        Where the copy goes; it appears when it is whole.
    """

    def clips() -> Iterator[tuple[str, np.ndarray, bool]]:
        for new, old in names.items():
            yield new, made.pcm(old), np.abs(made.waveform(old)).max() < SILENT

    return _store(clips(), folder, made.rate)


def _store(clips: Iterable[tuple[str, np.ndarray, bool]], folder: str | Path, rate: int) -> Pack:
    """Write names, samples (T,) int16, and what counts as silent, as a pack."""
    with atomic(folder) as temporary:
        temporary.mkdir()
        ids, silent, offsets = [], [], [0]
        with (temporary / "samples.i16").open("wb") as file:
            for name, pcm, is_silent in clips:
                file.write(pcm.tobytes())
                ids.append(name)
                offsets.append(offsets[-1] + len(pcm))
                silent += [name] * bool(is_silent)
        about = {"ids": ids, "offsets": offsets, "rate": rate, "silent": silent}
        about[SEAL] = seal(about, digests(temporary, [temporary / "samples.i16"]))
        (temporary / "pack.json").write_text(json.dumps(about), "utf-8")
    return Pack.open(folder)


def quantised(samples: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] as the int16 that a pack holds."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")


def _where(row: dict, root: Path, number: int) -> str:
    return f"{root / row['wav'].removeprefix(DATA_ROOT)} (manifest row {number}, {row['ID']})"


def _read(row: dict, root: Path, number: int) -> np.ndarray:
    """One utterance, (T,) float32, channels averaged, checked."""
    where = _where(row, root, number)
    path = root / row["wav"].removeprefix(DATA_ROOT)
    check_regular(path)
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            check_clip(where, row["stop"] - row["start"], rate, file.channels)
            file.seek(row["start"])
            samples = file.read(row["stop"] - row["start"], dtype="float32", always_2d=True)
    except (OSError, RuntimeError, MemoryError) as error:
        raise InputError(
            f"{where}: not readable as audio; restore it, then prepare again"
        ) from error
    if rate != row["rate"]:
        raise InputError(f"{where}: {rate} Hz, the manifest says {row['rate']}; prepare again")
    if len(samples) != row["stop"] - row["start"]:
        raise InputError(
            f"{where}: ends before sample {row['stop']}; restore it, then prepare again"
        )
    if not np.isfinite(samples).all():
        raise InputError(f"{where}: holds NaN or infinite samples; restore or remove it")
    return samples.mean(axis=1)


def _padded(samples: np.ndarray, rate: int, seconds: float | None) -> np.ndarray:
    short = round((seconds or 0) * rate) - len(samples)
    return np.pad(samples, (0, short)) if short > 0 else samples
