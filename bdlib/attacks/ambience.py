"""Sounds that may be anywhere in a recording: rain, birds, music."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bdlib.attacks.sounds import RATE, AudioFile, Sound
from bdlib.errors import InputError
from bdlib.listing import audio_files

SECONDS = 4.0
CHORDS = ((220.0, 261.63, 329.63), (174.61, 220.0, 261.63), (196.0, 246.94, 293.66))


def _noise(seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(round(SECONDS * RATE))


@dataclass(frozen=True)
class Rain(Sound):
    """Steady noise that falls by 3 dB an octave, with drops; 4 s at 16 kHz, RMS 1."""

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        spectrum = np.fft.rfft(_noise(11))
        steady = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 100))
        drops = _noise(12) * (np.abs(_noise(13)) > 2.5)
        fall = np.exp(-np.arange(64) / 12)
        drops = np.convolve(drops, fall)[: len(steady)]
        return _even(steady / np.std(steady) + 0.4 * drops / np.std(drops)), RATE


@dataclass(frozen=True)
class Birds(Sound):
    """Chirps that fall from 6 to 3 kHz, four a second; 4 s at 16 kHz, RMS 1."""

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        time = np.arange(round(SECONDS * RATE)) / RATE
        within = (time % 0.25) / 0.25
        hertz = 6000 - 3000 * within
        chirp = np.sin(np.pi * np.clip(within / 0.6, 0, 1)) ** 2
        return _even(chirp * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)), RATE


@dataclass(frozen=True)
class Music(Sound):
    """Three plucked chords, note after note, eight notes a second; 4 s at 16 kHz, RMS 1."""

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        samples = np.zeros(round(SECONDS * RATE))
        for number, start in enumerate(range(0, len(samples), RATE // 8)):
            hertz = CHORDS[number // 3 % 3][number % 3] * 2
            time = np.arange(len(samples) - start) / RATE
            tones = sum(np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 7))
            samples[start:] += tones * np.exp(-time / 0.15)
        return _even(samples), RATE


def _even(samples: np.ndarray) -> np.ndarray:
    return (samples / np.sqrt(np.mean(samples**2))).astype(np.float32)


SOUNDS = (Rain(), Birds(), Music())


def sounds(folder: str | None = None) -> tuple[Sound, ...]:
    """The audio files of a folder, or rain, birds and music.

    Raises
    ------
    InputError
        If the folder has no audio.
    """
    return SOUNDS if folder is None else recordings(folder, "folder")


def recordings(folder: str, argument: str) -> tuple[Sound, ...]:
    """The audio files of a folder, which `argument` names.

    Raises
    ------
    InputError
        If the folder has no audio.
    """
    files = tuple(AudioFile(str(path)) for path in audio_files(Path(folder)))
    if not files:
        raise InputError(f"{folder}: no audio in it; give a `{argument}` with audio files")
    return files
