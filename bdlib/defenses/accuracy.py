"""Accuracy on clean clips, by which defenses choose."""

from collections.abc import Iterable

import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.models.classifier import SpeechClassifier


@torch.no_grad()
def correct(classifier: SpeechClassifier, batches: Iterable[Batch]) -> Tensor:
    """(N,) 1 for utterances classified as labelled, else 0; the classifier is put in evaluation mode."""
    classifier.eval()
    right = [
        classifier(batch.wavs, batch.lens).argmax(1) == batch.labels.to(batch.wavs.device)
        for batch in batches
    ]
    return torch.cat(right).float()


def accuracy(classifier: SpeechClassifier, batches: Iterable[Batch]) -> float:
    """Share of utterances classified as labelled; the classifier is put in evaluation mode."""
    return float(correct(classifier, batches).double().mean())
