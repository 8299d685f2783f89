"""The front ends of the papers: waveforms to (B, T, F) features, batched, on the device."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from speechbrain.lobes.features import Fbank
from speechbrain.processing.features import InputNormalization
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks

from bdlib.corpus import Batch


class FrontEnd(nn.Module, ABC):
    """Waveforms (B, samples) in [-1, 1] and relative lengths (B,) to features (B, T, F).

    `size` is F. Computed in float32 whatever the precision of the training.
    """

    size: int

    def fit(self, batches: Iterable[Batch]) -> None:
        """Estimate statistics over training batches."""

    @abstractmethod
    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """The features, (B, T, F)."""

    def forward(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """`compute` without autocast."""
        with torch.autocast(wavs.device.type, enabled=False):
            return self.compute(wavs.float(), lens)


class MagnitudeSpectrogram(FrontEnd):
    """Linear magnitude of a short-time Fourier transform, for ResNet50 (Armory's baseline).

    Window 255, hop 128, FFT 256, periodic Hann, no centre padding: 1 s at 16 kHz gives
    (124, 129). No logarithm, no normalisation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.size = 129
        self.register_buffer("window", torch.hann_window(255), persistent=False)

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`."""
        # torch centres the window of 255 in the FFT of 256; frames are counted by the FFT size.
        stft = torch.stft(wavs, 256, 128, 255, self.window, center=False, return_complex=True)
        return stft.abs().transpose(1, 2)


class KaldiFbank(FrontEnd):
    """Kaldi's log-mel filter bank, batched and differentiable (MVJ section 4).

    Equal to ``torchaudio.compliance.kaldi.fbank`` of each clip with 25 ms windows every 10 ms,
    Povey window, DC removal, pre-emphasis 0.97, no dither, 20 Hz to 400 Hz below Nyquist, and
    ``snip_edges=False``: exactly 100 frames a second.

    Arguments
    ---------
    n_mels : int
        F.
    sample_rate : int
        Hz.
    """

    def __init__(self, n_mels: int = 80, sample_rate: int = 16000) -> None:
        super().__init__()
        self.size = n_mels
        self.window_size, self.hop = sample_rate * 25 // 1000, sample_rate * 10 // 1000
        self.fft_size = 2 ** math.ceil(math.log2(self.window_size))
        banks, _ = get_mel_banks(
            n_mels, self.fft_size, sample_rate, 20.0, -400.0, 100.0, -500.0, 1.0
        )
        window = torch.hann_window(self.window_size, periodic=False) ** 0.85
        self.register_buffer("banks", nn.functional.pad(banks, (0, 1)).T, persistent=False)
        self.register_buffer("window", window, persistent=False)

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`."""
        count = (wavs.shape[1] + self.hop // 2) // self.hop
        left = self.window_size // 2 - self.hop // 2
        right = (count - 1) * self.hop + self.window_size - left - wavs.shape[1]
        # Kaldi mirrors with the edge sample repeated, which torch's reflect padding leaves out.
        mirrored = torch.cat(
            [wavs[:, :left].flip(1), wavs, wavs[:, wavs.shape[1] - max(right, 0) :].flip(1)], dim=1
        )
        frames = mirrored.unfold(1, self.window_size, self.hop)[:, :count]
        frames = frames - frames.mean(dim=2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        power = torch.fft.rfft((frames - 0.97 * before) * self.window, self.fft_size).abs() ** 2
        return (power @ self.banks).clamp_min(torch.finfo(torch.float32).eps).log()


class NormalizedFbank(KaldiFbank):
    """`KaldiFbank` with the mean and deviation of each mel bin over the training set taken out.

    `fit` must be called with training batches before training; the statistics are buffers and
    travel with the checkpoint (MVJ: per bin, over all frames of the possibly poisoned training set).
    """

    def __init__(self, n_mels: int = 80, sample_rate: int = 16000) -> None:
        super().__init__(n_mels, sample_rate)
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("deviation", torch.ones(n_mels))

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch]) -> None:
        """Estimate the statistics over all frames."""
        total = square = count = 0
        for batch in batches:
            frames = super().compute(batch.wavs, batch.lens).flatten(0, 1).double()
            total, square = total + frames.sum(0), square + (frames**2).sum(0)
            count += len(frames)
        self.mean.copy_(total / count)
        self.deviation.copy_((square / count - (total / count) ** 2).clamp_min(1e-8).sqrt())

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`."""
        return (super().compute(wavs, lens) - self.mean) / self.deviation


class SpeakerFbank(FrontEnd):
    """SpeechBrain's log-mel filter bank with the mean of each utterance taken out (EmoBack).

    25 ms windows every 10 ms, Hamming, 80 dB range; the mean is over valid frames, the deviation
    stays.
    """

    def __init__(self, n_mels: int = 80, sample_rate: int = 16000) -> None:
        super().__init__()
        self.size = n_mels
        self.fbank = Fbank(n_mels=n_mels, sample_rate=sample_rate)
        self.normalize = InputNormalization(norm_type="sentence", std_norm=False)

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`."""
        return self.normalize(self.fbank(wavs), lens)
