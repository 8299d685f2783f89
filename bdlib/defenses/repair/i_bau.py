"""I-BAU: adversarial unlearning by implicit hypergradients (Zeng et al., ICLR 2022)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import counts, positive
from bdlib.defenses.repair.probe import EPSILON, descend, gradients, twice_differentiable
from bdlib.defenses.repair.tuning import Tuning, tune
from bdlib.models.classifier import SpeechClassifier

LONGEST = 1.0  # norm of a hypergradient


@dataclass(frozen=True)
class AdversarialUnlearning(RepairDefense):
    """The classifier unlearns the one disturbance that makes all clips of a batch fail.

    ``min_theta max_{||delta|| <= C} H(delta, theta)`` with H the mean loss of clips whose features
    are all shifted by the same delta (their Eq. 2): a trigger sought among all shifts. The step
    follows the hypergradient: the direct gradient, and what theta changes through delta, by
    iterations of the fixed point of the inner ascent (their Algorithm 1). Running statistics
    stay as they are.

    Arguments
    ---------
    bound : float
        C, in units of the mean norm of clean features about their mean.
    inner_steps : int
        Normalised steps of the ascent of delta, each of a quarter of the bound; the fixed point is
        that of steps a fifth as long, for which its iterations do not run away.
    fixed_point_steps : int
        Iterations of the fixed point (5).
    clean_share : float
        Share of the training set, as many clips of each class.
    tuning : Tuning
        How theta is tuned, in fewer steps than elsewhere: one costs as much as ten of
        fine-tuning.

    Raises
    ------
    InputError
        If the bound is not positive, or there are less than one step.
    """

    bound: float = 0.3
    inner_steps: int = 5
    fixed_point_steps: int = 5
    clean_share: float = 0.05
    tuning: Tuning = field(default_factory=lambda: Tuning(steps=100))

    def __post_init__(self) -> None:
        positive("bound", self.bound)
        for name in ("inner_steps", "fixed_point_steps"):
            counts(name, getattr(self, name))

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`."""
        return tune(classifier, clean, self.tuning, self.hypergradient)

    def hypergradient(self, classifier: SpeechClassifier, batch: Batch) -> Tensor:
        """The hypergradient of a batch; see `tuning.Gradient`."""
        classifier.eval()
        with torch.no_grad():
            features = classifier.features(batch.wavs, batch.lens)
            radius = self.bound * (features - features.mean(0)).flatten(1).norm(dim=1).mean()

        def height(shift: Tensor) -> Tensor:
            logits = classifier.logits(features + shift, batch.lens)
            return nn.functional.cross_entropy(logits, batch.labels.to(logits.device))

        with twice_differentiable():
            shift = self._ascent(height, torch.zeros_like(features[:1]), radius)
            loss = (height(shift) + height(torch.zeros_like(shift))) / 2
            (outer,) = torch.autograd.grad(loss, shift, retain_graph=True)
            direct = gradients(loss, classifier)
            (inner,) = torch.autograd.grad(height(shift), shift, create_graph=True)
            rate = radius / (20 * inner.detach().norm() + EPSILON)
            mapped = shift + rate * inner
            vector = outer
            for _ in range(self.fixed_point_steps - 1):
                (pulled,) = torch.autograd.grad(mapped, shift, vector, retain_graph=True)
                vector = outer + pulled
            indirect = gradients((mapped * vector.detach()).sum(), classifier)
        descend(classifier, [one + other for one, other in zip(direct, indirect, strict=True)])
        # Far from a maximum of the inner problem the iterations do not contract.
        nn.utils.clip_grad_norm_(classifier.parameters(), LONGEST)
        return loss.detach()

    def _ascent(self, height: Callable[[Tensor], Tensor], shift: Tensor, radius: Tensor) -> Tensor:
        """Climb `height` from `shift` (1, T, F) within a ball; gives a leaf of the graph."""
        for _ in range(self.inner_steps):
            shift.requires_grad_(True)
            (slope,) = torch.autograd.grad(height(shift), shift)
            shift = shift.detach() + radius / 4 * slope / (slope.norm() + EPSILON)
            shift = shift * (radius / (shift.norm() + EPSILON)).clamp_max(1)
        return shift.requires_grad_(True)
