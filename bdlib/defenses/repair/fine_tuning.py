"""Plain fine-tuning: what every other repair must beat."""

from dataclasses import dataclass, field

from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.repair.tuning import Tuning, cross_entropy, tune
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class FineTuning(RepairDefense):
    """Training goes on with the cross entropy of clean clips.

    Arguments
    ---------
    clean_share : float
        Share of the training set, as many clips of each class.
    tuning : Tuning
        How.
    """

    clean_share: float = 0.05
    tuning: Tuning = field(default_factory=Tuning)

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`."""
        return tune(classifier, clean, self.tuning, descent)


def descent(classifier: SpeechClassifier, batch: Batch) -> Tensor:
    """The gradient of the cross entropy; see `tuning.Gradient`."""
    loss = cross_entropy(classifier, batch)
    loss.backward()
    return loss.detach()
