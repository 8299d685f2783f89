"""Training of a classifier on blind manifests: one Brain for all models."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.epoch_loop import EpochCounterWithStopper
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from bdlib.corpus import Batch, Batches
from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.models.classifier import SpeechClassifier
from bdlib.training import log, ranks
from bdlib.training.checkpoints import WholeCheckpointer, check_kept

MOST_ROLLBACKS = 3
KEPT = {"best": "valid_loss", "last": None}
"""Which checkpoint is the classifier, and the number it is lowest in; None takes the newest."""


class Diverged(InputError):
    """A training left the region where its loss means anything."""


@dataclass(frozen=True)
class Training:
    """How a classifier is trained.

    Arguments
    ---------
    number_of_epochs : int
        At most.
    batch_size : int
        Clips a step.
    optimizer : Callable
        Parameters to optimiser.
    patience, warmup_epochs : int
        Stop after `patience` epochs without a better validation loss, not counting the first
        `warmup_epochs`; with `keep` last, never.
    max_grad_norm : float
        Gradients are clipped to this norm.
    schedule : Callable[[int, int], float]
        Step and total steps to learning rate (`bdlib.training.schedule`).
    loss : Callable[[Tensor, Tensor], Tensor]
        Logits (B, C) and class numbers (B,) to a scalar.
    keep : str
        Which epoch is the classifier: `best`, of lowest validation loss, or `last`. The papers on
        poisoned speech take the last; a choice by clean validation clips may stop a training
        before it has learned the poison.

    Raises
    ------
    InputError
        If a number is out of range, or `keep` is neither.
    """

    number_of_epochs: int
    batch_size: int
    optimizer: Callable
    patience: int
    warmup_epochs: int
    max_grad_norm: float
    schedule: Callable[[int, int], float]
    loss: Callable[[Tensor, Tensor], Tensor]
    keep: str = "best"

    def __post_init__(self) -> None:
        least = {"number_of_epochs": 1, "patience": 0, "warmup_epochs": 0, "max_grad_norm": 1e-30}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise InputError(f"`{name}` is {getattr(self, name)}: give at least {low}")
        if self.keep not in KEPT:
            raise InputError(f"`keep` is {self.keep}: give {' or '.join(KEPT)}")


class ClassifierBrain(sb.Brain):
    """Trains `modules.classifier`, keeps the newest checkpoint and the one `Training.keep` names.

    All randomness of an epoch is a function of seed and epoch, so a training that was killed and
    started again ends with the numbers of one that was not.
    """

    #: Any larger loss is an explosion.
    EXPLODED = math.inf

    def __init__(
        self,
        classifier: SpeechClassifier,
        training: Training,
        train: Batches,
        folder: Path,
        seed: int,
        run_opts: dict[str, Any],
        caution: float = 1.0,
    ) -> None:
        self.training, self.train, self.folder, self.seed = training, train, Path(folder), seed
        self.caution = caution
        self.counter = EpochCounterWithStopper(
            training.number_of_epochs, training.patience, training.warmup_epochs, "min"
        )
        super().__init__(
            modules={"classifier": classifier},
            opt_class=training.optimizer,
            run_opts={**run_opts, "max_grad_norm": training.max_grad_norm},
            checkpointer=WholeCheckpointer(
                self.folder / "save",
                recoverables={"classifier": classifier, "counter": self.counter},
            ),
        )
        self.classifier = classifier
        steps = max(1, len(train) // self.grad_accumulation_factor)  # of the optimiser, an epoch
        self.total_steps = steps * training.number_of_epochs

    def compute_forward(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Logits (B, C)."""
        batch = batch.to(self.device)
        return self.modules.classifier(batch.wavs, batch.lens)

    def compute_objectives(self, logits: Tensor, batch: Batch, stage: sb.Stage) -> Tensor:
        """The loss; in validation the correct predictions are counted, too."""
        labels = batch.labels.to(self.device)
        if stage != sb.Stage.TRAIN:
            self.correct = self.correct + (logits.argmax(1) == labels).sum()
            self.total += len(labels)
        return self.training.loss(logits, labels)

    def on_fit_batch_start(self, batch: Batch, should_step: bool) -> None:
        """Set the learning rate of this step."""
        self.rate = self.caution * self.training.schedule(self.optimizer_step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def fit_batch(self, batch: Batch) -> Tensor:
        """One step; its loss, on the CPU, which waits for the device here and nowhere else.

        A loss that is not finite ends the training at once, where SpeechBrain would hope: weights
        stepped by a NaN never mend. They are left behind, as the training goes back.
        """
        loss = ranks.averaged(super().fit_batch(batch), self.device)  # so that all go back, or none
        if not abs(float(loss)) < self.EXPLODED:
            raise Diverged(f"training loss is {float(loss):.6g}")
        return loss

    def check_loss_isfinite(self, loss: Tensor) -> None:
        """Nothing: `fit_batch` looks, when the loss has come to the CPU."""

    def _wrap_distributed(self) -> None:
        """As SpeechBrain, whose batch normalisation of several processes needs a GPU."""
        if not (self.distributed_launch and self.device_type == "cpu"):
            return super()._wrap_distributed()
        for name, module in self.modules.items():
            self.modules[name] = DistributedDataParallel(ranks.SharedBatchNorm.convert(module))

    def update_average(self, loss: Tensor, avg_loss: float) -> float:
        """Running mean; SpeechBrain's leaves NaN out, and a ruined model would score 0, the best."""
        return avg_loss - avg_loss / self.step + float(loss) / self.step

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Draw the epoch's randomness afresh."""
        if stage == sb.Stage.TRAIN:
            self.train.epoch = epoch
            self.started = time.monotonic()
            own = [ranks.rank()] if ranks.rank() else []  # each process draws its own views
            torch.manual_seed(seed_of("training", self.seed, epoch, *own))
        self.correct = self.total = 0

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Log the epoch, tell the stopper, keep its checkpoint."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        if not math.isfinite(stage_loss):
            raise Diverged(f"validation loss is {stage_loss} after epoch {epoch}")
        line = self.log_line(epoch, stage_loss)
        line["valid_accuracy"] = round(int(self.correct) / self.total, 6)
        sb.utils.distributed.run_on_main(log.write_epoch, args=[self.folder, line])
        self.keep_checkpoint(stage_loss)

    def log_line(self, epoch: int, valid_loss: float) -> dict[str, Any]:
        """What the log tells of an epoch of any training."""
        return {
            "epoch": epoch,
            "lr": self.rate,
            "train_loss": round(float(self.train_loss), 6),
            "valid_loss": round(float(valid_loss), 6),
            "seconds": round(time.monotonic() - self.started, 2),
        }

    def keep_checkpoint(self, valid_loss: float) -> None:
        """Keep the newest checkpoint, and where it is asked for the best; then tell the stopper."""
        if KEPT[self.training.keep]:
            self.counter.update_metric(valid_loss)
        self.checkpointer.save_checkpoint(meta={"valid_loss": valid_loss})
        self.drop_checkpoints()

    def drop_checkpoints(self) -> None:
        """Delete those that are neither the newest nor, where it is asked for, the best."""
        lowest = KEPT[self.training.keep]
        self.checkpointer.delete_checkpoints(num_to_keep=1, min_keys=[lowest] if lowest else [])


def fit(
    classifier: SpeechClassifier,
    training: Training,
    train: Batches,
    valid: Batches,
    folder: str | Path,
    seed: int,
    run_opts: dict[str, Any],
    brain: Callable[..., ClassifierBrain] = ClassifierBrain,
) -> SpeechClassifier:
    """Train, or go on with a training that was interrupted, and return what `training.keep` names.

    A training that diverges goes back to its newest checkpoint, or to the beginning, with half the
    learning rate (and half the Langevin step), at most `MOST_ROLLBACKS` times.

    Arguments
    ---------
    classifier : SpeechClassifier
        Fresh; it is trained in place.
    training : Training
        How.
    train, valid : Batches
        Blind data; nothing else is looked at.
    folder : str | Path
        Gets `save/` with checkpoints and `train_log.txt`.
    seed : int
        Of the training.
    run_opts : dict[str, Any]
        SpeechBrain's run options (device, precision, ...).
    brain : Callable[..., ClassifierBrain]
        The class that trains.

    Raises
    ------
    InputError
        If the training diverges once more than that.
    """
    folder = Path(folder)
    classifier.to(train.device).fit_front_end(loader(train))
    start = copy.deepcopy(classifier.state_dict())
    rollbacks = log.read_rollbacks(folder)
    while True:
        caution = 0.5 ** len(rollbacks)
        trainer = brain(classifier, training, train, folder, seed, run_opts, caution=caution)
        try:
            trainer.fit(trainer.counter, loader(train), loader(valid))
            trainer.drop_checkpoints()  # a run that was killed may have left one more
            return load(classifier, folder, training.keep)
        except Diverged as error:
            rollbacks.append(f"epoch {trainer.counter.current}: {error}")
            if len(rollbacks) > MOST_ROLLBACKS:
                raise InputError(
                    f"{folder}: training diverged {len(rollbacks)} times, the last in "
                    f"{rollbacks[-1]}; lower the learning rate (`lr`)"
                ) from error
            log.write_rollbacks(folder, rollbacks)
            print(f"diverged in {rollbacks[-1]}; going back with half the step")
            classifier.load_state_dict(start)


def load(classifier: SpeechClassifier, folder: str | Path, keep: str = "best") -> SpeechClassifier:
    """Fill a classifier from the best or the last checkpoint of a training.

    Arguments
    ---------
    classifier : SpeechClassifier
        Its weights are replaced.
    folder : str | Path
        Of the training.
    keep : str
        See `Training`; that of the training.

    Raises
    ------
    InputError
        If there is none, it is broken, or not as it was when the training ended.
    """
    checkpointer = WholeCheckpointer(Path(folder) / "save", recoverables={"classifier": classifier})
    if checkpointer.recover_if_possible(min_key=KEPT[keep]) is None:
        raise InputError(f"{folder}: no epoch was trained; raise `number_of_epochs`")
    check_kept(Path(folder))
    return classifier.eval()


def loader(batches: Batches) -> DataLoader:
    """The DataLoader that SpeechBrain asks for; the batches are made by `Batches` itself."""
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)
