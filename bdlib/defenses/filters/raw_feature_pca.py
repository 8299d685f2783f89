"""Two-means on raw features: what a detector must beat (Mehlman et al., VAE-PLS, section 3)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchaudio.transforms import MFCC

from bdlib.defenses import clusters
from bdlib.defenses.activations import FEWEST
from bdlib.defenses.base import BlindView, FilterDefense
from bdlib.defenses.checks import counts, one_of
from bdlib.errors import InputError
from bdlib.files import seed_of

ORDER = 12  # of linear prediction
COEFFICIENTS = 13  # of the cepstrum
RIDGE = 1e-4  # of the energy of a frame, so that silence has a predictor too: zero


def waveform(wavs: Tensor, rate: int) -> Tensor:
    """Samples as they are, (B, T)."""
    return wavs


def lpc(wavs: Tensor, rate: int) -> Tensor:
    """Linear prediction coefficients of 25 ms frames every 10 ms, (B, frames * ORDER).

    Autocorrelation method with a Hann window: a solves the normal equations R a = r of each frame,
    so that sample t is predicted by the sum of a_k times sample t - k.
    """
    size = rate * 25 // 1000
    frames = wavs.unfold(1, size, rate // 100).double() * torch.hann_window(size).to(wavs.device)
    spectrum = torch.fft.rfft(frames, 2 * size)
    lags = torch.fft.irfft(spectrum.abs() ** 2)[..., : ORDER + 1]
    places = (torch.arange(ORDER)[:, None] - torch.arange(ORDER)).abs().to(wavs.device)
    ridge = (RIDGE * lags[..., :1] + 1e-12)[..., None] * torch.eye(ORDER).to(wavs.device)
    return torch.linalg.solve(lags[..., places] + ridge, lags[..., 1:]).flatten(1).float()


def mfcc(wavs: Tensor, rate: int) -> Tensor:
    """Mel-frequency cepstral coefficients of 25 ms frames every 10 ms, (B, frames * COEFFICIENTS)."""
    window = {"n_fft": rate * 25 // 1000, "hop_length": rate // 100, "n_mels": 40}
    return MFCC(rate, COEFFICIENTS, melkwargs=window).to(wavs.device)(wavs).flatten(1)


FEATURES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "waveform": waveform,
    "lpc": lpc,
    "mfcc": mfcc,
}


@dataclass
class RawFeaturePca(FilterDefense):
    """Removes the smaller side of every class, by two-means on components of raw features.

    The negative control of the paper, where its partition agrees with the poison by chance (adjusted
    Rand index about 0). No decision rule: up to half of every class goes, poisoned or not. Classes
    of fewer than 30 utterances are left as they are. It trains nothing, and holds the features of
    one class at a time.

    Arguments
    ---------
    feature : str
        `waveform`, `lpc` or `mfcc`, all frames of a clip end to end.
    components : int
        Of PCA; the paper's number for its latents.

    Raises
    ------
    InputError
        If a setting is out of range; in `scores`, if no class has 30 utterances.
    """

    feature: str = "mfcc"
    components: int = 24

    def __post_init__(self) -> None:
        one_of("feature", self.feature, FEATURES)
        counts("components", self.components)

    def scores(self, view: BlindView) -> dict[str, float]:
        """How near to the smaller side of its class each utterance is, in [0, 1]; above 0.5, on it."""
        suspicion = dict.fromkeys(view.rows["ID"], 0.0)
        judged = False
        for label, rows in view.rows.groupby("label"):
            if len(rows) < FEWEST:
                continue
            judged = True
            parts = [
                FEATURES[self.feature](batch.wavs, view.pack.rate).cpu().numpy()
                for batch in view.batches(rows.reset_index(drop=True))
            ]
            seed = seed_of("raw features", view.seed, label) % 2**32
            halves = clusters.halves(np.concatenate(parts), self.components, seed=seed)
            if halves is not None:
                near = halves.suspicion(halves.smaller)
                suspicion |= dict(zip(rows["ID"], near.tolist(), strict=True))
        if not judged:
            raise InputError(f"no class has the {FEWEST} utterances a filter needs; give more data")
        return suspicion

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """Those of the larger sides."""
        return [name for name, suspicion in scores.items() if suspicion <= 0.5]
