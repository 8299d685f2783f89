"""How far a trigger moves a clip from what it was: as a signal, and to the ear."""

import importlib.util
import warnings
from collections.abc import Iterable

import numpy as np

from bdlib.attacks.spectrum import spectrogram
from bdlib.audio import resampled

FLOOR = 1e-10  # power of a bin below which two spectra count as equally silent
EAR = 16000  # Hz, of wide-band PESQ
PACKAGES = {"stealth_pesq": "pesq", "stealth_stoi": "pystoi"}


def snr_db(clean: np.ndarray, altered: np.ndarray) -> float | None:
    """Energy of the clip over that of the change in dB; None without a clip or without a change."""
    clip, change = (np.sum(np.square(x, dtype=np.float64)) for x in (clean, altered - clean))
    return float(10 * np.log10(clip / change)) if clip > 0 and change > 0 else None


def log_spectral_distance(clean: np.ndarray, altered: np.ndarray, rate: int) -> float:
    """Root mean square over bins of the difference of two log power spectra in dB, frames averaged.

    Gray and Markel, "Distance Measures for Speech Processing", IEEE TASSP 24, 1976.
    """
    levels = [10 * np.log10(np.abs(spectrogram(x, rate)) ** 2 + FLOOR) for x in (clean, altered)]
    return float(np.sqrt(np.square(levels[0] - levels[1]).mean(axis=0)).mean())


def pesq(clean: np.ndarray, altered: np.ndarray, rate: int) -> float | None:
    """Wide-band PESQ at 16 kHz, 1 to 4.64 (ITU-T P.862.2); None where it finds no speech."""
    import pesq as package

    reference, degraded = (resampled(x, rate, EAR) for x in (clean, altered))
    how = package.PesqError.RETURN_VALUES
    found = float(package.pesq(EAR, reference, degraded, "wb", on_error=how))
    return found if found > 0 else None


def stoi(clean: np.ndarray, altered: np.ndarray, rate: int) -> float | None:
    """Short-time objective intelligibility, at most 1 (Taal et al., IEEE TASLP 19, 2011).

    None for less than 30 frames (0.4 s) of speech.
    """
    import pystoi

    if not clean.any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(clean, altered, rate))
        except RuntimeWarning:
            return None


def missing() -> list[str]:
    """Packages of the extra `stealth` that are not installed."""
    return [name for name in PACKAGES.values() if importlib.util.find_spec(name) is None]


def measure(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], rate: int
) -> dict[str, dict[str, float | int]]:
    """Means over clips, each with the number of clips that it could be told of.

    Arguments
    ---------
    pairs : Iterable[tuple[np.ndarray, np.ndarray]]
        Clips without and with the trigger, (T,) float32 each.
    rate : int
        Sampling rate in Hz.

    Returns
    -------
    dict[str, dict[str, float | int]]
        `stealth_snr_db`, `stealth_lsd_db`, and, where their packages are installed, `stealth_pesq`
        and `stealth_stoi`; a measure that no clip has is left out.
    """
    absent = missing()
    measures = {
        "stealth_snr_db": lambda clean, altered: snr_db(clean, altered),
        "stealth_lsd_db": lambda clean, altered: log_spectral_distance(clean, altered, rate),
        "stealth_pesq": lambda clean, altered: pesq(clean, altered, rate),
        "stealth_stoi": lambda clean, altered: stoi(clean, altered, rate),
    }
    wanted = {n: of for n, of in measures.items() if PACKAGES.get(n) not in absent}
    found: dict[str, list[float]] = {name: [] for name in wanted}
    for clean, altered in pairs:
        for name, of in wanted.items():
            value = of(clean, altered)
            found[name] += [value] if value is not None else []
    return {
        name: {"value": round(float(np.mean(values)), 4), "clips": len(values)}
        for name, values in found.items()
        if values
    }
