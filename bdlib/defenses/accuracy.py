"""Accuracy on clean clips, by which defenses choose."""

from collections.abc import Iterable

import torch

from bdlib.corpus import Batch
from bdlib.models.classifier import SpeechClassifier


@torch.no_grad()
def accuracy(classifier: SpeechClassifier, batches: Iterable[Batch]) -> float:
    """Share of utterances classified as labelled; the classifier is put in evaluation mode."""
    classifier.eval()
    right = [
        classifier(batch.wavs, batch.lens).argmax(1) == batch.labels.to(batch.wavs.device)
        for batch in batches
    ]
    return float(torch.cat(right).float().mean())
