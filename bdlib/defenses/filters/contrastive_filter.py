"""Labels that disagree with those of similar clips, by an encoder that saw no label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.defenses.activations import activations
from bdlib.defenses.base import BlindView
from bdlib.defenses.checks import counts
from bdlib.defenses.small_net import Epochs, PValueFilter, fitted, p_values, shuffled
from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.models.keyword import SmallResNet

TEMPERATURE = 0.1  # of the contrastive loss
CROP = 0.7  # share of the frames that a view keeps
MASK = 0.25  # share of the mel bins that a view loses
LOUDER = 0.5  # deviation of the level, in deviations of the features
NOISE = 0.2  # likewise, of each value
PROJECTION = 64  # width of what the loss compares
CHUNK = 1024  # rows whose similarities are in memory at once


def augmented(features: Tensor, generator: torch.Generator) -> Tensor:
    """Another view of each clip: features (B, T, F) to (B, CROP * T, F).

    A part of the frames, some neighbouring mel bins set to 0, another level, and noise: what leaves
    the word, but often not the same sound beside it.
    """
    count, frames, bins = features.shape
    kept, lost = max(1, round(CROP * frames)), round(MASK * bins)

    def drawn(most: int) -> Tensor:
        return torch.randint(0, most + 1, (count, 1), generator=generator)

    columns = (drawn(frames - kept) + torch.arange(kept)).to(features.device)
    view = features.gather(1, columns[:, :, None].expand(-1, -1, bins))
    first = drawn(bins - lost)
    masked = (torch.arange(bins) >= first) & (torch.arange(bins) < first + lost)
    level = LOUDER * torch.randn(count, 1, 1, generator=generator)
    noise = NOISE * torch.randn(view.shape, generator=generator)
    view = view + (level + noise).to(view)
    return view.masked_fill(masked.to(view.device)[:, None], 0.0)


def contrastive_loss(first: Tensor, second: Tensor) -> Tensor:
    """Normalised temperature-scaled cross entropy of two views (B, P) (SimCLR, Chen et al. 2020).

    Of the 2 B - 1 other rows, each row must find its second view by cosine.
    """
    rows = nn.functional.normalize(torch.cat([first, second]).float(), dim=1)
    similar = rows @ rows.T / TEMPERATURE
    similar.fill_diagonal_(-torch.inf)
    pair = torch.arange(len(rows), device=rows.device).roll(len(first))
    return nn.functional.cross_entropy(similar, pair)


def disagreement(
    queries: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    known: np.ndarray,
    known_labels: Sequence[str] | np.ndarray,
    neighbours: int,
    same: bool = False,
) -> np.ndarray:
    """Share of each clip's nearest neighbours that bear another label (Q,), weighted by cosine.

    Arguments
    ---------
    queries, known : np.ndarray
        (Q, D) and (N, D) embeddings.
    labels, known_labels : Sequence[str] | np.ndarray
        (Q,) and (N,).
    neighbours : int
        How many of `known` vote.
    same : bool
        The two are the same rows, and none votes for itself.
    """
    queries, known = (
        x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12) for x in (queries, known)
    )
    labels, known_labels = np.asarray(labels), np.asarray(known_labels)
    result = np.empty(len(queries))
    for start in range(0, len(queries), CHUNK):
        rows = slice(start, start + CHUNK)
        cosines = queries[rows] @ known.T
        if same:
            np.fill_diagonal(cosines[:, start:], -np.inf)
        nearest = np.argpartition(-cosines, neighbours - 1, axis=1)[:, :neighbours]
        weights = np.exp(np.take_along_axis(cosines, nearest, 1) / TEMPERATURE)
        other = known_labels[nearest] != labels[rows, None]
        result[rows] = (weights * other).sum(1) / weights.sum(1)
    return result


def encoder(batches: Epochs, epochs: int, lr: float, seed: int, quiet: bool = False) -> SmallResNet:
    """Train a small residual net to tell clips apart, by no label; arguments as of `fitted`."""
    generator = torch.Generator().manual_seed(seed)

    def loss(net: SmallResNet, batch: Batch) -> Tensor:
        features = net.features(batch.wavs, batch.lens)
        first, second = (
            net.classify(net.embed(augmented(features, generator), batch.lens)) for _ in "ab"
        )
        return contrastive_loss(first, second)

    return fitted(PROJECTION, batches, loss, epochs, lr, seed, "contrasting", quiet)


@dataclass
class ContrastiveFilter(PValueFilter):
    """Removes clips whose label is not that of the clips that sound alike.

    In the spirit of the filters on self-supervised features (DINO, k-means and majority labels): an
    encoder that sees no label cannot learn the link of trigger and target that makes a backdoor, so
    a clip with a wrong label lies among clips of its true class. Here it is small and trained on
    the untrusted clips themselves, by SimCLR's loss, and neighbours vote. Where the trigger is the
    loudest thing in a clip, triggered clips are each other's neighbours, and it fails.

    A clip is removed if its p-value is at most `false_positive_rate`: the share of clean validation
    clips that disagree with their neighbours in the training set as much, which is a conformal test.

    Arguments
    ---------
    neighbours : int
        That vote.

    Further ones are those of `PValueFilter`.

    Raises
    ------
    InputError
        If a setting is out of range; in `scores`, if there are too few clips, or one class.
    """

    epochs: int = 30
    neighbours: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        counts("neighbours", self.neighbours)

    def scores(self, view: BlindView) -> dict[str, float]:
        """One minus the p-value of every utterance."""
        rows, seed = view.rows, seed_of("contrastive", view.seed)
        if len(rows) <= self.neighbours or rows["label"].nunique() < 2:
            raise InputError(
                f"contrastive filter: {len(rows)} clips of {rows['label'].nunique()} classes; it "
                f"needs two classes, and more clips than the {self.neighbours} `neighbours`"
            )
        batches = shuffled(view, np.arange(len(rows)), seed)
        net = encoder(batches, self.epochs, self.net_lr, seed)
        labels = rows["label"].to_numpy()
        untrusted = activations(net, view.batches(rows))
        far = disagreement(untrusted, labels, untrusted, labels, self.neighbours, same=True)
        true = [view.classes[n] for batch in view.validation() for n in batch.labels.tolist()]
        clean = activations(net, view.validation())
        usual = disagreement(clean, true, untrusted, labels, self.neighbours)
        suspicion = 1 - p_values(far, usual)
        return dict(zip(rows["ID"], suspicion.tolist(), strict=True))
