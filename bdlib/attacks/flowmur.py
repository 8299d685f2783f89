"""A sound learned on a surrogate, to work anywhere in a clip and in noise: FlowMur."""

import base64
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample

from bdlib.attacks.spectrum import fitted, level
from bdlib.attacks.trigger import LearnedTrigger
from bdlib.corpus import Batch, Batches
from bdlib.errors import InputError, within
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class FlowMur(LearnedTrigger):
    """Add a learned sound at a random place, `snr_db` below the clip (Lan et al., "FlowMur: A Stealthy
    and Practical Audio Backdoor Attack with Limited Knowledge", IEEE S&P 2024, arXiv:2312.09665).

    It is learned on a classifier of clean data so that clips with it, at random places and in
    ambient noise, are taken for the target class: argmin over d of the mean cross-entropy of
    f(x + noise + g d) and the target, with g such that g d is `snr_db` below x. Left out: the outer
    classes of the auxiliary data, for here the surrogate knows the victim's.

    Arguments
    ---------
    seconds : float
        Length of the sound.
    snr_db : float
        Energy of the clip over that of the sound.
    noise_db : float
        Energy of the clip over that of the noise, while learning.
    steps : int
        Of Adam, at `learning_rate`.
    surrogate : str | None
        See `LearnedTrigger`.
    samples, rate : str, int
        What was learned: int16, base64, empty before; and its sampling rate.

    Raises
    ------
    InputError
        If a setting is out of range; in `fit`, if the sound is longer than the clips.
    """

    seconds: float = 0.5
    snr_db: float = 30.0
    noise_db: float = 20.0
    steps: int = 200
    learning_rate: float = 0.005
    surrogate: str | None = None
    samples: str = ""
    rate: int = 0

    def __post_init__(self) -> None:
        within("seconds", self.seconds, 0.01, 60)
        within("snr_db", self.snr_db, -200, 200)
        within("noise_db", self.noise_db, -200, 200)
        within("steps", self.steps, 1, 10**6, int)
        within("learning_rate", self.learning_rate, 1e-9, 10)

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        if not self.samples:
            raise InputError("FlowMur: nothing learned yet; the poison stage does it")
        sound = _decoded(self.samples, self.rate, rate)
        room = len(waveform) - len(sound)
        if room < 0:
            raise InputError(
                f"trigger of {len(sound)} samples does not fit a clip of {len(waveform)}; shorten its "
                "`seconds`"
            )
        start = int(generator.integers(0, room + 1))
        clip = level(waveform) * np.sqrt(len(waveform))
        altered = waveform.astype(np.float64)
        altered[start : start + len(sound)] += sound * clip * 10 ** (-self.snr_db / 20)
        return fitted(altered)

    def fit(self, surrogate: SpeechClassifier, clips: Batches, target: int, seed: int) -> "FlowMur":
        """See `LearnedTrigger`."""
        rate = clips.rate
        if round(self.seconds * rate) > (length := next(iter(clips)).wavs.shape[1]):
            raise InputError(
                f"`seconds` is {self.seconds}: longer than the clips of {length / rate:g} s; shorten it"
            )
        generator = torch.Generator().manual_seed(seed)
        sound = 0.1 * torch.randn(round(self.seconds * rate), generator=generator)
        sound = sound.to(clips.device).requires_grad_()
        optimizer = torch.optim.Adam([sound], self.learning_rate)
        surrogate.eval()
        for batch in itertools.islice(_endless(clips), self.steps):
            with torch.backends.cudnn.flags(enabled=False):  # whose LSTM has no gradient in eval
                logits = surrogate(self._played(batch.wavs, sound, generator), batch.lens)
                wanted = torch.full((len(logits),), target, device=logits.device)
                (sound.grad,) = torch.autograd.grad(
                    torch.nn.functional.cross_entropy(logits, wanted), sound
                )
            optimizer.step()
        learned = sound.detach().cpu().double().numpy()
        pcm = np.rint(32767 * learned / np.abs(learned).max()).astype("<i2")
        return replace(self, samples=base64.b64encode(pcm.tobytes()).decode(), rate=rate)

    def _played(self, wavs: Tensor, sound: Tensor, generator: torch.Generator) -> Tensor:
        """Clips (B, T) in noise, with the sound (L,) at a place drawn for each."""
        count, length = wavs.shape
        start = torch.randint(length - len(sound) + 1, (count, 1), generator=generator)
        places = (start + torch.arange(len(sound))).to(wavs.device)
        energy = wavs.norm(dim=1, keepdim=True)
        scaled = energy * 10 ** (-self.snr_db / 20) * sound / sound.norm()
        noise = torch.randn(wavs.shape, generator=generator).to(wavs.device) / length**0.5
        heard = wavs + energy * 10 ** (-self.noise_db / 20) * noise
        return heard.scatter_add(1, places, scaled).clamp(-1, 1)


def _endless(clips: Batches) -> Iterator[Batch]:
    for clips.epoch in itertools.count():
        yield from clips


@lru_cache(maxsize=8)
def _decoded(samples: str, source: int, rate: int) -> np.ndarray:
    """The sound at a sampling rate, of energy 1; (L,) float64."""
    pcm = np.frombuffer(base64.b64decode(samples), "<i2").astype(np.float64)
    sound = resample(torch.from_numpy(pcm), source, rate).numpy()
    return sound / np.linalg.norm(sound)
