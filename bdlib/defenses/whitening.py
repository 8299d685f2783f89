"""Clips of which every cell of the spectrogram weighs the same, and how well they fit each other at some lag.

So a faint sound in a pause counts as much as the loudest vowel.
"""

import numpy as np
import torch

from bdlib.encoders import cropped

SECOND = 16384  # samples: a second at `RATE`, as a power of two
LONGEST = 32.0  # seconds of a clip that is looked through: a voice message
WINDOW, HOP = 512, 128
LOWEST = 4  # bins below it, 125 Hz, hold hum and offset, which all recordings of a device share
QUIET = 1e-4  # amplitude of a bin below which whitening lets go: digital silence stays silent
PART = 0.9  # share of a template's energy that is kept: the time that the sound takes
BATCH = 128


def loudest(samples: np.ndarray, length: int = SECOND) -> np.ndarray:
    """The stretch of a clip (T,) that has the most energy, (length,); all of a shorter one."""
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    begin = int(np.argmax(energy[length:] - energy[:-length])) if len(samples) > length else 0
    return samples[begin : begin + length]


def whitened(samples: np.ndarray, length: int) -> torch.Tensor:
    """A clip (T,) with equal weight of all cells of its spectrogram, of unit norm; (length,)."""
    flat = _flat(cropped(samples)[:length], length)
    return flat / flat.norm().clamp_min(1e-6)


def whitened_whole(samples: np.ndarray, length: int) -> torch.Tensor:
    """As `whitened`, all of a clip (T,); the fullest of its stretches of `length` has unit norm.

    So a stretch of silence does not count as loud. The result is a power of two in length; of a clip of
    more than `LONGEST` seconds it is of the middle.
    """
    samples = cropped(samples, LONGEST)
    flat = _flat(samples, int(2 ** np.ceil(np.log2(max(len(samples), length)))))
    return flat / flat.unfold(0, length, length // 4).norm(dim=1).max().clamp_min(1e-6)


def _flat(samples: np.ndarray, length: int) -> torch.Tensor:
    """A clip with equal weight of all cells of its spectrogram, and silence after it; (length,)."""
    wav = torch.zeros(length)
    wav[: len(samples)] = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    window = torch.hann_window(WINDOW)
    cells = torch.stft(wav, WINDOW, HOP, window=window, return_complex=True)
    cells = cells / (cells.abs() + QUIET * WINDOW**0.5)
    cells[:LOWEST] = 0
    return torch.istft(cells, WINDOW, HOP, window=window, length=length)


def correlations(
    spectra: torch.Tensor, templates: torch.Tensor, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Largest circular cross-correlation of rows with rows, and its lag in samples; both (B,).

    Arguments
    ---------
    spectra, templates : torch.Tensor
        (B, length // 2 + 1) complex; `templates` may be one row.
    length : int
        Of the waveforms.
    """
    values, lags = [], []
    for start in range(0, len(spectra), BATCH):
        part = slice(start, start + BATCH)
        other = templates[part] if len(templates) == len(spectra) else templates
        peak = torch.fft.irfft(spectra[part] * other.conj(), length).max(1)
        values.append(peak.values), lags.append(peak.indices)
    return torch.cat(values).numpy(), torch.cat(lags).numpy()


def loudest_part(wave: torch.Tensor) -> torch.Tensor:
    """The stretch that holds most of a waveform's energy over its usual level, zeros elsewhere.

    Where nothing stands out, all of it.
    """
    power = torch.nn.functional.avg_pool1d((wave**2)[None], 256, 64, ceil_mode=True)[0]
    power = (power - 2 * power.median()).clamp_min(0)
    if not power.any():  # a steady sound
        return wave / wave.norm().clamp_min(1e-6)
    total = power.cumsum(0) / power.sum()
    begin = int((total > (1 - PART) / 2).nonzero()[0]) * 64
    end = int((total > (1 + PART) / 2).nonzero()[0]) * 64 + 256
    kept = torch.zeros_like(wave)
    kept[begin:end] = wave[begin:end]
    return kept / kept.norm().clamp_min(1e-6)
