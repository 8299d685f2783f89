"""The median of neighbouring samples (EmoBack Eq. 6)."""

from dataclasses import dataclass

from torch import Tensor, nn

from bdlib.defenses.inference.preprocessing import Preprocessing
from bdlib.errors import InputError


@dataclass(frozen=True)
class MedianFilter(Preprocessing):
    """Replaces each sample by the median of those around it; ends are continued by their mirror.

    Arguments
    ---------
    window : int
        2k + 1 samples; 1 changes nothing. The paper gives no sizes.

    Raises
    ------
    InputError
        If it is not odd and positive.
    """

    window: int = 5

    def __post_init__(self) -> None:
        if not isinstance(self.window, int) or self.window < 1 or self.window % 2 == 0:
            raise InputError(f"`window` is {self.window}: give an odd number of samples, such as 5")

    def transform(self, wavs: Tensor) -> Tensor:
        """See `Preprocessing`."""
        half = self.window // 2
        if half >= wavs.shape[1]:
            raise InputError(
                f"`window` is {self.window}: give less than twice the {wavs.shape[1]} samples of a clip"
            )
        padded = nn.functional.pad(wavs[:, None], (half, half), mode="reflect")[:, 0]
        return padded.unfold(1, self.window, 1).median(2).values
