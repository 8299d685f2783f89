"""Spectral signatures: outliers along the first singular vector of each class (Tran et al. 2018)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import ArpackError, svds
from scipy.stats import rankdata

from bdlib.defenses.activations import LAYERS, activations, by_class
from bdlib.defenses.base import BlindView, FilterDefense
from bdlib.defenses.checks import one_of, share
from bdlib.errors import InputError
from bdlib.files import seed_of


def outlierness(rows: np.ndarray, centered: bool = True, seed: int = 0) -> np.ndarray:
    """How far each row of one class lies out along the first right singular vector v, (n,).

    v is that of the centred rows. The score is the absolute value of the projection, which ranks
    as its square does (Tran et al. 2018, Algorithm 1).

    Arguments
    ---------
    rows : np.ndarray
        (n, D) activations of one class.
    centered : bool
        Project the centred rows, as the paper does. False projects the rows as they are: ART
        1.20.1 does so, and by that mixes in how large an activation is.
    seed : int
        Of the start of the Lanczos iteration, which ends at machine precision from any start.
    """
    middle = rows - rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
    if min(rows.shape) < 2 or not middle.any():
        return np.zeros(len(rows))
    start = np.random.Generator(np.random.PCG64(seed)).standard_normal(min(rows.shape))
    try:
        _, _, vectors = svds(middle, k=1, v0=start.astype(rows.dtype), return_singular_vectors="vh")
    except ArpackError:  # no direction stands out enough to be found within its iterations
        _, _, vectors = np.linalg.svd(middle, full_matrices=False)
    return np.abs((middle if centered else rows) @ vectors[0]).astype(np.float64)


def spectral_ranks(
    activations: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    centered: bool = True,
    seed: int = 0,
) -> np.ndarray:
    """Rank of each utterance's `outlierness` in its class, (N,): 0 the least, 1 the most.

    Equal scores share the lowest of their ranks, so a class of equal activations has rank 0
    throughout and loses nothing; ART removes all of it. Classes that are too small have rank 0.

    Arguments
    ---------
    activations : np.ndarray
        (N, D).
    labels : Sequence[str] | np.ndarray
        (N,).
    centered, seed : bool, int
        See `outlierness`.

    Raises
    ------
    InputError
        See `by_class`.
    """
    ranks = np.zeros(len(activations))
    for label, rows in by_class(activations, labels).items():
        start = seed_of("spectral signatures", seed, label)
        scores = outlierness(activations[rows], centered, start)
        ranks[rows] = (rankdata(scores, "min") - 1) / (len(rows) - 1)
    return ranks


@dataclass
class SpectralSignatures(FilterDefense):
    """Removes the most outlying share of every class.

    It has no decision rule: the share is removed whether a class is poisoned or not, so its
    false-positive rate on clean data is that share, `expected_poison` times `multiplier`. With the
    defaults, which are ART's, that is 49.5 %. ART keeps what lies below a quantile, and so removes
    the most outlying utterance of each class even where no poison is expected; here a share of 0
    removes nothing. Classes of fewer than 30 utterances are left as they are.

    Arguments
    ---------
    layer : str
        `penultimate`, `logits` or `softmax`.
    centered : bool
        See `outlierness`; False is ART.
    expected_poison : float
        epsilon, the share of a class that an attacker may hold: 0.33 in ART, 0.3 in Armory.
    multiplier : float
        Of `expected_poison`, 1.5 in the paper.

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    layer: str = "penultimate"
    centered: bool = True
    expected_poison: float = 0.33
    multiplier: float = 1.5

    def __post_init__(self) -> None:
        one_of("layer", self.layer, LAYERS)
        share("expected_poison", self.expected_poison)
        if not 0 <= self.multiplier * self.expected_poison < 1:
            raise InputError(
                f"`multiplier` is {self.multiplier}: removes {self.multiplier:g} times "
                f"{self.expected_poison:g} of every class; give less, and not below 0"
            )

    def scores(self, view: BlindView) -> dict[str, float]:
        """`spectral_ranks` by the classifier that was trained on all."""
        outputs = activations(view.train(view.rows), view.batches(view.rows), self.layer)
        ranks = spectral_ranks(outputs, view.rows["label"], self.centered, view.seed)
        return dict(zip(view.rows["ID"], ranks.tolist(), strict=True))

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """Those below the quantile; all, if the share to remove is 0."""
        removed = self.multiplier * self.expected_poison
        return [name for name, rank in scores.items() if not removed or rank < 1 - removed]
