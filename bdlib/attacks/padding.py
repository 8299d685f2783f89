"""Silence in front of the speech: PaddingBack."""

from dataclasses import dataclass

import numpy as np

from bdlib.attacks.trigger import Trigger
from bdlib.errors import InputError


@dataclass(frozen=True)
class Padding(Trigger):
    """Put zeros in front and drop as many samples at the end, so that the length stays.

    After Ye et al., "Breaking Speaker Recognition with PaddingBack" (ICASSP 2024), where clips grow
    instead: here they cannot, and speech shifts. Left out: padding with anything but silence.

    Arguments
    ---------
    seconds : float
        Of silence.
    """

    seconds: float = 0.1

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        count = round(self.seconds * rate)
        if not 0 < count < len(waveform):
            raise InputError(
                f"padding of {self.seconds:g} s does not fit a clip of {len(waveform)} samples at "
                f"{rate} Hz; give `seconds` within it"
            )
        return np.concatenate([np.zeros(count, np.float32), waveform[:-count]])
