"""FT-SAM: fine-tuning with sharpness-aware minimisation (Zhu et al., ICCV 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import positive
from bdlib.defenses.repair.probe import EPSILON, descend, gradients, moved, same_draws, total_norm
from bdlib.defenses.repair.tuning import Tuning, cross_entropy, tune
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class FtSam(RepairDefense):
    """Each step follows the gradient at the worst point near the parameters.

    ``min_theta max_{||eps / T|| <= rho} L(theta + eps)`` with ``T = |theta|``, element by element:
    large weights, on which a backdoor rests, are disturbed most. To first order the worst point is
    ``eps = rho * T^2 g / ||T g||``.

    Arguments
    ---------
    rho : float
        Radius (2 for the ResNet-18 of their images, too far for small nets and budgets).
    adaptive : bool
        False takes ``T = 1``, plain SAM.
    smoothing : float
        Label smoothing (0.1 in BackdoorBench).
    clean_share : float
        Share of the training set, as many clips of each class.
    tuning : Tuning
        How.

    Raises
    ------
    InputError
        If rho is not positive or the smoothing not within [0, 1).
    """

    rho: float = 0.5
    adaptive: bool = True
    smoothing: float = 0.1
    clean_share: float = 0.05
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        positive("rho", self.rho)
        if not 0 <= self.smoothing < 1:
            raise InputError(f"`smoothing` is {self.smoothing}: give a share below 1")

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`."""
        return tune(classifier, clean, self.tuning, self.sharpness_aware)

    def sharpness_aware(self, classifier: SpeechClassifier, batch: Batch) -> Tensor:
        """The gradient at the worst point; see `tuning.Gradient`."""
        features = classifier.features(batch.wavs, batch.lens)
        with same_draws(classifier):
            loss = cross_entropy(classifier, batch, self.smoothing, features)
            here = gradients(loss, classifier)
        with moved(classifier, self._worst(list(classifier.parameters()), here)):
            worst = cross_entropy(classifier, batch, self.smoothing, features)
            there = gradients(worst, classifier)
        descend(classifier, there)
        return loss.detach()

    def _worst(self, weights: Sequence[Tensor], gradient: Sequence[Tensor]) -> list[Tensor]:
        if not self.adaptive:
            scale = self.rho / (total_norm(gradient) + EPSILON)
            return [scale * part for part in gradient]
        sizes = [weight.detach().abs() for weight in weights]
        scaled = [size * part for size, part in zip(sizes, gradient, strict=True)]
        scale = self.rho / (total_norm(scaled) + EPSILON)
        return [scale * size * part for size, part in zip(sizes, scaled, strict=True)]
