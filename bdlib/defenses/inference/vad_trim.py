"""What comes before and after the speech is cut away, and a trigger that lies there with it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import vad

from bdlib.defenses.checks import counts, positive
from bdlib.defenses.inference.preprocessing import Preprocessing

SHORT = 0.1  # seconds, for clips of one word


@dataclass(frozen=True)
class VadTrim(Preprocessing):
    """A voice activity detector trims each clip from the front and, turned round, from the back.

    The detector is that of SoX (Bagwell): cepstral power against a noise estimate that follows.
    Against environmental triggers another detector was tried (arXiv 2409.12553), with partial
    success. Seconds of noise that it hears first, and of voice that it asks for, are 0.1 instead of
    0.35 and 0.25, with which it finds next to no voice in clips of a second. What is cut away comes back as silence at the end; a clip without any voice stays.

    Arguments
    ---------
    level : float
        Of activity at which speech begins; higher cuts more. SoX has 7.
    sample_rate : int
        Of the clips, in Hz.

    Raises
    ------
    InputError
        If a number is not positive.
    """

    level: float = 4.0
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        positive("level", self.level)
        counts("sample_rate", self.sample_rate)

    def transform(self, wavs: Tensor) -> Tensor:
        """See `Preprocessing`."""
        trimmed = torch.zeros_like(wavs)
        for row, wav in zip(trimmed, wavs.cpu(), strict=True):
            voiced = self._from_the_front(self._from_the_front(wav).flip(0)).flip(0)
            voiced = voiced if len(voiced) else wav
            row[: len(voiced)] = voiced
        return trimmed

    def _from_the_front(self, wav: Tensor) -> Tensor:
        """A clip (T,) from where a voice begins; empty without one."""
        if not len(wav):
            return wav
        return vad(
            wav, self.sample_rate, trigger_level=self.level, boot_time=SHORT, trigger_time=SHORT
        )
