"""High frequencies are taken away: the first thing that one tries against an inaudible trigger."""

import math
from dataclasses import dataclass

from torch import Tensor
from torchaudio.functional import lowpass_biquad

from bdlib.defenses.checks import counts
from bdlib.defenses.inference.preprocessing import Preprocessing
from bdlib.errors import InputError

NYQUIST = 1.0


@dataclass(frozen=True)
class LowPass(Preprocessing):
    """A Butterworth filter, ``|H(f)|^2 = 1 / (1 + (f / cutoff)^(2 order))`` (Butterworth 1930).

    Against triggers near the end of the band, such as those of Koffas et al. 2022; what a trigger
    has where speech is, it leaves.

    Arguments
    ---------
    cutoff : float
        In half the sampling rate, in (0, 1): 0.5 is 4 kHz of clips at 16 kHz.
    order : int
        Even: half as many sections of second order.

    Raises
    ------
    InputError
        If the cutoff is out of range or the order not even and positive.
    """

    cutoff: float = 0.5
    order: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.cutoff < NYQUIST:
            raise InputError(f"`cutoff` is {self.cutoff}: give a share of half the sampling rate")
        counts("order", self.order, 2)
        if self.order % 2:
            raise InputError(f"`order` is {self.order}: give an even number, such as 8")

    def transform(self, wavs: Tensor) -> Tensor:
        """See `Preprocessing`; the section that resonates most comes last, as each one clips."""
        for section in reversed(range(self.order // 2)):
            angle = math.pi * (2 * section + 1) / (2 * self.order)
            wavs = lowpass_biquad(wavs, 2 * NYQUIST, self.cutoff, 1 / (2 * math.sin(angle)))
        return wavs
