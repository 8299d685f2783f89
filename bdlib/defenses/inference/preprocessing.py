"""Classifiers whose waveforms are changed before they are classified (EmoBack section 5.5.3)."""

from abc import abstractmethod

from torch import Tensor

from bdlib.defenses.base import InferenceDefense
from bdlib.models.classifier import Guarded, SpeechClassifier


class Preprocessing(InferenceDefense):
    """A change of the waveform that shall spoil a trigger and leave the speech."""

    @abstractmethod
    def transform(self, wavs: Tensor) -> Tensor:
        """Waveforms (B, T) in [-1, 1] to as many of the same length."""

    def guard(self, classifier: SpeechClassifier, seed: int) -> SpeechClassifier:
        """See `InferenceDefense`; nothing is drawn."""
        return Preprocessed(classifier, self)


class Preprocessed(Guarded):
    """A classifier behind `Preprocessing`."""

    def __init__(self, net: SpeechClassifier, defense: Preprocessing) -> None:
        super().__init__(net)
        self.defense = defense
        self.eval()

    def features(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `SpeechClassifier`."""
        return self.net.features(self.defense.transform(wavs), lens)
