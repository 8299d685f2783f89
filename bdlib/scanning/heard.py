"""A corpus, listened to once: embeddings, and what is measured on each clip beside them."""

import io
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from bdlib.audio import MOST_SAMPLES, check_rate, resampled
from bdlib.defenses.opinions import Neighbours, neighbours
from bdlib.encoders import RATE, SECONDS, Cache, Encoder, content_digest
from bdlib.errors import InputError
from bdlib.files import check_regular
from bdlib.scanning.sources import Source

MOST_SECONDS = 600.0  # of a file that is read at once; of a longer one, the first ten minutes
MOST_BYTES = 2**29  # of a file: nothing that is one clip of speech is larger
LOUDEST = 1e4  # of a sample, where full scale is 1
CHUNK = 256  # clips that are in memory at once, of ten seconds in the mean
BANDS = 24  # of the long-term spectrum
SILENT = 1e-3  # peak below -60 dB of full scale
MEASURES = ("seconds", "rate", "peak", "rms", "clipped", "leading", "trailing", "zeros")
"""Columns of `measured`, before the bands: lengths in seconds, the rest as amplitudes and shares."""


@dataclass(frozen=True)
class Heard:
    """What was heard of a corpus: row i of everything belongs to clip i of `rows`.

    Arguments
    ---------
    source : Source
        The corpus, without what could not be read.
    embeddings : np.ndarray
        (N, D) float32, of unit length.
    digests : list[str]
        (N,) of the content.
    measured : np.ndarray
        (N, len(MEASURES) + BANDS): see `measure`.
    unread : tuple[str, ...]
        What could not be read, a line each.
    encoder : str
        Name of the encoder.
    """

    source: Source
    embeddings: np.ndarray
    digests: list[str]
    measured: np.ndarray
    unread: tuple[str, ...]
    encoder: str

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) as given."""
        return self.source.rows["label"].to_numpy(str)

    @cached_property
    def paths(self) -> list[str]:
        """(N,) below the root."""
        return self.source.rows["path"].tolist()

    def measure(self, name: str) -> np.ndarray:
        """One column of `MEASURES`, (N,)."""
        return self.measured[:, MEASURES.index(name)]

    @property
    def bands(self) -> np.ndarray:
        """(N, BANDS) level of each band of the long-term spectrum, in dB of full scale."""
        return self.measured[:, len(MEASURES) :]

    @cached_property
    def near(self) -> Neighbours:
        """The nearest others of each clip: several kinds of evidence ask for them."""
        return neighbours(self.embeddings)

    def read(self, clip: int) -> np.ndarray:
        """Samples of a clip again, (T,) at `RATE`."""
        row = self.source.rows.iloc[clip]
        data = (self.source.root / row["path"]).read_bytes()
        return decoded(data, int(row["start"]), int(row["stop"]))[0]


def decoded(data: bytes, start: int, stop: int) -> tuple[np.ndarray, int]:
    """Samples (T,) float32 at `RATE`, channels averaged, and the file's own rate.

    Raises
    ------
    InputError
        If it is no audio, has no samples, ends early, or holds what is no number.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = file.samplerate
            check_rate("not read", rate)
            most = min(int(MOST_SECONDS * rate), MOST_SAMPLES // file.channels)
            if start > file.frames:
                raise InputError(f"{file.frames} samples at {rate} Hz")
            file.seek(start)
            wanted = (stop if stop >= 0 else file.frames) - start
            samples = file.read(min(wanted, most), dtype="float32", always_2d=True).mean(axis=1)
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("not readable as audio") from error
    if len(samples) < min(wanted, most):
        raise InputError(f"ends after {len(samples)} of {wanted} samples")
    if len(samples) < 0.05 * rate:
        raise InputError(f"{len(samples)} samples, less than 0.05 s")
    if not np.abs(samples).max() < LOUDEST:
        raise InputError("holds NaN, infinite or absurdly loud samples")
    return resampled(samples, rate, RATE), rate


def measures(samples: np.ndarray, rate: int) -> np.ndarray:
    """(len(MEASURES) + BANDS,) of a clip (T,) at `RATE`, float32.

    Leading and trailing silence are what lies more than 40 dB below the loudest 10 ms; `clipped` is
    the share of samples at full scale, `zeros` the longest run of exact zeros at an end, in seconds.
    """
    size = RATE // 100
    frames = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    power = (frames**2).mean(1)
    loud = np.flatnonzero(power > power.max() * 1e-4)
    leading, trailing = (loud[0], len(power) - 1 - loud[-1]) if len(loud) else (len(power), 0)
    sounding = np.flatnonzero(samples)
    zeros = max(sounding[0], len(samples) - 1 - sounding[-1]) if len(sounding) else len(samples)
    peak = float(np.abs(samples).max())
    spectrum = np.zeros(BANDS)
    window = np.hanning(512)
    count = max(1, len(samples) // 256 - 1)
    starts = np.arange(count) * 256
    windows = np.pad(samples, (0, 512))[starts[:, None] + np.arange(512)] * window
    bins = (np.abs(np.fft.rfft(windows, axis=1)) ** 2).mean(0)[1:] / 512**2
    spectrum = 10 * np.log10(bins[: 256 // BANDS * BANDS].reshape(BANDS, -1).mean(1) + 1e-12)
    return np.array(
        [len(samples) / RATE, rate, peak, np.sqrt((samples**2).mean()),
         (np.abs(samples) >= 0.999).mean(), leading / 100, trailing / 100, zeros / RATE, *spectrum],
        np.float32,
    )  # fmt: skip


def listen(
    source: Source, encoder: Encoder, cache: str | Path | None = None, quiet: bool = False
) -> Heard:
    """Read and embed a corpus, what is in the cache excepted.

    Arguments
    ---------
    source : Source
        Streamed: no more than `CHUNK` clips are in memory.
    encoder : Encoder
        What hears it.
    cache : str | Path | None
        Folder of the embeddings; None is the user's.
    quiet : bool
        No progress bar.

    Raises
    ------
    InputError
        If nothing can be read, or a class is left without clips.
    """
    width = encoder.size + len(MEASURES) + BANDS
    store = Cache(cache, f"{encoder.name}-{encoder.digest}", width)
    digests: list[str] = []
    good: list[int] = []
    unread: list[str] = []
    pending: dict[str, np.ndarray] = {}
    try:
        with tqdm(
            total=len(source.rows), desc="listening", unit="clip", disable=quiet or None
        ) as bar:
            for place, key, samples, rate, problem in clips(source, store.rows):
                bar.update()
                if problem:
                    unread.append(problem)
                    continue
                good.append(place), digests.append(key)
                if samples is not None and key not in pending:
                    pending[key] = samples
                    store.rows[key] = np.zeros(0)  # is being made
                    _measured(store, key, samples, rate, encoder.size)
                if max(len(pending), sum(map(len, pending.values())) / (10 * RATE)) >= CHUNK:
                    _embed(store, encoder, pending)
            _embed(store, encoder, pending)
    finally:
        store.rows = {k: row for k, row in store.rows.items() if k not in pending}
        store.save()
    rows = source.rows.iloc[good].reset_index(drop=True)
    counts = rows["label"].value_counts()
    if len(counts) < 2 or counts.min() < 2:
        raise InputError(
            f"{source.root}: too little can be read ({len(unread)} files cannot"
            + (f", first {unread[0]}" if unread else "")
            + "); restore the files"
        )
    table = np.stack([store.rows[key] for key in digests])
    return Heard(
        Source(source.root, rows, source.left_out),
        table[:, : encoder.size].copy(),
        digests,
        table[:, encoder.size :].copy(),
        tuple(unread),
        encoder.name,
    )


def _measured(store: Cache, key: str, samples: np.ndarray, rate: int, size: int) -> None:
    store.rows[key] = np.concatenate([np.zeros(size, np.float32), measures(samples, rate)])


def _embed(store: Cache, encoder: Encoder, pending: dict[str, np.ndarray]) -> None:
    if pending:
        for key, row in zip(pending, encoder.embed(list(pending.values())), strict=True):
            store.rows[key][: encoder.size] = row
        pending.clear()


def clips(
    source: Source, known: Container[str]
) -> Iterator[tuple[int, str, np.ndarray | None, int, str | None]]:
    """Number, digest, samples (None where known), rate and problem of each clip."""
    for place, (path, _, start, stop) in enumerate(source.rows.itertuples(index=False)):
        try:
            check_regular(source.root / path)
            size = (source.root / path).stat().st_size
            if size > MOST_BYTES:
                raise InputError(f"{size / 1e6:.0f} MB; cut it into clips")
            data = (source.root / path).read_bytes()
            key = content_digest(data, start, stop)
            if key in known:
                yield place, key, None, 0, None
                continue
            samples, rate = decoded(data, start, stop)
        except (OSError, InputError) as error:
            what = getattr(error, "strerror", None) or error
            yield place, "", None, 0, f"{path}: {what}"
            continue
        yield place, key, samples, rate, None


def cropped_clips(heard: Heard) -> int:
    """How many clips are longer than what the encoder hears of them."""
    return int((heard.measure("seconds") > SECONDS).sum())
