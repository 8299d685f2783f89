"""TSBD: weights that unlearning moves most start anew, then fine-tuning (Lin et al., NeurIPS 2024)."""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bdlib.defenses.accuracy import accuracy
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import positive, share
from bdlib.defenses.repair.gradient_norm import GradientNorm
from bdlib.defenses.repair.layers import Layer, conv_layers
from bdlib.defenses.repair.tuning import Tuning, cross_entropy, steps, tune
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class WeightReinitialisation(RepairDefense):
    """Unlearning clean clips moves the weights of backdoored neurons more than those of others.

    A copy climbs the loss of clean clips until its accuracy on them is down to `unlearned`. The
    change of a neuron is ``sum |theta_unlearned - theta|`` over its weights. Of the neurons that
    changed most over all convolutions but those of shortcuts, the weights that changed most, those
    of all chosen neurons taken together, are set to zero, as in the authors' code. Then the
    classifier is fine-tuned against activeness, by the penalty on the gradient's norm.

    Arguments
    ---------
    neurons : float
        Share of neurons (0.15 in the paper, too many for small budgets).
    weights : float
        Share of the weights of all of them together (0.7).
    unlearn_lr : float
        Rate of the ascent.
    unlearned : float
        Accuracy on the budget, after an epoch, at which the ascent ends; it also ends after
        `tuning.steps`.
    alpha, radius : float
        Of the penalty, see `GradientNorm`.
    clean_share : float
        Share of the training set, as many clips of each class.
    tuning : Tuning
        How the rest is tuned.

    Raises
    ------
    InputError
        If a share is not within [0, 1] or the rate not positive.
    """

    neurons: float = 0.05
    weights: float = 0.7
    unlearn_lr: float = 0.01
    unlearned: float = 0.1
    alpha: float = 0.7
    radius: float = 0.05
    clean_share: float = 0.05
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        for name in ("neurons", "weights", "unlearned"):
            share(name, getattr(self, name))
        positive("unlearn_lr", self.unlearn_lr)

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`."""
        given = copy.deepcopy(classifier)
        self._reinitialise(classifier, self._unlearn(copy.deepcopy(classifier), clean))
        penalty = GradientNorm(self.alpha, self.radius)
        return tune(classifier, clean, self.tuning, penalty.penalised, given)

    def _unlearn(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """Climb the loss in place."""
        optimizer = torch.optim.SGD(classifier.parameters(), self.unlearn_lr, maximize=True)
        size = self.tuning.batch_size
        budget = clean.train(size)
        for number, batch in enumerate(steps(clean, size, self.tuning.steps), start=1):
            classifier.train()
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(classifier, batch).backward()
            torch.nn.utils.clip_grad_norm_(classifier.parameters(), 20.0)
            optimizer.step()
            if number % len(budget) == 0 and accuracy(classifier, budget) <= self.unlearned:
                break
        return classifier

    @torch.no_grad()
    def _reinitialise(self, classifier: SpeechClassifier, unlearned: SpeechClassifier) -> None:
        """Zero the most changed weights of the most changed neurons, in place."""
        layers, after = (
            [layer.conv.weight for layer in conv_layers(net) if not _in_a_shortcut(layer)]
            for net in (classifier, unlearned)
        )
        changes = [
            (moved - weight).abs().flatten(1)  # (neurons, weights)
            for weight, moved in zip(layers, after, strict=True)
        ]
        chosen = _largest(torch.cat([change.sum(1) for change in changes]), self.neurons)
        of_layers = chosen.split([len(change) for change in changes])
        pooled = [change[rows].flatten() for change, rows in zip(changes, of_layers, strict=True)]
        most = _largest(torch.cat(pooled), self.weights).split([len(part) for part in pooled])
        for weight, rows, zeros in zip(layers, of_layers, most, strict=True):
            weight[rows] = weight[rows].masked_fill(zeros.view_as(weight[rows]), 0)


def _in_a_shortcut(layer: Layer) -> bool:
    """Whether a convolution only fits the shape of what a residual block passes by, by its name."""
    return not {"shortcut", "downsample"}.isdisjoint(layer.name.split("."))


def _largest(values: Tensor, share: float) -> Tensor:
    """Which of the values (n,) are the largest, as many as the share says."""
    largest = torch.zeros_like(values, dtype=torch.bool)
    largest[values.argsort(descending=True)[: round(share * len(values))]] = True
    return largest
