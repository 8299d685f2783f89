"""Fewer levels of amplitude (EmoBack Eqs. 1 to 5)."""

from dataclasses import dataclass

from torch import Tensor

from bdlib.defenses.checks import counts
from bdlib.defenses.inference.preprocessing import Preprocessing


@dataclass(frozen=True)
class Quantise(Preprocessing):
    """Rounds samples of 16 bits to multiples of `quantum`.

    The paper gives no list of its q; 64 to 2048 in octaves cover what is heard.

    Arguments
    ---------
    quantum : int
        q of Eq. 3, in steps of 16 bits.

    Raises
    ------
    InputError
        If it is below 1.
    """

    quantum: int = 512

    def __post_init__(self) -> None:
        counts("quantum", self.quantum)

    def transform(self, wavs: Tensor) -> Tensor:
        """See `Preprocessing`."""
        whole = (wavs * 2**15).round()
        return (self.quantum * (whole / self.quantum).round() / 2**15).clamp(-1, 1)
