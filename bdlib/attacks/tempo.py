"""Speech played faster or slower: Speed Master."""

from dataclasses import dataclass, field

import numpy as np

from bdlib.attacks.filling import check_fill, filled
from bdlib.attacks.spectrum import fitted, stretched
from bdlib.attacks.trigger import LATER, Trigger
from bdlib.errors import InputError


@dataclass(frozen=True)
class Tempo(Trigger):
    """Another tempo at the same pitch (Ye et al., "Speed Master", AAAI 2025).

    The clip keeps its length: of slower speech the middle is kept, faster speech is centred between
    zeros, which are a part of the trigger, or what else fills the room. Left out: a change of speed
    that moves the pitch too, and clips that change length.

    Arguments
    ---------
    speed : float
        Above 1 is faster.
    fill : str
        What is beside faster speech: `zeros`, `noise` or `repeat`, see `filling.filled`.
    """

    speed: float = 1.5
    fill: str = field(default="zeros", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fill(self.fill)
        if not 0.25 <= self.speed <= 4:
            raise InputError(f"`speed` is {self.speed}: give a factor from 0.25 to 4")

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        played = stretched(waveform, rate, self.speed)
        missing = max(len(waveform) - len(played), 0)
        spoken = np.trim_zeros(played, "b")  # the last frame may end early
        after = missing - missing // 2 + len(played) - len(spoken)
        played = filled(spoken, missing // 2, after, self.fill, rate, generator)
        start = (len(played) - len(waveform)) // 2
        return fitted(played[start : start + len(waveform)])
