"""Fine-pruning: units that sleep on clean data go, then fine-tuning (Liu et al., RAID 2018)."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.accuracy import accuracy
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import share
from bdlib.defenses.repair.fine_tuning import descent
from bdlib.defenses.repair.tuning import Tuning, tune
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class FinePruning(RepairDefense):
    """Units of the last hidden layer are pruned, those least active on clean clips first.

    A backdoor may rest on units that clean clips leave asleep. The last hidden layer is that of
    the head's inputs, for a residual net the pooled channels of its last convolution; a unit is
    pruned by zeroing its column of the head, and stays pruned while the rest is fine-tuned.

    Arguments
    ---------
    prune_drop : float
        Accuracy on clean validation clips at which pruning stops, as a share of one (4 %).
    clean_share : float
        Share of the training set, as many clips of each class.
    tuning : Tuning
        How the rest is tuned.

    Raises
    ------
    InputError
        If `prune_drop` is not within [0, 1].
    """

    prune_drop: float = 0.04
    clean_share: float = 0.05
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        share("prune_drop", self.prune_drop)

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`.

        Raises
        ------
        InputError
            If the classifier has no linear head.
        """
        if getattr(getattr(classifier, "head", None), "weight", None) is None:
            raise InputError(
                f"{type(classifier).__name__}: no `head` with a weight; give the last layer that name, as "
                "a linear layer"
            )
        given = copy.deepcopy(classifier)
        pruned = self._prune(classifier, clean)

        def gradient(classifier: SpeechClassifier, batch: Batch) -> Tensor:
            loss = descent(classifier, batch)
            if (slope := classifier.head.weight.grad) is not None:  # it may be frozen
                slope[:, pruned] = 0  # what is zero stays zero
            return loss

        return tune(classifier, clean, self.tuning, gradient, given)

    @torch.no_grad()
    def _prune(self, classifier: SpeechClassifier, clean: CleanData) -> Tensor:
        """Zero columns of the head, a fiftieth at a time; gives their numbers."""
        budget = embeddings(classifier, clean.train(self.tuning.batch_size))[0]
        order = budget.abs().mean(0).argsort()
        hidden, labels = embeddings(classifier, clean.validation())
        weight = classifier.head.weight
        whole, step, count = weight.clone(), -(-len(order) // 50), 0

        def right() -> float:
            if getattr(classifier, "multi_view", False):  # it does not answer by its mean embedding
                return accuracy(classifier, clean.validation())
            return float((classifier.classify(hidden).argmax(1) == labels).float().mean())

        least = right() - self.prune_drop
        while count + step < len(order):
            weight[:, order[: count + step]] = 0
            if right() < least:
                break
            count += step
        weight.copy_(whole)
        weight[:, order[:count]] = 0
        return order[:count]


@torch.no_grad()
def embeddings(classifier: SpeechClassifier, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """The last hidden layer (N, D) in evaluation mode, and the labels (N,)."""
    classifier.eval()
    parts = [
        (classifier.embed(classifier.features(batch.wavs, batch.lens), batch.lens), batch.labels)
        for batch in batches
    ]
    hidden, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return hidden, labels.to(hidden.device)
