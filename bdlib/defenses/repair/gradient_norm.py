"""GN-FT: fine-tuning with a penalty on the norm of the gradient (Zhao et al. 2022, for repair).

Only the abstract of GN-FT is public. What it tells (the penalty, on clean data, approximated) is
here; the equations are those of Zhao, Zhang and Hu, ICML 2022, and the rest is inferred.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import one_of, positive, share
from bdlib.defenses.repair.probe import (
    EPSILON,
    descend,
    gradients,
    moved,
    same_draws,
    total_norm,
    twice_differentiable,
)
from bdlib.defenses.repair.tuning import Tuning, cross_entropy, tune
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class GradientNorm(RepairDefense):
    """Backdoored neurons have large gradients; a penalty on the gradient's norm weakens them.

    The loss is ``L + alpha * r * ||grad L||``. With ``g1`` the gradient of a mini-batch and ``g2``
    that at the probe ``theta + r * g1 / ||g1||``, for the same mini-batch, its gradient is close to
    ``(1 - alpha) * g1 + alpha * g2`` (Zhao et al. 2022, Algorithm 1), neither of them
    normalised:
    fine-tuning for alpha = 0, sharpness-aware minimisation for alpha = 1.

    Arguments
    ---------
    alpha : float
        Weight of the gradient at the probe, within [0, 1].
    radius : float
        r, length of the step to the probe.
    norm : str
        `tensor` makes a step of that length for each parameter tensor, and the penalty is the sum
        of their norms; `global` for all parameters together, as in the paper above.
    exact : bool
        Differentiate the norm itself, through the gradient, instead of probing.
    clean_share : float
        Share of the training set, as many clips of each class.
    tuning : Tuning
        How.

    Raises
    ------
    InputError
        If alpha is not within [0, 1], the radius not positive, or `norm` neither of the two.
    """

    alpha: float = 0.7
    radius: float = 0.05
    norm: str = "tensor"
    exact: bool = False
    clean_share: float = 0.05
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        share("alpha", self.alpha)
        positive("radius", self.radius)
        one_of("norm", self.norm, ("tensor", "global"))

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`."""
        return tune(classifier, clean, self.tuning, self.penalised)

    def penalised(self, classifier: SpeechClassifier, batch: Batch) -> Tensor:
        """The gradient of the penalised loss; see `tuning.Gradient`."""
        if self.exact:
            return self._differentiated(classifier, batch)
        features = classifier.features(batch.wavs, batch.lens)
        with same_draws(classifier):
            loss = cross_entropy(classifier, batch, features=features)
            here = gradients(loss, classifier)
        with moved(classifier, self._probe(here)):
            there = gradients(cross_entropy(classifier, batch, features=features), classifier)
        # Into new tensors, as autograd may give one for two parameters.
        mixed = [
            first.mul(1 - self.alpha).add_(second, alpha=self.alpha)
            for first, second in zip(here, there, strict=True)
        ]
        descend(classifier, mixed)
        return loss.detach()

    def _probe(self, gradient: Sequence[Tensor]) -> list[Tensor]:
        if self.norm == "global":
            scale = self.radius / (total_norm(gradient) + EPSILON)
            return [scale * part for part in gradient]
        return [
            self.radius / (torch.linalg.vector_norm(part) + EPSILON) * part for part in gradient
        ]

    def _differentiated(self, classifier: SpeechClassifier, batch: Batch) -> Tensor:
        with twice_differentiable():
            loss = cross_entropy(classifier, batch)
            parts = gradients(loss, classifier, create_graph=True)
            norms = [torch.linalg.vector_norm(part) for part in parts if part.requires_grad]
            penalty = total_norm(norms) if self.norm == "global" else torch.stack(norms).sum()
            whole = gradients(loss + self.alpha * self.radius * penalty, classifier)
        descend(classifier, whole)
        return loss.detach()
