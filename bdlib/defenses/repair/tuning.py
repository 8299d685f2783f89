"""The one loop, and the one rule, by which repairs tune a classifier on their clean budget."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bdlib.corpus import Batch
from bdlib.defenses.accuracy import correct
from bdlib.defenses.base import CleanData, Tried
from bdlib.defenses.checks import at_least, counts, positive, share
from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.models.classifier import SpeechClassifier

RATES = (0.1, 0.05, 0.03, 0.01)
WARMUP = 0.1  # share of the steps; large rates taken at once throw a net far off

Gradient = Callable[[SpeechClassifier, Batch], Tensor]
"""Leaves a gradient in every parameter's `grad`, and returns the loss (scalar, detached)."""


@dataclass(frozen=True)
class Tuning:
    """Stochastic gradient descent with momentum, at the first rate that fits.

    The rate rises in a line over the first `WARMUP` of the steps, and follows a cosine to zero.

    Arguments
    ---------
    steps : int
        Of each rate, however large the budget.
    batch_size : int
        Clips a step; a smaller budget is one batch.
    rates : Sequence[float]
        The highest of each attempt, in the order in which they are tried.
    momentum, weight_decay : float
        Of the optimiser.
    max_drop : float
        Accuracy on clean validation clips that a repair may give up, as a share of one.

    Raises
    ------
    InputError
        If a number is out of range, or there is no rate.
    """

    steps: int = 400
    batch_size: int = 32
    rates: Sequence[float] = RATES
    momentum: float = 0.9
    weight_decay: float = 5e-4
    max_drop: float = 0.05

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            counts(name, getattr(self, name))
        if not isinstance(self.rates, list | tuple) or not self.rates:
            raise InputError(f"`rates` is {self.rates}: give a list, such as {list(RATES)}")
        for rate in self.rates:
            positive("rates", rate)
        object.__setattr__(self, "rates", tuple(self.rates))  # a yaml gives a list
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
    """Tune in place, at the first rate that clean validation clips allow.

    A backdoor fades with the size of the steps, which clean clips cannot show; what they show is
    the cost. So rates are tried from the largest down, each from the same start and to its last
    step, and the first that is affordable (`affordable`) is the repair. What each came to is added
    to `clean.tried`.

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
        The classifier before the repair, which comes back if no rate is affordable; by default
        `classifier` as it is now.

    Raises
    ------
    InputError
        If all weights are frozen.
    """
    if not any(parameter.requires_grad for parameter in classifier.parameters()):
        raise InputError("nothing to tune: no weight of the classifier has `requires_grad`")
    given = given or copy.deepcopy(classifier)
    start = copy.deepcopy(classifier.state_dict())
    before = correct(given, clean.validation())
    for rate in tuning.rates:
        classifier.load_state_dict(start)
        _descend(classifier, clean, tuning, rate, gradient)
        after = correct(classifier, clean.validation())
        kept = affordable(before, after, tuning.max_drop)
        clean.tried.append(Tried(rate, float(before.mean()), float(after.mean()), kept))
        if kept:
            return classifier
    print(f"no rate within {tuning.max_drop} of the accuracy before: nothing is repaired")
    return given


def affordable(before: Tensor, after: Tensor, max_drop: float) -> bool:
    """Whether a repair costs no more accuracy than it may, as far as the clips can tell.

    The drop may exceed `max_drop` by one standard error of the paired difference: a few hundred
    clips cannot tell less.

    Arguments
    ---------
    before, after : Tensor
        (N,) 1 for each clip that is classified as labelled, else 0; the same clips.
    max_drop : float
        As a share of one.
    """
    lost = before - after
    error = lost.std(correction=0) / math.sqrt(len(lost))
    return bool(lost.mean() <= max_drop + error)


def _descend(
    classifier: SpeechClassifier, clean: CleanData, tuning: Tuning, rate: float, gradient: Gradient
) -> None:
    """All steps at one rate, in place."""
    optimizer = torch.optim.SGD(
        classifier.parameters(), rate, tuning.momentum, weight_decay=tuning.weight_decay
    )
    warmup = max(1, round(WARMUP * tuning.steps))
    classifier.train()
    for number, batch in enumerate(steps(clean, tuning.batch_size, tuning.steps)):
        cosine = (1 + math.cos(math.pi * number / tuning.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (number + 1) / warmup) * cosine
        optimizer.zero_grad(set_to_none=True)
        gradient(classifier, batch)
        optimizer.step()
    classifier.zero_grad(set_to_none=True)


def steps(clean: CleanData, batch_size: int, count: int) -> Iterator[Batch]:
    """So many batches of the clean budget, epoch after epoch, with all randomness drawn by its seed."""

    def endless() -> Iterator[Batch]:
        batches = clean.train(batch_size)
        for batches.epoch in itertools.count(1):
            torch.manual_seed(seed_of("repair", clean.seed, batches.epoch))
            yield from batches

    drawn = itertools.islice(endless(), count)
    return iter(tqdm(drawn, "repair", count, unit="step", leave=False, disable=None))


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
