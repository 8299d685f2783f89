"""Audio from strangers: what is read at all, in bounded memory and time."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from bdlib.errors import InputError

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # Hz; what speech is recorded at lies well within
LONGEST_CLIP = 3600  # seconds; longer recordings are cut by `start` and `stop`
LONGEST_HEARD = 120  # seconds that a classifier or a trigger may ask for
MOST_SAMPLES = 2**28  # of a clip, over all channels: 1 GiB as float32
MOST_PHASES = 1000  # of a resampling filter, whose memory grows with their square


def check_rate(where: str | Path, rate: int) -> None:
    """Refuse a sampling rate (Hz) at which no speech is recorded; `where` begins the line.

    Raises
    ------
    InputError
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InputError(
            f"{where}: {rate} Hz; rates from {LOWEST_RATE} to {HIGHEST_RATE} Hz are read; "
            "resample or remove the file"
        )


def check_clip(where: str | Path, frames: int, rate: int, channels: int = 1) -> None:
    """Refuse a clip that would take more memory or time than one clip should.

    Arguments
    ---------
    where : str | Path
        The file, and what else finds the clip.
    frames : int
        Samples a channel.
    rate : int
        Hz.
    channels : int
        How many.

    Raises
    ------
    InputError
    """
    check_rate(where, rate)
    if frames > LONGEST_CLIP * rate or frames * channels > MOST_SAMPLES:
        raise InputError(
            f"{where}: {frames / rate:.0f} s in {channels} channels: a clip is at most {LONGEST_CLIP} s and "
            f"{MOST_SAMPLES} samples; cut it by `start` and `stop`, or remove it"
        )


def resampled(
    samples: np.ndarray, source: int, target: int, method: str = "sinc_interp_hann"
) -> np.ndarray:
    """Samples (T,) float32 at another rate.

    The ratio of the rates is taken as it is if it reduces to at most `MOST_PHASES`, as those of all
    usual rates do. Of others it is the nearest such fraction: pitch and length are off by less than
    a thousandth, and 44,101 Hz does not take gigabytes.

    Arguments
    ---------
    samples : np.ndarray
        (T,) float32.
    source, target : int
        Hz.
    method : str
        See `torchaudio.functional.resample`.
    """
    low, high = sorted((source, target))
    ratio = Fraction(low, high).limit_denominator(MOST_PHASES)
    if ratio == 1:
        return samples
    import torch  # takes seconds, and most corpora need no resampling
    from torchaudio.functional import resample

    parts = ratio.numerator, ratio.denominator
    before, after = parts if source < target else reversed(parts)
    return resample(torch.from_numpy(samples), before, after, resampling_method=method).numpy()
