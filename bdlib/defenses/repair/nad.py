"""NAD: neural attention distillation (Li et al., ICLR 2021)."""

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import at_least, counts
from bdlib.defenses.repair.fine_tuning import descent
from bdlib.defenses.repair.layers import feature_maps, recorded
from bdlib.defenses.repair.probe import same_draws
from bdlib.defenses.repair.tuning import Tuning, cross_entropy, tune
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class AttentionDistillation(RepairDefense):
    """The classifier learns to look where a fine-tuned copy of itself looks.

    A teacher is fine-tuned on the budget. The student's loss is the cross entropy and, for each of
    some blocks, ``beta * ||A_T / ||A_T|| - A_S / ||A_S|| ||`` (their Eq. 2), where the attention
    ``A`` of a block is the sum over channels of the squared activations (their ``A_sum^2``), behind
    the activation with which the block ends.

    Arguments
    ---------
    beta : float
        Weight of the distance of each block.
    layers : int
        How many, evenly spaced over the network.
    teacher_steps : int
        Steps of fine-tuning for the teacher.
    clean_share : float
        Share of the training set, as many clips of each class.
    tuning : Tuning
        How student and teacher are tuned, each at the first rate that fits.

    Raises
    ------
    InputError
        If beta is negative, or there is no layer or no step.
    """

    beta: float = 10.0
    layers: int = 3
    teacher_steps: int = 100
    clean_share: float = 0.05
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        at_least("beta", self.beta, 0)
        for name in ("layers", "teacher_steps"):
            counts(name, getattr(self, name))

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`."""
        shorter, apart = replace(self.tuning, steps=self.teacher_steps), replace(clean, tried=[])
        teacher = tune(copy.deepcopy(classifier), apart, shorter, descent).eval()
        teacher.training = True  # of all it means only that views are drawn, as for the student

        def gradient(student: SpeechClassifier, batch: Batch) -> Tensor:
            with same_draws(student), torch.no_grad():
                taught = self._attention(teacher, batch)[0]
            learned, loss = self._attention(student, batch)
            for theirs, ours in zip(taught, learned, strict=True):
                loss = loss + self.beta * (theirs - ours).norm(dim=1).mean()
            loss.backward()
            return loss.detach()

        return tune(classifier, clean, self.tuning, gradient)

    def _attention(self, classifier: SpeechClassifier, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Normalised attention (B, places) of each layer, and the cross entropy."""
        layers = feature_maps(classifier, self.layers)
        with recorded(layers) as outputs:
            loss = cross_entropy(classifier, batch)
        maps = [outputs[layer].square().sum(1).flatten(1) for layer in layers]
        return [torch.nn.functional.normalize(each, dim=1) for each in maps], loss
