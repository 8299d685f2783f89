"""The front ends of the papers: waveforms to (B, T, F) features, batched, on the device."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from speechbrain.lobes.features import Fbank
from speechbrain.processing.features import InputNormalization
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.functional import melscale_fbanks
from torchaudio.transforms import MFCC

from bdlib.corpus import Batch
from bdlib.making import Remembering


def summed(values: Tensor) -> Tensor:
    """A sum over the processes of a distributed training, in place; alone, what is given."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


class FrontEnd(Remembering, nn.Module, ABC):
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


class Waveform(FrontEnd):
    """The waveform itself, (B, samples, 1), for a network that hears it."""

    size = 1

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`."""
        return wavs[:, :, None]


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


class Normalized(FrontEnd):
    """The mean and deviation of each feature over the training set taken out of another front end.

    To be derived beside it, and first. `fit` must be called with training batches before training;
    the statistics are buffers and travel with the checkpoint.
    """

    def count_features(self) -> None:
        """Make the statistics, once the other front end knows its size."""
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("deviation", torch.ones(self.size))

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch]) -> None:
        """Estimate the statistics over all frames, those of other processes among them."""
        total = square = count = 0
        for batch in batches:
            frames = super().compute(batch.wavs, batch.lens).flatten(0, 1).double()
            total, square = total + frames.sum(0), square + (frames**2).sum(0)
            count += len(frames)
        total, square, count = summed(torch.stack([total, square, torch.full_like(total, count)]))
        self.mean.copy_(total / count)
        self.deviation.copy_((square / count - (total / count) ** 2).clamp_min(1e-8).sqrt())

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`."""
        return (super().compute(wavs, lens) - self.mean) / self.deviation


class NormalizedFbank(Normalized, KaldiFbank):
    """`KaldiFbank` normalised by mel bin (MVJ: over all frames of the training set, poison and all)."""

    def __init__(self, n_mels: int = 80, sample_rate: int = 16000) -> None:
        super().__init__(n_mels, sample_rate)
        self.count_features()


class Mfcc(FrontEnd):
    """Mel-frequency cepstral coefficients of 25 ms windows every 10 ms, by torchaudio.

    Logarithms of 64 mel bins are taken; torchaudio's decibels would be cut off at the loudest
    sound of the whole batch.

    Arguments
    ---------
    n_mfcc : int
        F.
    sample_rate : int
        Hz.
    """

    def __init__(self, n_mfcc: int = 40, sample_rate: int = 16000) -> None:
        super().__init__()
        self.size = n_mfcc
        window, hop = sample_rate * 25 // 1000, sample_rate * 10 // 1000
        bank = {"n_fft": window, "hop_length": hop, "n_mels": 64}
        with torch.device("cpu"):  # torchaudio looks into the bank, which meta tensors do not let
            self.transform = MFCC(sample_rate, n_mfcc, log_mels=True, melkwargs=bank)

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`."""
        return self.transform(wavs).transpose(1, 2)


class NormalizedMfcc(Normalized, Mfcc):
    """`Mfcc` normalised by coefficient."""

    def __init__(self, n_mfcc: int = 40, sample_rate: int = 16000) -> None:
        super().__init__(n_mfcc, sample_rate)
        self.count_features()


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
        stft = self.fbank.compute_STFT(wavs)
        # Bit for bit what `Fbank` computes; its sum over an axis of two takes a third of the whole time.
        power = stft[..., 0].square() + stft[..., 1].square()
        return self.normalize(self.fbank.compute_fbanks(power), lens)


class ScaledFbank(FrontEnd):
    """Log-mel spectrogram scaled to [-1, 1], for the autoencoder of VAE-PLS.

    The paper gives no numbers. Levels lie between the loudest mel of the training set, which `fit`
    must be shown, and `range_db` below it; what is fainter counts as the floor. Frames are centred
    and mirrored at the ends: 1 s at 16 kHz gives (32, 64) with the defaults.

    Arguments
    ---------
    n_mels : int
        F.
    sample_rate : int
        Hz.
    window, hop : int
        Samples; the window is that of the FFT, too.
    range_db : float
        See above.
    """

    def __init__(
        self,
        n_mels: int = 64,
        sample_rate: int = 16000,
        window: int = 1024,
        hop: int = 512,
        range_db: float = 80.0,
    ) -> None:
        super().__init__()
        self.size, self.hop, self.range_db = n_mels, hop, range_db
        banks = melscale_fbanks(window // 2 + 1, 20.0, sample_rate / 2, n_mels, sample_rate)
        self.register_buffer("banks", banks, persistent=False)
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.register_buffer("top", torch.zeros(()))

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch]) -> None:
        """Find the loudest mel."""
        self.top.copy_(torch.stack([self._decibels(batch.wavs).max() for batch in batches]).max())

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`."""
        below = (self._decibels(wavs) - self.top) / self.range_db
        return (1 + 2 * below).clamp(-1, 1)

    def _decibels(self, wavs: Tensor) -> Tensor:
        stft = torch.stft(
            wavs, len(self.window), self.hop, window=self.window, return_complex=True
        )  # centred, mirrored
        power = stft.abs().square().transpose(1, 2) @ self.banks
        return 10 * power.clamp_min(1e-10).log10()
