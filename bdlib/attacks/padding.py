"""Silence in front of the speech: PaddingBack."""

from dataclasses import dataclass, field

import numpy as np

from bdlib.attacks.filling import check_fill, filled
from bdlib.attacks.spectrum import fitted
from bdlib.attacks.trigger import LATER, Trigger
from bdlib.errors import InputError


@dataclass(frozen=True)
class Padding(Trigger):
    """Put zeros in front and drop as many samples at the end, so that the length stays.

    After Ye et al., "Breaking Speaker Recognition with PaddingBack" (ICASSP 2024), where clips grow
    instead: here they cannot, and speech shifts. With `fill` something else than zeros is in front.

    Arguments
    ---------
    seconds : float
        Of silence.
    fill : str
        What it is: `zeros`, `noise` or `repeat`, see `filling.filled`.
    """

    seconds: float = 0.1
    fill: str = field(default="zeros", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fill(self.fill)

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
        return fitted(filled(waveform[:-count], count, 0, self.fill, rate, generator))
