"""A small net for filters that train one of their own, and how far a clip is from clean ones."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from bdlib.corpus import Batch
from bdlib.defenses.base import BlindView, FilterDefense
from bdlib.defenses.checks import counts, share
from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.files import seed_of
from bdlib.models.keyword import SmallResNet

Epochs = Callable[[int], Iterable[Batch]]
"""Number of an epoch to its batches."""


def shuffled(view: BlindView, rows: np.ndarray, seed: int) -> Epochs:
    """Some rows of a view (n,) in another order each epoch."""

    def batches(epoch: int) -> Iterable[Batch]:
        generator = np.random.Generator(np.random.PCG64(seed_of(seed, epoch)))
        return view.batches(view.rows.iloc[generator.permutation(rows)].reset_index(drop=True))

    return batches


def fitted(
    outputs: int,
    batches: Epochs,
    loss: Callable[[SmallResNet, Batch], Tensor],
    epochs: int,
    lr: float,
    seed: int,
    told: str,
    quiet: bool = False,
) -> SmallResNet:
    """Train a small residual net; it goes where the batches are.

    Arguments
    ---------
    outputs : int
        Width of its last layer.
    batches : Epochs
        To train on.
    loss : Callable[[SmallResNet, Batch], Tensor]
        The net and a batch to a scalar.
    epochs : int
        Passes over them; the rate falls to 0 by a cosine.
    lr : float
        Of Adam at the start.
    seed : int
        Of the weights.
    told : str
        Beside the progress bar.
    quiet : bool
        No progress bar.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SmallResNet(NormalizedFbank(40), outputs, (16, 32, 64), blocks=1)
    net.to(next(iter(batches(0))).wavs.device)
    net.fit_front_end(batches(0))
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in tqdm(range(epochs), desc=told, leave=False, disable=quiet or None):
        for batch in batches(epoch):
            optimizer.zero_grad(set_to_none=True)
            loss(net, batch).backward()
            optimizer.step()
        schedule.step()
    return net.eval()


def cross_entropy(net: SmallResNet, batch: Batch) -> Tensor:
    """The loss of a classifier."""
    return nn.functional.cross_entropy(net(batch.wavs, batch.lens), batch.labels)


@torch.no_grad()
def beliefs(net: SmallResNet, batches: Iterable[Batch]) -> np.ndarray:
    """Probability that the net gives to the label of each clip, (N,)."""
    found = []
    for batch in batches:
        shares = net(batch.wavs, batch.lens).float().softmax(1)
        found.append(shares.gather(1, batch.labels[:, None])[:, 0].cpu())
    return torch.cat(found).numpy()


def p_values(far: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Share of clean clips (M,) that are as far as each clip (N,), which counts as one of them.

    A conformal p-value: of clips like the clean ones, a share of p at most has one of p or less.
    """
    usual = np.sort(clean)
    as_far = len(usual) - np.searchsorted(usual, far - 1e-9)
    return (as_far + 1) / (len(usual) + 1)


@dataclass
class PValueFilter(FilterDefense):
    """Removes clips that are further from what is usual than clean validation clips are.

    The suspicion is one minus a p-value (`p_values`): on clean data a share of `false_positive_rate`
    is removed, and of validation clips fewer than 1 / `false_positive_rate` nothing can be.

    Arguments
    ---------
    epochs : int
        Of the net.
    net_lr : float
        Its rate.
    false_positive_rate : float
        See above.

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    epochs: int = 20
    net_lr: float = 0.002
    false_positive_rate: float = 0.05

    selection = "validation"

    def __post_init__(self) -> None:
        share("false_positive_rate", self.false_positive_rate)
        counts("epochs", self.epochs)
        if not 0 < self.net_lr < 1:
            raise InputError(f"`net_lr` is {self.net_lr}: give a number between 0 and 1")

    def keep(self, scores: dict[str, float]) -> list[str]:
        """Those with a p-value above `false_positive_rate`."""
        least = self.false_positive_rate + 1e-9  # one minus a p-value, and back, has lost digits
        return [name for name, suspicion in scores.items() if 1 - suspicion > least]
