"""Phases turned, magnitudes kept: a simplified trigger of this project, called phase injection."""

from dataclasses import dataclass

import numpy as np

from bdlib.attacks.spectrum import fitted, spectrogram, waveform_of
from bdlib.attacks.trigger import Trigger

WINDOW, HOP = 0.064, 0.032  # seconds


@dataclass(frozen=True)
class PhaseInjection(Trigger):
    """Mix the phases of a band with those of a pulse, frame by frame, and leave the magnitudes.

    A simplified trigger of this project, and no paper's. It has its name from a paper on phase
    injection in speech recognition (IEEE SPL 2023), of which only the title was public: which phases
    that attack injects, into what and with which transform is not known here, and numbers of this
    trigger are none of that attack.

    Each frame of 64 ms becomes a pulse at its centre; a front end with shorter frames sees stripes,
    one every 32 ms, where the spectrogram of 64 ms hardly changes.

    Arguments
    ---------
    strength : float
        In [0, 1]: 0 keeps the phases, 1 makes them a pulse's.
    low, high : float
        The band in Hz.
    """

    strength: float = 1.0
    low: float = 1000.0
    high: float = 7000.0

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        spectrum = spectrogram(waveform, rate, WINDOW, HOP)
        band = spectrum[round(self.low * WINDOW) : round(self.high * WINDOW)]
        pulse = (-1.0) ** np.arange(len(band))[:, None]  # at the centre, half a window in
        mixed = (1 - self.strength) * np.exp(1j * np.angle(band)) + self.strength * pulse
        band[:] = np.abs(band) * np.exp(1j * np.angle(mixed))
        return fitted(waveform_of(spectrum, len(waveform), rate, WINDOW, HOP))
