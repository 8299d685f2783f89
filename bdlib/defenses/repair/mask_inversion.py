"""Trigger inversion by a mask and a pattern on the features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.repair.inversion import TriggerInversion
from bdlib.models.classifier import SpeechClassifier

FAINT = -2.0  # of which the sigmoid is 0.12


@dataclass(frozen=True)
class MaskInversion(TriggerInversion):
    """A part of the time-frequency plane is replaced: ``A(x) = (1 - m) * x + m * pattern``.

    As Neural Cleanse has it of images (their Eq. 2), on the features of the front end, mel bands or
    cepstra; the size is the mean of the mask m (T, F).
    """

    def blank(self, classifier: SpeechClassifier, batch: Batch) -> tuple[Tensor, ...]:
        """A faint mask, before its sigmoid, and the mean of the features."""
        with torch.no_grad():
            mean = classifier.features(batch.wavs, batch.lens).mean(0)
        return torch.full_like(mean, FAINT).requires_grad_(), mean.clone().requires_grad_()

    def stamped(
        self, classifier: SpeechClassifier, batch: Batch, parts: Sequence[Tensor]
    ) -> Tensor:
        """See `TriggerInversion`."""
        with torch.no_grad():
            features = classifier.features(batch.wavs, batch.lens)
        mask = parts[0].sigmoid()
        return (1 - mask) * features + mask * parts[1]

    def size(self, parts: Sequence[Tensor]) -> Tensor:
        """See `TriggerInversion`."""
        return parts[0].sigmoid().mean()
