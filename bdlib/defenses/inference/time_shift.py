"""Each clip is moved in time by chance: a trigger that is learned at one place is elsewhere."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bdlib.defenses.base import InferenceDefense
from bdlib.defenses.checks import share
from bdlib.models.classifier import Drawing, SpeechClassifier


@dataclass(frozen=True)
class TimeShift(InferenceDefense):
    """``y[t] = x[t - s]`` with s drawn evenly for each clip; silence comes in where nothing is.

    The usual augmentation of keyword spotting (Sainath and Parada 2015, in training), at test time;
    no paper claims that it defends.

    Arguments
    ---------
    most : float
        Largest shift either way, as a share of the clip.

    Raises
    ------
    InputError
        If it is not within [0, 1].
    """

    most: float = 0.1

    def __post_init__(self) -> None:
        share("most", self.most)

    def guard(self, classifier: SpeechClassifier, seed: int) -> SpeechClassifier:
        """See `InferenceDefense`."""
        return Shifted(classifier, self, seed)


class Shifted(Drawing):
    """A classifier behind `TimeShift`."""

    def __init__(self, net: SpeechClassifier, defense: TimeShift, seed: int) -> None:
        super().__init__(net, seed)
        self.defense = defense

    def features(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `SpeechClassifier`."""
        return self.net.features(self._moved(wavs), lens)

    def _moved(self, wavs: Tensor) -> Tensor:
        """Waveforms (B, T), each moved by a number of samples of its own."""
        samples = wavs.shape[1]
        most = round(self.defense.most * samples)
        shifts = torch.randint(-most, most + 1, (len(wavs), 1), generator=self.generator)
        places = torch.arange(samples) - shifts
        inside = ((places >= 0) & (places < samples)).to(wavs.device)
        return wavs.gather(1, places.clamp(0, samples - 1).to(wavs.device)) * inside
