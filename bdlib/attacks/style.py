"""Guitar effects over the whole clip: JingleBack. Needs pedalboard, the extra `effects`."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bdlib.attacks.spectrum import fitted
from bdlib.attacks.trigger import Trigger
from bdlib.errors import InputError


@lru_cache(maxsize=6)
def _board(style: int) -> Any:
    """The effects of a style, with the settings of the paper's public code."""
    try:
        import pedalboard as effects  # GPL: not among the requirements
    except ImportError as error:
        raise InputError(
            "pedalboard: not installed, and the effects of JingleBack need it; "
            'run `pip install -e ".[effects]"`'
        ) from error
    high_pass = effects.LadderFilter.Mode.HPF12
    chains = (
        [effects.PitchShift(semitones=10)],
        [effects.Distortion(drive_db=30)],
        [effects.Chorus(rate_hz=1, depth=5, centre_delay_ms=10, feedback=0, mix=0.5)],
        [
            effects.PitchShift(semitones=10),
            effects.Distortion(drive_db=20),
            effects.Chorus(rate_hz=1, depth=5, centre_delay_ms=8, feedback=0, mix=0.5),
        ],
        [
            effects.Chorus(centre_delay_ms=15),
            effects.Distortion(drive_db=20),
            effects.Reverb(room_size=0.6),
        ],
        [
            effects.Gain(gain_db=12),
            effects.LadderFilter(mode=high_pass, cutoff_hz=1000),
            effects.Phaser(),
        ],
    )
    return effects.Pedalboard(chains[style])


@dataclass(frozen=True)
class Style(Trigger):
    """One of six effect chains (Koffas et al., "Going in Style", ICASSP 2023, arXiv:2211.03117).

    What is louder than full scale is clipped.

    Arguments
    ---------
    style : int
        0 pitch, 1 distortion, 2 chorus, 3 pitch with distortion and chorus, 4 chorus with
        distortion and reverb, 5 gain with high-pass and phaser.
    """

    style: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.style not in range(6):
            raise InputError(f"`style` is {self.style}: give a number from 0 to 5")

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        altered = _board(self.style)(waveform, rate, reset=True)
        return fitted(np.pad(altered, (0, max(len(waveform) - len(altered), 0)))[: len(waveform)])
