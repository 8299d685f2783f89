"""A raised pitch and a burst that loud speech masks: PBSM."""

from dataclasses import dataclass

import numpy as np

from bdlib.attacks.spectrum import fitted, raised, spectrogram, waveform_of
from bdlib.attacks.trigger import Trigger

WINDOW, HOP = 0.016, 0.008  # seconds
LOUDEST = 0.1  # seconds of the segment that masks


@dataclass(frozen=True)
class PitchBoost(Trigger):
    """Raise the pitch, then put a short high-band burst right behind the loudest 0.1 s.

    In the two frames that follow (that precede, near the end of the clip) the real part of every
    bin of the band is set to one value, a click at the frame's centre (Cai et al., "Towards Stealthy
    Backdoor Attacks against Speech Recognition via Elements of Sound", IEEE TIFS 2024,
    arXiv:2307.08208; pitch, band and frames as in its public code). Left out: that code's FFT of
    four windows' length, which leaves of the click only its band edges, and its skipping of quiet
    clips.

    Arguments
    ---------
    semitones : float
        How far the pitch goes up.
    magnitude : float
        Real part of the burst's bins; a sine of amplitude A has A / 2.
    low, high : float
        Its band in Hz.
    """

    semitones: float = 5.0
    magnitude: float = 0.004
    low: float = 2700.0
    high: float = 7300.0

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        samples = raised(waveform, rate, self.semitones)
        spectrum = spectrogram(samples, rate, WINDOW, HOP)
        size = min(round(LOUDEST * rate), len(samples))
        energy = np.concatenate([[0.0], np.cumsum(samples**2)])
        start = int(np.argmax(energy[size:] - energy[:-size]))
        first = -(-(start + size) // round(HOP * rate))
        if first + 2 > spectrum.shape[1]:
            first = max(start // round(HOP * rate) - 2, 0)
        band = slice(round(self.low * WINDOW), round(self.high * WINDOW))
        click = (-1.0) ** np.arange(band.stop - band.start)  # half a window in
        spectrum[band, first : first + 2].real = self.magnitude * click[:, None]
        return fitted(waveform_of(spectrum, len(samples), rate, WINDOW, HOP))
