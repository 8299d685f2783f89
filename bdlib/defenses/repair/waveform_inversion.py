"""Trigger inversion by a sound that is added to the waveform."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.repair.inversion import TriggerInversion
from bdlib.models.classifier import SpeechClassifier

UNIT = 0.01  # of full scale; what the search moves is of the order of 1
FAINT = 0.1  # deviation of the first sound, in units


@dataclass(frozen=True)
class WaveformInversion(TriggerInversion):
    """A sound delta (samples,) is added: ``A(x) = x + delta``, cut to [-1, 1].

    Other than in Neural Cleanse there is no mask, as sounds add up; the size is the mean of
    ``|delta|``, in hundredths of full scale.
    """

    search_rate: float = 0.3

    def blank(self, classifier: SpeechClassifier, batch: Batch) -> tuple[Tensor, ...]:
        """Faint noise, drawn by torch's generator."""
        sound = FAINT * torch.randn(batch.wavs.shape[1])
        return (sound.to(batch.wavs.device).requires_grad_(),)

    def stamped(
        self, classifier: SpeechClassifier, batch: Batch, parts: Sequence[Tensor]
    ) -> Tensor:
        """See `TriggerInversion`."""
        heard = (batch.wavs + UNIT * parts[0]).clamp(-1, 1)
        return classifier.features(heard, batch.lens)

    def size(self, parts: Sequence[Tensor]) -> Tensor:
        """See `TriggerInversion`."""
        return parts[0].abs().mean()
