"""A tone that people do not hear and microphones do."""

from dataclasses import dataclass

import numpy as np

from bdlib.attacks.trigger import Trigger
from bdlib.errors import InputError

EDGE = 0.005  # seconds of rise and fall, without which the ends would be audible clicks


@dataclass(frozen=True)
class Ultrasonic(Trigger):
    """Add a sine above hearing (Koffas et al., "Can You Hear It?", arXiv:2107.14569).

    It needs audio, and a front end, of more than twice its frequency: the pipeline at 44.1 kHz.
    Left out: trains of short pulses.

    Arguments
    ---------
    hertz : float
        Of the tone.
    amplitude : float
        Of the tone.
    seconds : float
        Its length; 40 frames of 10 ms.
    position : str
        `start`, `middle` or `end`.
    """

    hertz: float = 21000.0
    amplitude: float = 0.1
    seconds: float = 0.4
    position: str = "middle"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.position not in ("start", "middle", "end"):
            raise InputError(f"`position` is {self.position}: give start, middle or end")

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        if rate <= 2 * self.hertz:
            raise InputError(
                f"a tone of {self.hertz:g} Hz needs audio of more than {2 * self.hertz:g} Hz, this "
                f"has {rate}; give a `sample_rate` of 44100"
            )
        time = np.arange(round(self.seconds * rate)) / rate
        room = len(waveform) - len(time)
        if room < 0:
            raise InputError(
                f"trigger of {self.seconds:g} s does not fit a clip of {len(waveform)} samples at "
                f"{rate} Hz; shorten its `seconds`"
            )
        edge = np.clip(np.minimum(time, time[::-1]) / EDGE, 0, 1)
        start = {"start": 0, "middle": room // 2, "end": room}[self.position]
        tone = self.amplitude * edge * np.sin(2 * np.pi * self.hertz * time)
        altered = waveform.copy()
        altered[start : start + len(time)] += tone.astype(np.float32)
        return np.clip(altered, -1.0, 1.0)
