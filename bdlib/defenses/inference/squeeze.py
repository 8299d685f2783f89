"""Down to a lower sampling rate and up again (EmoBack Eqs. 7 and 8)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import resample

from bdlib.defenses.checks import one_of
from bdlib.defenses.inference.preprocessing import Preprocessing
from bdlib.errors import InputError

STEPS = 1000  # resolution of a ratio that is resampled


@dataclass(frozen=True)
class Squeeze(Preprocessing):
    """Loses what a lower sampling rate cannot carry.

    Arguments
    ---------
    ratio : float
        New sampling rate over the old one, in (0, 1]: 0.25 is 4 kHz of 16.
    mode : str
        `zero_insert` keeps every nth sample and puts zeros between, as Eqs. 7 and 8 are printed:
        no filter before or after, so that the spectrum is mirrored and the level falls by n; the
        ratio must be 1/n. `resample` filters on the way down and on the way up.

    Raises
    ------
    InputError
        If the ratio is out of range, or not 1/n where samples are dropped, or the mode is neither.
    """

    ratio: float = 0.5
    mode: str = "zero_insert"

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("zero_insert", "resample"))
        if not 1 / STEPS <= self.ratio <= 1:
            raise InputError(f"`ratio` is {self.ratio}: give the new rate over the old, 0.001 to 1")
        if self.mode == "zero_insert" and abs(1 / self.ratio - round(1 / self.ratio)) > 1e-6:
            raise InputError(
                f"`ratio` is {self.ratio}: only every nth sample can be kept; give 1/n, such as 0.25, "
                "or resample as the `mode`"
            )

    def transform(self, wavs: Tensor) -> Tensor:
        """See `Preprocessing`."""
        if self.mode == "resample":
            lower = resample(wavs, STEPS, round(self.ratio * STEPS))
            return resample(lower, round(self.ratio * STEPS), STEPS)[:, : wavs.shape[1]]
        every = round(1 / self.ratio)
        squeezed = torch.zeros_like(wavs)
        squeezed[:, ::every] = wavs[:, ::every]
        return squeezed
