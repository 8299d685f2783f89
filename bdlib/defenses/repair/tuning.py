"""The one loop by which repairs tune a classifier on their clean budget."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bdlib.corpus import Batch, Batches
from bdlib.defenses.accuracy import accuracy
from bdlib.defenses.base import CleanData
from bdlib.defenses.checks import at_least, positive, share
from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.models.classifier import SpeechClassifier

SNAPSHOTS = 5

Gradient = Callable[[SpeechClassifier, Batch], Tensor]
"""Leaves a gradient in every parameter's `grad`, and returns the loss (scalar, detached)."""


@dataclass(frozen=True)
class Tuning:
    """Stochastic gradient descent with momentum and a cosine to zero, stopped by validation.

    Arguments
    ---------
    epochs : int
        Passes over the clean budget.
    batch_size : int
        Clips a step; a smaller budget is one batch.
    lr : float
        Rate of the first step.
    momentum, weight_decay : float
        Of the optimiser.
    max_drop : float
        Accuracy on clean validation clips that a repair may give up, as a share of one.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    epochs: int = 50
    batch_size: int = 32
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    max_drop: float = 0.05

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            at_least(name, getattr(self, name), 1)
        positive("lr", self.lr)
        if not 0 <= self.momentum < 1:
            raise InputError(f"`momentum` is {self.momentum}: give a share below 1")
        at_least("weight_decay", self.weight_decay, 0)
        share("max_drop", self.max_drop)


def tune(
    classifier: SpeechClassifier,
    clean: CleanData,
    tuning: Tuning,
    gradient: Gradient,
    given: SpeechClassifier | None = None,
) -> SpeechClassifier:
    """Tune in place, as far as the accuracy on clean validation clips allows.

    The state is kept at `SNAPSHOTS` evenly spaced epochs. The newest whose accuracy is at most
    `max_drop` below that of `given` is the result: a backdoor fades with tuning, which clean clips
    cannot show, so what stops a repair is its cost and not its first gain.

    Arguments
    ---------
    classifier : SpeechClassifier
        To be tuned.
    clean : CleanData
        The budget, and the validation set.
    tuning : Tuning
        How.
    gradient : Gradient
        What each step follows.
    given : SpeechClassifier | None
        The classifier before the repair, which comes back if no state is accurate enough; by
        default `classifier` as it is now.
    """
    given = given or copy.deepcopy(classifier)
    optimizer = torch.optim.SGD(
        classifier.parameters(), tuning.lr, tuning.momentum, weight_decay=tuning.weight_decay
    )
    kept = []
    for epoch, batches in epochs(clean, tuning.batch_size, tuning.epochs):
        classifier.train()
        for number, batch in enumerate(batches):
            done = (epoch - 1 + number / len(batches)) / tuning.epochs
            for group in optimizer.param_groups:
                group["lr"] = tuning.lr * (1 + math.cos(math.pi * done)) / 2
            optimizer.zero_grad(set_to_none=True)
            gradient(classifier, batch)
            optimizer.step()
        if epoch * SNAPSHOTS % tuning.epochs < SNAPSHOTS:
            kept.append(copy.deepcopy(classifier.state_dict()))
    classifier.zero_grad(set_to_none=True)
    least = accuracy(given, clean.validation()) - tuning.max_drop
    for state in reversed(kept):
        classifier.load_state_dict(state)
        if accuracy(classifier, clean.validation()) >= least:
            return classifier
    print(f"no state within {tuning.max_drop} of the accuracy before: nothing is repaired")
    return given


def epochs(clean: CleanData, batch_size: int, count: int) -> Iterator[tuple[int, Batches]]:
    """Epochs over the clean budget, counted from 1, with all randomness drawn by its seed."""
    batches = clean.train(batch_size)
    for epoch in tqdm(range(1, count + 1), "repair", unit="epoch", leave=False, disable=None):
        batches.epoch = epoch
        torch.manual_seed(seed_of("repair", clean.seed, epoch))
        yield epoch, batches


def cross_entropy(
    classifier: SpeechClassifier,
    batch: Batch,
    smoothing: float = 0.0,
    features: Tensor | None = None,
) -> Tensor:
    """Mean cross entropy of a batch, with label smoothing; `features` if they are there already."""
    if features is None:
        features = classifier.features(batch.wavs, batch.lens)
    logits = classifier.logits(features, batch.lens)
    labels = batch.labels.to(logits.device)
    return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
