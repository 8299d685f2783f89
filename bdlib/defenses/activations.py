"""What a classifier makes of the untrusted utterances: streamed, and checked before it is judged."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier

FEWEST = 30  # utterances; of a smaller class no statistic tells the poison


def _penultimate(classifier: SpeechClassifier, batch: Batch) -> Tensor:
    return classifier.embed(classifier.features(batch.wavs, batch.lens), batch.lens)


def _logits(classifier: SpeechClassifier, batch: Batch) -> Tensor:
    return classifier(batch.wavs, batch.lens)


def _softmax(classifier: SpeechClassifier, batch: Batch) -> Tensor:
    return _logits(classifier, batch).softmax(1)


LAYERS: dict[str, Callable[[SpeechClassifier, Batch], Tensor]] = {
    "penultimate": _penultimate,
    "logits": _logits,
    "softmax": _softmax,
}


@torch.no_grad()
def activations(
    classifier: SpeechClassifier, batches: Iterable[Batch], layer: str = "penultimate"
) -> np.ndarray:
    """One layer's output for every utterance, (N, D) float32, in the order of the batches.

    One batch of waveforms is in memory at a time, and no other layer.

    Arguments
    ---------
    classifier : SpeechClassifier
        Trained; it is put into evaluation mode.
    batches : Iterable[Batch]
        The utterances.
    layer : str
        A key of `LAYERS`.

    Raises
    ------
    InputError
        If an activation is not finite.
    """
    classifier.eval()
    parts = []
    for batch in batches:
        part = LAYERS[layer](classifier, batch).float().cpu().numpy()
        bad = _unusable(part)
        if len(bad):
            raise InputError(
                f"{batch.ids[bad[0]]}: its {layer} activations are NaN or infinite; "
                "train again with a lower `lr`"
            )
        parts.append(part)
    return np.concatenate(parts)


def _unusable(activations: np.ndarray) -> np.ndarray:
    """Rows that hold NaN or infinite values; a product finds them without a copy."""
    return np.flatnonzero(~np.isfinite(activations @ np.ones(activations.shape[1], np.float32)))


def by_class(
    activations: np.ndarray, labels: Sequence[str] | np.ndarray, fewest: int = FEWEST
) -> dict[str, np.ndarray]:
    """Row numbers of each class that has at least `fewest` rows; others are not judged.

    Arguments
    ---------
    activations : np.ndarray
        (N, D) floats.
    labels : Sequence[str] | np.ndarray
        (N,) the label each row was given.
    fewest : int
        See above.

    Raises
    ------
    InputError
        If the shapes do not fit, a value is not finite, or no class is large enough.
    """
    labels = np.asarray(labels)
    if activations.ndim != 2 or labels.shape != activations.shape[:1]:
        raise InputError(
            f"activations {activations.shape} and labels {labels.shape}: give (N, D) and (N,)"
        )
    bad = _unusable(activations)
    if len(bad):
        raise InputError(
            f"activations, row {bad[0]} of {len(labels)}: NaN or infinite; leave it out, or train "
            "again with a lower `lr`"
        )
    names, number = np.unique(labels, return_inverse=True)
    classes = {str(name): np.flatnonzero(number == place) for place, name in enumerate(names)}
    large = {label: rows for label, rows in classes.items() if len(rows) >= fewest}
    if not large:
        most = max(map(len, classes.values()), default=0)
        raise InputError(
            f"the largest class has {most} utterances, and a filter needs {fewest}; give more data"
        )
    return large
