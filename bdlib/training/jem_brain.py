"""Training of a joint energy-based model over views (MVJ), and of its semi-supervised form."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from torch import Tensor, nn

from bdlib.corpus import Batch, Batches
from bdlib.files import atomic
from bdlib.models.wide_resnet import WideResNet
from bdlib.training import ranks
from bdlib.training.classifier_brain import ClassifierBrain, Training
from bdlib.training.sgld import Sampler, SgldSettings


def generative_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(x|y), with the partition function of each class estimated over the whole batch.

    ``(1/B) * sum_i [logsumexp_j Q[j, y_i] - Q[i, y_i]]``, j over real and sampled rows. The weights
    of its gradient sum to one, so a bad sample counts for nothing and positive and negative parts
    stay balanced (as in the public code of the authors of MVJ; Eq. 5 writes a plain expectation).

    Arguments
    ---------
    logits : Tensor
        Q, (B + S, C): B real rows, then S samples.
    labels : Tensor
        (B,) classes of the real rows.
    """
    real = logits[: len(labels)].gather(1, labels[:, None]).squeeze(1)
    return (logits.logsumexp(0)[labels] - real).mean()


def plain_generative_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(x) as in the first JEM: mean logsumexp of samples minus that of real rows.

    Grathwohl et al. 2020, Eq. 2 with E(x) = -logsumexp_y. Arguments as in `generative_loss`.
    """
    heights = logits.logsumexp(1)
    return heights[len(labels) :].mean() - heights[: len(labels)].mean()


def entropy_loss(
    logits: Tensor, count: int, log_prior: Tensor | None, detach_weights: bool = False
) -> Tensor:
    """The second term of Eq. 8: the loss of every class, weighted by what the model believes.

    Arguments
    ---------
    logits : Tensor
        Q, (B + S, C); the first `count` rows are real.
    count : int
        B.
    log_prior : Tensor | None
        (C,) log frequency of each label in the training set, for MVJ. None for MVD, where only
        -log p(y|x) remains and the term is the entropy.
    detach_weights : bool
        Let no gradient through the weights.
    """
    real = logits[:count]
    loss = -real.log_softmax(1)
    if log_prior is not None:
        loss = loss - (real - logits.logsumexp(0)) - log_prior
    weights = real.softmax(1)
    return ((weights.detach() if detach_weights else weights) * loss).sum(1).mean()


@dataclass(frozen=True)
class SemiSup:
    """How far the labels are doubted: gamma = first + step * epoch (Eq. 8; 0.1 to 0.475).

    Arguments
    ---------
    first, step : float
        Of gamma; both 0 leave the semi-supervised term out.
    detach_weights : bool
        See `entropy_loss`; the paper does not say, and as printed the gradient flows.
    """

    first: float = 0.1
    step: float = 0.015
    detach_weights: bool = False

    def gamma(self, epoch: int) -> float:
        """Weight of the unlabelled term in an epoch, counted from 0."""
        return self.first + self.step * epoch


class ViewBrain(ClassifierBrain):
    """Trains on views: MVD, MVJ, JEM, each with or without the semi-supervised term.

    Arguments
    ---------
    sgld : SgldSettings | None
        None trains the discriminator alone (MVD).
    generative : Callable[[Tensor, Tensor], Tensor]
        `generative_loss` (MVJ) or `plain_generative_loss` (JEM).
    semi : SemiSup | None
        None trusts the labels.
    input_noise : float
        Deviation of Gaussian noise on the real views (0.03 in JEM; MVJ has none).
    """

    #: Grathwohl et al. abort there.
    EXPLODED = 1e8

    def __init__(
        self,
        classifier: WideResNet,
        training: Training,
        train: Batches,
        folder: Path,
        seed: int,
        run_opts: dict[str, Any],
        caution: float = 1.0,
        sgld: SgldSettings | None = None,
        generative: Callable[[Tensor, Tensor], Tensor] = generative_loss,
        semi: SemiSup | None = None,
        input_noise: float = 0.0,
    ) -> None:
        self.semi = semi if semi and (semi.first or semi.step) else None
        self.plain = sgld is None and self.semi is None and not input_noise
        super().__init__(classifier, training, train, folder, seed, run_opts, caution)
        self.generative, self.sampler, self.input_noise = generative, None, input_noise
        self.log_prior = (train.counts / train.counts.sum()).clamp_min(1e-12).log().to(self.device)
        if sgld is not None:
            shape = (classifier.view_frames, classifier.front_end.size)
            self.sampler = Sampler(sgld, classifier.head.out_features, shape, caution).to(
                self.device
            )
            own = (ranks.load_own, ranks.save_own)  # each process has buffers of its own
            self.checkpointer.add_recoverable("sampler", self.sampler, *own)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Also lengthen the chains."""
        super().on_stage_start(stage, epoch)
        if stage == sb.Stage.TRAIN and self.sampler is not None:
            self.sampler.start_epoch(epoch)

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Also keep one sample of each of the first classes, or some of no class, to be looked at."""
        if stage == sb.Stage.TRAIN and self.sampler is not None:
            sb.utils.distributed.run_on_main(self._keep_samples, args=[epoch])
        super().on_stage_end(stage, stage_loss, epoch)

    def _keep_samples(self, epoch: int) -> None:
        free = self.sampler.settings.unconditional == 1  # no class was ever asked for
        path = self.folder / ("free_samples" if free else "samples") / f"{epoch:03}.npy"
        kept = self.sampler.free[:6] if free else self.sampler.classes[:6, 0]
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, kept.cpu().numpy())

    def compute_forward(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Logits (B, C); in training (B + S, C), the samples last."""
        if stage != sb.Stage.TRAIN or self.plain:
            return super().compute_forward(batch, stage)
        batch, net = batch.to(self.device), self.classifier
        views = net.random_views(net.features(batch.wavs, batch.lens))
        if self.input_noise:
            views = views + self.input_noise * torch.randn_like(views)
        if self.sampler is not None:
            views = torch.cat([views, self._samples(batch.labels)])
        return self._one_view(self.modules.classifier, views)

    def _samples(self, labels: Tensor) -> Tensor:
        """Drawn without a gradient for parameters, so that no process waits for others."""
        net = ranks.bare(self.modules.classifier)
        with ranks.frozen(net):
            return self.sampler.draw(functools.partial(self._one_view, net), labels)

    def _one_view(self, net: nn.Module, views: Tensor) -> Tensor:
        """Logits of single views (B, C), by `forward`, which alone is compiled and averaged."""
        return net(views, None).squeeze(1)

    def compute_objectives(self, logits: Tensor, batch: Batch, stage: sb.Stage) -> Tensor:
        """Eq. 4 (MVJ) or its first term (MVD); with `semi`, Eq. 8."""
        if stage != sb.Stage.TRAIN:
            return super().compute_objectives(logits, batch, stage)
        labels = batch.labels.to(self.device)
        count = len(labels)
        loss = self.training.loss(logits[:count], labels)
        if self.sampler is not None:
            loss = loss + self.generative(logits, labels)
        if self.semi is not None:
            gamma = self.semi.gamma(self.counter.current - 1)
            prior = self.log_prior if self.sampler is not None else None
            loss = (1 - gamma) * loss + gamma * entropy_loss(
                logits, count, prior, self.semi.detach_weights
            )
        return loss
