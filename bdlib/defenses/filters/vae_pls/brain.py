"""Training of the disentangled sequential autoencoder on clips without labels."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import speechbrain as sb
import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.filters.vae_pls.autoencoder import Explained
from bdlib.defenses.filters.vae_pls.frames import repeated
from bdlib.files import atomic
from bdlib.training import log
from bdlib.training.classifier_brain import ClassifierBrain, Diverged

SHOWN = 4  # clips that are kept to be looked at
LINES = 40  # said of a training, which takes an hour where there is no GPU
TERMS = ("reconstruction", "kl_f", "kl_z")


@dataclass(frozen=True)
class EvidenceBound:
    """The negative evidence lower bound of a clip, averaged over the batch.

    ``weight * squared error + beta_f KL(f) + beta_z sum_t KL(z_t)`` (Li and Mandt 2018, with the
    unit variance of the public code, whose betas are 1).

    Arguments
    ---------
    beta_f, beta_z : float
        Of the two divergences; both 1 in the public code. What f tells costs `beta_f` a nat.
    repetition : bool
        Count each bin as often as the video form holds it, 3 times the number of mels, so that
        both forms optimise the same. Without it the divergences weigh that many times more.
    """

    beta_f: float = 1.0
    beta_z: float = 1.0
    repetition: bool = True

    def __call__(self, explained: Explained) -> tuple[Tensor, Tensor]:
        """The loss, and its `TERMS` in nats or squared error a clip (3,), detached.

        The squared error is summed over bins and frames, and over columns and colours.
        """
        features, rebuilt = explained.features, explained.rebuilt.float()
        if rebuilt.dim() > features.dim():
            copies = rebuilt.shape[2] * rebuilt.shape[4]
            error = (rebuilt - repeated(features)).square().flatten(1).sum(1)
            scale = 1.0 if self.repetition else 1.0 / copies
        else:
            error = (rebuilt - features).square().flatten(1).sum(1)
            scale = 3.0 * features.shape[2] if self.repetition else 1.0
        f, z = explained.f.divergence(), explained.z.divergence(explained.prior)
        terms = torch.stack([scale * error.mean(), f.mean(), z.mean()])
        weights = terms.new_tensor([1.0, self.beta_f, self.beta_z])
        return (weights * terms).sum(), terms.detach()


class AutoencoderBrain(ClassifierBrain):
    """`ClassifierBrain` for an autoencoder: no label is looked at, and the loss has three terms.

    `modules.classifier` is the autoencoder, and `training.loss` an `EvidenceBound`.
    """

    def compute_forward(self, batch: Batch, stage: sb.Stage) -> Explained:
        """Latents and reconstructions."""
        batch = batch.to(self.device)
        return self.modules.classifier(self.classifier.features(batch.wavs, batch.lens))

    def compute_objectives(self, explained: Explained, batch: Batch, stage: sb.Stage) -> Tensor:
        """The negative evidence bound; its terms are summed up for the log."""
        loss, terms = self.training.loss(explained)
        self.sums, self.count = self.sums + terms.double(), self.count + 1
        return loss

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Also start the sums of the terms anew."""
        super().on_stage_start(stage, epoch)
        self.sums, self.count = torch.zeros(len(TERMS), dtype=torch.float64, device=self.device), 0

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Log the epoch with its terms, and keep the best and the newest checkpoint."""
        means = (self.sums / self.count).tolist()
        terms = {name: round(mean, 4) for name, mean in zip(TERMS, means, strict=True)}
        if stage == sb.Stage.TRAIN:
            self.train_loss, self.train_terms = stage_loss, terms
            return
        if not math.isfinite(stage_loss):
            raise Diverged(f"validation loss is {stage_loss} after epoch {epoch}")
        line = self.log_line(epoch, stage_loss)
        line |= {f"train_{name}": mean for name, mean in self.train_terms.items()}
        line |= {f"valid_{name}": mean for name, mean in terms.items()}
        sb.utils.distributed.run_on_main(log.write_epoch, args=[self.folder, line])
        self.keep_checkpoint(stage_loss)
        last = self.training.number_of_epochs
        if epoch % -(-last // LINES) == 0 or epoch == last:
            print(
                f"epoch {epoch} of {last}: loss {stage_loss:.0f}, {line['seconds']} s", flush=True
            )


@torch.no_grad()
def write_examples(model: torch.nn.Module, batch: Batch, folder: str | Path, seed: int) -> None:
    """Keep spectrograms to be looked at: `rebuilt.npy` and `samples.npy`, each (n, 2 or 1, T, F).

    Arguments
    ---------
    model : torch.nn.Module
        A trained `SequentialAutoencoder`.
    batch : Batch
        The first clips are rebuilt: original above, reconstruction below.
    folder : str | Path
        Where to.
    seed : int
        Draws the latents of the samples from their priors.
    """
    model.eval()
    batch = batch.to(next(model.parameters()).device)
    features = model.features(batch.wavs[:SHOWN], batch.lens[:SHOWN])
    explained = model(features)
    torch.manual_seed(seed)
    f = torch.randn_like(explained.f.mean)
    model.train()
    _, z = model.prior(explained.z.mean)
    model.eval()
    drawn = {
        "rebuilt": torch.stack([features, flat(explained.rebuilt)], 1),
        "samples": flat(model.decode(f, z))[:, None],
    }
    for name, spectrograms in drawn.items():
        with atomic(Path(folder) / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, spectrograms.float().cpu().numpy())


def flat(rebuilt: Tensor) -> Tensor:
    """Spectrograms (B, T, F) of either form; of the video form the mean over columns and colours."""
    return rebuilt.mean((2, 4)) if rebuilt.dim() > 3 else rebuilt
