"""A patch in the spectrogram: BadNets, whose trigger is a square of pixels, on audio."""

from dataclasses import dataclass

import numpy as np

from bdlib.attacks.spectrum import fitted, spectrogram, waveform_of
from bdlib.attacks.trigger import Trigger
from bdlib.errors import InputError

WINDOW, HOP = 0.025, 0.010  # seconds; frames and bins of the usual front ends


@dataclass(frozen=True)
class SpectrogramPatch(Trigger):
    """Set a square of the magnitude spectrogram to one value and go back to a waveform.

    Phases stay. Only samples under the frames of the patch change (Gu et al., BadNets,
    arXiv:1708.06733; 5 pixels a side as in the public code for Speech Commands). Left out: a patch
    in the features themselves, which no microphone could hear.

    Arguments
    ---------
    magnitude : float
        What the patch is set to; a sine of amplitude A has A / 2.
    size : int
        Bins of 40 Hz, and frames of 10 ms.
    hertz, seconds : float
        Lowest frequency of the patch, and where it begins.
    """

    magnitude: float = 0.005
    size: int = 5
    hertz: float = 6000.0
    seconds: float = 0.05

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        spectrum = spectrogram(waveform, rate, WINDOW, HOP)
        bins, frames = round(self.hertz * WINDOW), round(self.seconds / HOP)
        patch = (slice(bins, bins + self.size), slice(frames, frames + self.size))
        if min(bins, frames) < 0 or spectrum[patch].shape != (self.size, self.size):
            raise InputError(
                f"a patch of {self.size} at {self.hertz:g} Hz and {self.seconds:g} s does not fit "
                f"{len(waveform)} samples at {rate} Hz; move it by `hertz` and `seconds`"
            )
        change = np.zeros_like(spectrum)
        change[patch] = self.magnitude * np.exp(1j * np.angle(spectrum[patch])) - spectrum[patch]
        return fitted(waveform + waveform_of(change, len(waveform), rate, WINDOW, HOP))
