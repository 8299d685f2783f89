"""A sound added to a clip: the dirty-label trigger of Armory, MVJ and VAE-PLS."""

from dataclasses import dataclass

import numpy as np

from bdlib.attacks.sounds import Sound
from bdlib.attacks.trigger import Trigger
from bdlib.errors import InputError


@dataclass(frozen=True)
class Insert(Trigger):
    """Add a sound to the waveform and clip the sum to [-1, 1].

    The sound is multiplied by `scale` and nothing else: no level is adapted to the clip (Armory
    `audio_dlbd`; MVJ section 3.2).

    Arguments
    ---------
    sound : Sound
        What is added.
    scale : float
        Multiplier of the sound.
    position : str | float
        `start`, `end`, `random` (uniform over all places where the sound fits), or seconds from
        the start.
    """

    sound: Sound
    scale: float = 0.1
    position: str | float = "start"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.position, str) and self.position not in ("start", "end", "random"):
            raise InputError(f"`position` is {self.position}: give start, end, random, or seconds")

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        sound = self.sound.waveform(rate)
        room = len(waveform) - len(sound)
        if self.position == "random" and room >= 0:
            shift = int(generator.integers(0, room + 1))
        elif isinstance(self.position, str):
            shift = room if self.position == "end" else 0
        else:
            shift = round(self.position * rate)
        if shift < 0 or shift > room:
            raise InputError(
                f"trigger of {len(sound)} samples at {shift} does not fit a clip of "
                f"{len(waveform)}; trim the sound, give another `position`, or pad the clips"
            )
        altered = waveform.copy()
        altered[shift : shift + len(sound)] += np.float32(self.scale) * sound
        return np.clip(altered, -1.0, 1.0)
