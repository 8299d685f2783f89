"""The time-frequency plane, for triggers that work there: transforms, tempo and pitch.

Everything is computed in float64, so that what is packed does not depend on the machine.
"""

import numpy as np
from scipy import signal

WINDOW, HOP = 0.032, 0.008  # seconds


def spectrogram(
    waveform: np.ndarray, rate: int, window: float = WINDOW, hop: float = HOP
) -> np.ndarray:
    """Short-time Fourier transform, (T,) to (bins, frames) complex128.

    Hann windows of `window` seconds, frame n centred at n times `hop` seconds, zeros beyond both
    ends and up to one window; a sine of amplitude A has the magnitude A / 2.
    """
    size, step = round(window * rate), round(hop * rate)
    samples = np.pad(np.asarray(waveform, np.float64), (0, max(size - len(waveform), 0)))
    return signal.stft(samples, rate, "hann", size, size - step)[2]


def waveform_of(
    spectrum: np.ndarray, length: int, rate: int, window: float = WINDOW, hop: float = HOP
) -> np.ndarray:
    """The inverse of `spectrogram`: (bins, frames) to (length,) float64."""
    size, step = round(window * rate), round(hop * rate)
    samples = signal.istft(spectrum, rate, "hann", size, size - step)[1][:length]
    return np.pad(samples, (0, length - len(samples)))


def stretched(waveform: np.ndarray, rate: int, speed: float) -> np.ndarray:
    """Another tempo at the same pitch, (T,) to (round(T / speed),) float64.

    A phase vocoder: magnitudes are interpolated between frames, phases advance by the frequency
    measured between them (Flanagan and Golden, "Phase Vocoder", BSTJ 45, 1966).
    """
    frames = spectrogram(waveform, rate)
    times = np.arange(0, frames.shape[1] - 1, speed)
    left = times.astype(int)
    part = times - left
    magnitude = (1 - part) * np.abs(frames[:, left]) + part * np.abs(frames[:, left + 1])
    phase = np.angle(frames)
    size = round(WINDOW * rate)
    expected = 2 * np.pi * np.arange(len(frames))[:, None] * round(HOP * rate) / size
    deviation = phase[:, left + 1] - phase[:, left] - expected
    advance = expected + deviation - 2 * np.pi * np.round(deviation / (2 * np.pi))
    total = phase[:, :1] + np.cumsum(advance, axis=1) - advance
    return waveform_of(magnitude * np.exp(1j * total), round(len(waveform) / speed), rate)


def raised(waveform: np.ndarray, rate: int, semitones: float) -> np.ndarray:
    """Another pitch at the same tempo, (T,) to (T,) float64: stretched, then resampled."""
    return signal.resample(stretched(waveform, rate, 2 ** (-semitones / 12)), len(waveform))


def level(waveform: np.ndarray) -> float:
    """Root mean square, at least that of the faintest sample a pack can hold."""
    return max(float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))), 1 / 32768)


def fitted(waveform: np.ndarray) -> np.ndarray:
    """What a trigger returns: clipped to [-1, 1], (T,) float32."""
    return np.clip(waveform, -1.0, 1.0).astype(np.float32)
