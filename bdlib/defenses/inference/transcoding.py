"""Coding with loss and back: what nobody hears is thrown away, a faint trigger perhaps with it."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from torch import Tensor

from bdlib.defenses.checks import counts, one_of
from bdlib.defenses.inference.preprocessing import Preprocessing
from bdlib.errors import InputError

CODECS = {"mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS"), "vorbis": ("OGG", "VORBIS")}


@dataclass(frozen=True)
class Transcoding(Preprocessing):
    """Each clip to MP3 (ISO 11172-3), Opus (RFC 6716) or Vorbis (Xiph.Org), and back.

    Clips are coded one by one on the CPU, so that no clip depends on its batch.

    Arguments
    ---------
    codec : str
        `mp3`, `opus` or `vorbis`.
    compression : float
        From 0, the best sound, to below 1, the smallest file; 0.9 is about 4 to 7 kB a second.
    sample_rate : int
        Of the clips, in Hz; MP3 and Opus know some rates only.

    Raises
    ------
    InputError
        If the codec is none of the three, the compression out of range, or the codec refuses the
        rate.
    """

    codec: str = "mp3"
    compression: float = 0.9
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        one_of("codec", self.codec, tuple(CODECS))
        counts("sample_rate", self.sample_rate)
        if not 0 <= self.compression < 1:
            raise InputError(f"`compression` is {self.compression}: give 0 to below 1, such as 0.9")

    def transform(self, wavs: Tensor) -> Tensor:
        """See `Preprocessing`."""
        return torch.stack([self._coded(wav) for wav in wavs.cpu()]).to(wavs)

    def _coded(self, wav: Tensor) -> Tensor:
        """One clip (T,), there and back, as long as before."""
        container, codec = CODECS[self.codec]
        file = io.BytesIO()
        try:
            soundfile.write(file, wav.numpy(), self.sample_rate, format=container, subtype=codec,
                            compression_level=self.compression)  # fmt: skip
        except soundfile.LibsndfileError as error:
            raise InputError(
                f"`sample_rate` is {self.sample_rate}, which {self.codec} refuses ({error}); give 16000 "
                "or 48000, or another codec"
            ) from None
        file.seek(0)
        heard, _ = soundfile.read(file, dtype="float32")
        heard = np.pad(heard[: len(wav)], (0, max(0, len(wav) - len(heard))))
        return torch.from_numpy(heard).clamp(-1, 1)
