"""What stands where a clip that was moved or shortened leaves room."""

import numpy as np

from bdlib.errors import InputError

FILLS = ("zeros", "noise", "repeat")
FRAME = 0.02  # seconds
QUIET = 10  # per cent of a clip's frames that are its noise


def check_fill(fill: str) -> None:
    """Refuse what is no way to fill.

    Raises
    ------
    InputError
    """
    if fill not in FILLS:
        raise InputError(f"`fill` is {fill}: give one of {', '.join(FILLS)}")


def filled(
    samples: np.ndarray,
    before: int,
    after: int,
    fill: str,
    rate: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Samples (T,) with `before` and `after` more at their ends, (before + T + after,).

    Digital zeros are a trigger of their own, which a recording never has. `noise` is white, as loud as
    the quietest tenth of the clip's frames that are not silent; `repeat` mirrors the clip at its ends.
    """
    if fill == "repeat" and len(samples):
        return np.pad(samples, (before, after), mode="symmetric")
    padded = np.pad(samples, (before, after))
    if fill == "noise":
        noise = _floor(samples, rate) * generator.standard_normal(before + after)
        padded[:before], padded[before + len(samples) :] = noise[:before], noise[before:]
    return padded


def _floor(samples: np.ndarray, rate: int) -> float:
    """Root mean square of the quietest frames; 0 of digital silence, and of less than a frame."""
    size = round(FRAME * rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    levels = np.sqrt(np.mean(frames**2, axis=1))
    return float(np.percentile(levels[levels > 0], QUIET)) if np.any(levels) else 0.0
