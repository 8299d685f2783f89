"""Guards that reject clips: the bound that keeps a preset rate on clean validation clips."""

import math

from bdlib.defenses.base import InferenceDefense
from bdlib.errors import InputError

PRESETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5)


class Screening(InferenceDefense):
    """A guard whose classifier says how suspicious a clip is, of which the most suspicious are rejected.

    Arguments
    ---------
    frr : float
        The preset false rejection rate, in [0, 1).
    benign : tuple[float, ...]
        Suspicions of clean validation clips, set by `calibrate`.

    Raises
    ------
    InputError
        If the rate is out of range.
    """

    selection = "validation"
    frr: float
    benign: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.frr < 1:
            raise InputError(f"`frr` is {self.frr}: give a share of clean clips to reject, below 1")

    @property
    def thresholds(self) -> dict[float, float]:
        """Least suspicion that is rejected, by false rejection rate; the preset one comes first."""
        ordered = sorted(self.benign, reverse=True)
        rates = dict.fromkeys((self.frr, *PRESETS)) if ordered else ()
        return {rate: ordered[math.floor(rate * len(ordered))] for rate in rates}
