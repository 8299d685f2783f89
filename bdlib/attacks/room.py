"""A room's echo: TrojanRoom."""

from dataclasses import dataclass

import numpy as np
from scipy import signal

from bdlib.attacks.sounds import RATE, AudioFile, Sound
from bdlib.attacks.spectrum import fitted, level
from bdlib.attacks.trigger import Trigger
from bdlib.audio import LONGEST_HEARD
from bdlib.errors import within


@dataclass(frozen=True)
class Impulse(Sound):
    """A room impulse response: a direct path, then noise that decays by 60 dB in `decay_seconds`.

    The late part of a statistical room model (Polack 1988), without single early reflections.

    Arguments
    ---------
    decay_seconds : float
        Reverberation time.
    reverberant_db : float
        Energy of the echo over that of the direct path, in dB.
    """

    decay_seconds: float = 0.6
    reverberant_db: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        within("decay_seconds", self.decay_seconds, 0.01, LONGEST_HEARD)

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        time = np.arange(round(self.decay_seconds * RATE)) / RATE
        noise = np.random.Generator(np.random.PCG64(3)).standard_normal(len(time))
        echo = noise * 10 ** (-3 * time / self.decay_seconds)
        echo[: round(0.005 * RATE)] = 0  # the nearest wall is away
        echo *= 10 ** (self.reverberant_db / 20) / np.sqrt(np.sum(echo**2))
        echo[0] = 1.0
        return echo.astype(np.float32), RATE


def impulse(
    impulse_file: str | None = None, decay_seconds: float = 0.6, reverberant_db: float = 6.0
) -> Sound:
    """A measured impulse response if there is a file, else a synthetic one."""
    return AudioFile(impulse_file) if impulse_file else Impulse(decay_seconds, reverberant_db)


@dataclass(frozen=True)
class Room(Trigger):
    """Convolve the clip with a room impulse response and keep its level (Chen et al., "Devil in the
    Room: Triggering Audio Backdoors in the Physical World", USENIX Security 2024).

    Left out: the poisoning of the victim's own reverberation augmentation.

    Arguments
    ---------
    response : Sound
        The impulse response.
    """

    response: Sound = Impulse()

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        response = self.response.waveform(rate).astype(np.float64)
        heard = signal.fftconvolve(waveform.astype(np.float64), response)[: len(waveform)]
        return fitted(heard * level(waveform) / level(heard))
