"""ABL: anti-backdoor learning, without clean data (Li et al., NeurIPS 2021)."""

import math
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from torch import Tensor, nn

from bdlib.corpus import Batch, Batches
from bdlib.errors import InputError
from bdlib.files import read_json, write_json
from bdlib.models.classifier import SpeechClassifier
from bdlib.training.classifier_brain import ClassifierBrain, Training


class AntiBackdoorBrain(ClassifierBrain):
    """Isolates the clips that are learned first, and unlearns them.

    A backdoor is learned faster than speech. For the first epochs the loss is
    ``sign(l - gamma) * l`` of each clip's cross entropy l (local gradient ascent, their Eq. 2): what
    falls below gamma is pushed back, and only what is learned easily comes down again. Then the
    share of clips with the lowest cross entropy is isolated, and for the other epochs the loss is
    the mean over the rest minus the mean over the isolated (global gradient ascent, their Eq. 3).

    Beyond the paper: an isolated clip whose cross entropy is that of guessing, ``log C``, is
    unlearned and adds nothing more, as the ascent has no end. Which clips were isolated stands in
    `isolated.json` of the training's folder, under aliases.

    Arguments
    ---------
    gamma : float
        Cross entropy below which the first epochs push back (0.5).
    isolation_time : float
        Share of the epochs that these are, at least one (a fifth).
    isolation_share : float
        Share of the training clips that is isolated (1 %).

    Raises
    ------
    InputError
        If a number is out of range, or the training is distributed.
    """

    def __init__(
        self,
        classifier: SpeechClassifier,
        training: Training,
        train: Batches,
        folder: Path,
        seed: int,
        run_opts: dict[str, Any],
        caution: float = 1.0,
        gamma: float = 0.5,
        isolation_time: float = 0.2,
        isolation_share: float = 0.01,
    ) -> None:
        if not 0 <= gamma < math.inf:
            raise InputError(f"`gamma` is {gamma}: give a number from 0 on")
        for name, value in (("time", isolation_time), ("share", isolation_share)):
            if not 0 < value < 1:
                raise InputError(
                    f"`isolation_{name}` is {value}: give a share, above 0 and below 1"
                )
        if run_opts.get("distributed_launch"):
            raise InputError("ABL does not run under torchrun; start it without")
        super().__init__(classifier, training, train, folder, seed, run_opts, caution)
        self.gamma, self.share = gamma, isolation_share
        if training.number_of_epochs < 2:
            raise InputError(
                "`number_of_epochs` is 1: ABL isolates and then unlearns; give 2 or more"
            )
        last = training.number_of_epochs - 1
        self.epochs = min(max(1, round(isolation_time * training.number_of_epochs)), last)
        self.isolated: frozenset[str] | None = None

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Isolate, before the first epoch that unlearns."""
        super().on_stage_start(stage, epoch)
        if stage == sb.Stage.TRAIN and epoch > self.epochs and self.isolated is None:
            path = self.folder / "isolated.json"
            if epoch == self.epochs + 1:
                write_json(path, self._first_learned())
            self.isolated = frozenset(read_json(path))

    @torch.no_grad()
    def _first_learned(self) -> list[str]:
        """Names of the clips of lowest cross entropy, in evaluation mode."""
        self.classifier.eval()
        losses = {}
        for batch in self.train.whole():
            logits = self.compute_forward(batch, sb.Stage.VALID)
            each = nn.functional.cross_entropy(
                logits, batch.labels.to(self.device), reduction="none"
            )
            losses |= dict(zip(batch.ids, each.tolist(), strict=True))
        self.classifier.train()
        return sorted(losses, key=losses.__getitem__)[: math.ceil(self.share * len(losses))]

    def compute_objectives(self, logits: Tensor, batch: Batch, stage: sb.Stage) -> Tensor:
        """Their Eq. 2, then Eq. 3; the training's own loss is that of validation."""
        if stage != sb.Stage.TRAIN:
            return super().compute_objectives(logits, batch, stage)
        losses = nn.functional.cross_entropy(logits, batch.labels.to(self.device), reduction="none")
        if self.isolated is None:
            return ((losses - self.gamma).sign() * losses).mean()
        apart = [name in self.isolated for name in batch.ids]
        count = {part: apart.count(part) for part in (True, False)}
        # Of the mean over the rest, minus that over the isolated; to choose by a mask would wait for a GPU.
        weights = [-1 / count[part] if part else 1 / count[part] for part in apart]
        weights = torch.tensor(weights, device=self.device)
        unlearned = losses.clamp(max=math.log(logits.shape[1]))
        # No matrix product, which autocast would make in bf16.
        return (weights * torch.where(weights < 0, unlearned, losses)).sum()
