"""What lies no higher than the steady noise of its band is turned down."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bdlib.defenses.checks import at_least, share
from bdlib.defenses.inference.preprocessing import Preprocessing

WINDOW, HOP = 512, 128  # samples


@dataclass(frozen=True)
class SpectralGate(Preprocessing):
    """A gate for each frequency, with a noise floor that each clip tells by its quiet frames.

    With ``X(t, f)`` the short-time spectrum and ``N(f)`` the quantile `quiet` of ``|X(., f)|``, a
    bin is multiplied by `gain` where ``|X(t, f)| <= above * N(f)`` and stays elsewhere: a plain gate
    in the line of spectral subtraction (Boll 1979), without its smoothing. It takes away what
    sounds all the time, a tone or a hum, and with it a trigger of that kind.

    Arguments
    ---------
    quiet : float
        Quantile over frames that counts as noise, from 0 to 1; where silence was padded it is 0,
        and nothing changes.
    above : float
        Times the noise from which a bin is open.
    gain : float
        Of closed bins, from 0 to 1.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    quiet: float = 0.2
    above: float = 2.0
    gain: float = 0.1

    def __post_init__(self) -> None:
        share("quiet", self.quiet)
        at_least("above", self.above, 0)
        share("gain", self.gain)

    def transform(self, wavs: Tensor) -> Tensor:
        """See `Preprocessing`."""
        window = torch.hann_window(WINDOW, device=wavs.device)
        spectrum = torch.stft(
            wavs, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True
        )  # (B, F, frames)
        level = spectrum.abs()
        closed = level <= self.above * self._floor(level)
        gated = torch.where(closed, self.gain * spectrum, spectrum)
        return torch.istft(gated, WINDOW, HOP, window=window, length=wavs.shape[1]).clamp(-1, 1)

    def _floor(self, level: Tensor) -> Tensor:
        """The quantile `quiet` over frames, (B, F, 1); torch's own refuses more than 16 million values."""
        ordered, place = level.sort(2).values, self.quiet * (level.shape[2] - 1)
        below, above = int(place), min(int(place) + 1, level.shape[2] - 1)
        return torch.lerp(ordered[..., below], ordered[..., above], place - below).unsqueeze(2)
