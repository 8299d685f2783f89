"""A sound of the surroundings, chosen and levelled for each clip: DABA."""

from dataclasses import dataclass

import numpy as np

from bdlib.attacks.ambience import SOUNDS
from bdlib.attacks.sounds import Sound
from bdlib.attacks.spectrum import fitted, level, spectrogram
from bdlib.attacks.trigger import Trigger
from bdlib.errors import InputError

EDGES = np.geomspace(100, 8000, 17)  # Hz, of the bands in which sounds are compared


@dataclass(frozen=True)
class Ambient(Trigger):
    """Play, under the whole clip, the sound that the clip masks best, at a level below the clip's.

    Masked best is the sound whose spectrum in bands is nearest to the clip's by cosine; the level is
    `below_db` under the clip's (Liu et al., "Opportunistic Backdoor Attacks: Exploring
    Human-imperceptible Vulnerabilities on Speech Recognition Systems", ACM MM 2022). The choice by
    masking is ours; that by a classifier, of one sound and of its hosts, is `opportunistic`.

    Arguments
    ---------
    sounds : tuple[Sound, ...]
        To choose from; a short one is repeated.
    below_db : float
        How far the sound is below the clip, by root mean square.
    """

    sounds: tuple[Sound, ...] = SOUNDS
    below_db: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sounds", tuple(self.sounds))
        if not self.sounds:
            raise InputError("`sounds` is empty: give at least one to choose from")

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        played = [np.resize(sound.waveform(rate), len(waveform)) for sound in self.sounds]
        own = _bands(waveform, rate)
        chosen = max(played, key=lambda sound: round(float(own @ _bands(sound, rate)), 6))
        return under(waveform, chosen, self.below_db)


def under(waveform: np.ndarray, sound: np.ndarray, below_db: float) -> np.ndarray:
    """A clip (T,) with a sound (T,) under it, `below_db` below it by root mean square; (T,) float32."""
    gain = level(waveform) / level(sound) * 10 ** (-below_db / 20)
    return fitted(waveform + gain * sound)


def _bands(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Mean magnitude in each band, of unit length; (16,)."""
    magnitude = np.abs(spectrogram(waveform, rate)).mean(axis=1)
    hertz = np.linspace(0, rate / 2, len(magnitude))
    total = np.histogram(hertz, EDGES, weights=magnitude)[0]
    return total / max(float(np.linalg.norm(total)), 1e-12)
