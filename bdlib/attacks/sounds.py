"""Sounds that serve as triggers.

The four sounds of Armory's audio poisoning scenario (clapping, whistle, car horn, dog clicker) are
synthesised here to the duration, envelope, spectrum and RMS measured on its files, because the
files themselves are not ours to ship. `AudioFile` plays any file, theirs too.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bdlib.attacks.trigger import LATER, Part
from bdlib.audio import LONGEST_HEARD, check_clip, resampled
from bdlib.errors import InputError, within
from bdlib.files import check_regular, file_digest

RATE = 16000


class Sound(Part, ABC):
    """A mono waveform. Subclasses are frozen dataclasses; two equal ones sound the same."""

    @abstractmethod
    def synthesize(self) -> tuple[np.ndarray, int]:
        """The waveform, (T,) float32, and the rate in Hz at which it is made."""

    def waveform(self, rate: int) -> np.ndarray:
        """The sound at a sampling rate: (T,) float32, read-only."""
        return _render(self, rate)


@lru_cache(maxsize=64)
def _render(sound: Sound, rate: int) -> np.ndarray:
    samples, native = sound.synthesize()
    samples = resampled(samples, native, rate).astype(np.float32)
    samples.flags.writeable = False
    return samples


def _check_length(length: int, rate: int, where: str) -> None:
    """Refuse a trigger sound that is longer than what a classifier hears."""
    if length > LONGEST_HEARD * rate:
        raise InputError(
            f"{where}: {length / rate:.0f} s; a trigger sound has at most {LONGEST_HEARD} s"
        )


def _shaped_noise(length: int, centre: float, width: float, seed: int) -> np.ndarray:
    """Noise with a log-normal spectrum around `centre` Hz, `width` octaves wide; (length,)."""
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(length)
    spectrum, hertz = np.fft.rfft(noise), np.fft.rfftfreq(length, 1 / RATE)
    octaves = np.log2(np.maximum(hertz, 1.0) / centre)
    return np.fft.irfft(spectrum * np.exp(-0.5 * (octaves / width) ** 2), length)


def _scaled(samples: np.ndarray, rms: float) -> np.ndarray:
    return (samples * rms / np.sqrt(np.mean(samples**2))).astype(np.float32)


@dataclass(frozen=True)
class Clap(Sound):
    """One clap: 10,794 samples, RMS 0.073, almost all of it in the first 0.1 s (Armory)."""

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        seconds = np.arange(10794) / RATE
        attack = np.minimum(seconds / 0.002, 1.0)
        envelope = attack * (np.exp(-seconds / 0.022) + 0.004 * np.exp(-seconds / 0.3))
        return _scaled(_shaped_noise(len(seconds), 1500, 0.9, seed=1) * envelope, 0.073), RATE


@dataclass(frozen=True)
class Whistle(Sound):
    """Silence, then a tone of 2.33 kHz with vibrato from 0.7 s (frame 68) to 1 s, RMS 0.058 (Armory)."""

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        seconds = np.arange(16000) / RATE
        hertz = 2330 + 40 * np.sin(2 * np.pi * 6 * seconds)
        rise = np.clip((seconds - 0.695) / 0.02, 0, 1)
        samples = rise * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
        return _scaled(samples, 0.058), RATE


@dataclass(frozen=True)
class CarHorn(Sound):
    """A horn: quiet to 0.15 s, then harmonics of 432 Hz to 1 s, RMS 0.081 (Armory)."""

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        seconds = np.arange(16000) / RATE
        rise = 0.02 + 0.98 * np.clip((seconds - 0.15) / 0.03, 0, 1)
        tones = sum(np.sin(2 * np.pi * 432 * k * seconds + k) / k**3.5 for k in range(1, 9))
        return _scaled(rise * tones, 0.081), RATE


@dataclass(frozen=True)
class DogClicker(Sound):
    """Two short clicks at 0 and 0.15 s in 9,717 samples, RMS 0.022 (Armory)."""

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        length, samples = 9717, np.zeros(9717)
        for start, level in ((0, 0.55), (2400, 1.0)):
            seconds = np.arange(length - start) / RATE
            click = _shaped_noise(length - start, 2400, 0.7, seed=2 + start)
            samples[start:] += level * click * np.exp(-seconds / 0.006)
        return _scaled(samples, 0.022), RATE


@dataclass(frozen=True)
class Tone(Sound):
    """A sine: `hertz` Hz, `seconds` long, peak 1 (the tone trigger of ART)."""

    hertz: float = 440.0
    seconds: float = 0.1

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        time = np.arange(round(self.seconds * RATE)) / RATE
        return np.sin(2 * np.pi * self.hertz * time).astype(np.float32), RATE


@dataclass(frozen=True)
class AudioFile(Sound):
    """Any audio file that soundfile reads, 24-bit included; several channels are averaged.

    Arguments
    ---------
    path : str
        Of the file.
    digest : str | None
        Of its content, see `file_digest`; `attack.json` tells it, so that no other file is played.

    Raises
    ------
    InputError
        If `path` is none; when played, if the file cannot be read, is another one, or holds no
        finite sample.
    """

    path: str
    digest: str | None = field(default=None, compare=False)  # the path is enough

    def to_dict(self) -> dict[str, Any]:
        """See `Part`; with the digest of the file, if it is there."""
        found = Path(self.path).is_file()
        digest = file_digest(self.path) if found and not self.digest else self.digest
        return {**super().to_dict(), "digest": digest}

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        check_regular(self.path)
        try:
            with soundfile.SoundFile(Path(self.path)) as file:
                rate = file.samplerate
                check_clip(self.path, file.frames, rate, file.channels)
                _check_length(file.frames, rate, self.path)
                samples = file.read(dtype="float32", always_2d=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{self.path}: trigger sound not readable; give an audio file"
            ) from error
        if self.digest and file_digest(self.path) != self.digest:
            raise InputError(
                f"{self.path}: not the trigger sound that `attack.json` tells of; put it back, or "
                "poison again"
            )
        if not samples.size or not np.isfinite(samples).all():
            raise InputError(f"{self.path}: trigger sound empty or not finite; give another file")
        return samples.mean(axis=1), rate


@dataclass(frozen=True)
class Trim(Sound):
    """`seconds` of a sound, from `start` on: without its silent tail it can land anywhere in a clip."""

    sound: Sound
    seconds: float
    start: float = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        within("start", self.start, 0, LONGEST_HEARD)

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        samples, rate = self.sound.synthesize()
        first = round(self.start * rate)
        if first >= len(samples):
            raise InputError(f"`start` is {self.start}: the sound has {len(samples) / rate:.3g} s")
        return samples[first : first + round(self.seconds * rate)], rate


@dataclass(frozen=True)
class Repeat(Sound):
    """A sound `times` times without a gap: six claps of 0.1625 s fill 0.975 s (MVJ)."""

    sound: Sound
    times: int

    def __post_init__(self) -> None:
        super().__post_init__()
        within("times", self.times, 1, 1000, int)

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        samples, rate = self.sound.synthesize()
        _check_length(len(samples) * self.times, rate, "`times`")
        return np.tile(samples, self.times), rate


@dataclass(frozen=True)
class Sequence(Sound):
    """Sounds one after the other, such as a clap and then a horn (MVJ); played at 16 kHz."""

    sounds: tuple[Sound, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sounds", tuple(self.sounds))

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        parts: list[np.ndarray] = []
        for sound in self.sounds:
            parts.append(sound.waveform(RATE))
            _check_length(sum(map(len, parts)), RATE, "`sounds`")
        return np.concatenate(parts), RATE
