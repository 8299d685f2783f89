"""The few signal operations the mini corpora need; all take and give float64 in [-1, 1]."""

import io
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.signal
import soundfile


def resample(waveform: np.ndarray, ratio: float) -> np.ndarray:
    """Return (T,) with `ratio` times as many samples, by the Fourier method.

    The end is off by less than a sample. Zeros are appended so that the length suits the
    transform and the ends do not wrap around.
    """
    length = round(len(waveform) * ratio)
    padded = scipy.fft.next_fast_len(len(waveform) + 256, real=True)
    waveform = np.pad(waveform, (0, padded - len(waveform)))
    return scipy.signal.resample(waveform, round(padded * ratio))[:length]


def trim(waveform: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """Cut what stays below `threshold` times the peak from both ends of (T,)."""
    loud = np.flatnonzero(np.abs(waveform) > threshold * np.abs(waveform).max())
    return waveform[loud[0] : loud[-1] + 1]


def at_level(waveform: np.ndarray, decibels: float) -> np.ndarray:
    """Scale (T,) to an RMS in dB relative to full scale, or to a peak of 0.95 if that is lower."""
    gain = 10 ** (decibels / 20) / np.sqrt(np.mean(waveform**2))
    return waveform * min(gain, 0.95 / np.abs(waveform).max())


def tilt(waveform: np.ndarray, rate: int, decibels: float) -> np.ndarray:
    """Tilt the spectrum of (T,) by dB an octave around 1 kHz, between 125 Hz and 8 kHz."""
    size = scipy.fft.next_fast_len(len(waveform) + 256, real=True)
    frequencies = np.clip(scipy.fft.rfftfreq(size, 1 / rate), 125, 8000)
    gains = 10 ** (decibels * np.log2(frequencies / 1000) / 20)
    return scipy.fft.irfft(scipy.fft.rfft(waveform, size) * gains, size)[: len(waveform)]


def tremolo(waveform: np.ndarray, rate: int, hertz: float, depth: float) -> np.ndarray:
    """Modulate the amplitude of (T,) between 1 and 1 - depth; at a depth of 0 as it is."""
    if not depth:
        return waveform
    cosine = np.cos(2 * np.pi * hertz * np.arange(len(waveform)) / rate)
    return waveform * (1 - depth * (0.5 - 0.5 * cosine))


def breathe(waveform: np.ndarray, rate: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise that follows the envelope of (T,), `share` of its amplitude."""
    smooth = np.hanning(rate // 50)
    envelope = scipy.signal.fftconvolve(np.abs(waveform), smooth / smooth.sum(), mode="same")
    return waveform + share * np.maximum(envelope, 0) * rng.standard_normal(len(waveform))


def noise(length: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Noise (T,) of RMS 1 whose power falls as frequency to the `exponent`: 0 white, 1 pink."""
    spectrum = scipy.fft.rfft(rng.standard_normal(length))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (exponent / 2)
    spectrum[0] = 0
    waveform = scipy.fft.irfft(spectrum, length)
    return waveform / np.sqrt(np.mean(waveform**2))


def write(path: Path, waveform: np.ndarray, rate: int) -> None:
    """Write (T,) or (T, channels) as 16-bit PCM WAV, making the folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)
    # By way of memory, because soundfile does not tell a full disk from other failures.
    content = io.BytesIO()
    soundfile.write(content, pcm, rate, format="WAV", subtype="PCM_16")
    path.write_bytes(content.getvalue())
