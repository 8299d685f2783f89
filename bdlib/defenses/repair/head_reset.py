"""A new head, then fine-tuning (FT-init of Min et al., NeurIPS 2023)."""

import copy
from dataclasses import dataclass, field

import torch

from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.repair.fine_tuning import descent
from bdlib.defenses.repair.tuning import Tuning, tune
from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class HeadReset(RepairDefense):
    """The head, which ties the trigger to the target, is drawn anew; then all is fine-tuned.

    Fine-tuning a net that is right already moves it little; with a new head the loss is high, and
    its gradients reach the features.

    Arguments
    ---------
    clean_share : float
        Share of the training set, as many clips of each class.
    tuning : Tuning
        How.
    """

    clean_share: float = 0.05
    tuning: Tuning = field(default_factory=Tuning)

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`.

        Raises
        ------
        InputError
            If the head cannot be drawn anew.
        """
        given = copy.deepcopy(classifier)
        reset = getattr(getattr(classifier, "head", None), "reset_parameters", None)
        if reset is None:
            raise InputError(
                f"{type(classifier).__name__}: no `head` with reset_parameters(); give the last layer "
                "that name, as a linear layer"
            )
        torch.manual_seed(seed_of("head", clean.seed))
        reset()
        return tune(classifier, clean, self.tuning, descent, given)
