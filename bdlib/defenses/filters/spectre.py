"""SPECTRE: outliers after whitening by a robust covariance (Hayase et al. 2021)."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm
from scipy.stats import rankdata
from sklearn.decomposition import PCA

from bdlib.defenses.activations import LAYERS, activations, by_class
from bdlib.defenses.base import BlindView, FilterDefense
from bdlib.defenses.checks import one_of
from bdlib.errors import InputError
from bdlib.files import seed_of

ALPHA = 4.0  # of the quantum entropy score
WIDEST = 100  # components; and ten utterances for each at least
CANDIDATES = 10  # numbers of components that are tried
BOUND = 5.0  # C of the stopping rule
POWER_STEPS = 15  # towards the direction of the filter
ROUNDS = 10  # in which the filter spends what it may remove


def inverse_root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric inverse square root of a covariance (k, k); a direction without spread stays 0."""
    values, vectors = np.linalg.eigh(covariance)
    usable = values > 1e-10 * values[-1]
    return (vectors[:, usable] / np.sqrt(values[usable])) @ vectors[:, usable].T


def robust_covariance(points: np.ndarray, poison: float, seed: int = 0) -> np.ndarray:
    """Covariance (k, k) of centred points (n, k), of which a share is corrupt.

    The filter of Diakonikolas et al. 2017 ("Being robust in high dimensions can be practical"): for
    whitened points y find the polynomial p(y) = (y'Vy - tr V) / sqrt 2, V of Frobenius norm 1, of
    highest mean square, which is 1 for a Gaussian. If it is at most 1 + C e log(1/e)^2 the covariance
    is taken; else points with p far from its median go, and all starts again. Two simplifications:
    V comes from some power steps, and in place of a bound on the tail of p, a tenth of what may go
    at all, 1.5 e n points but no more than a half, goes in each round.

    Arguments
    ---------
    points : np.ndarray
        (n, k).
    poison : float
        e, the share, in (0, 1).
    seed : int
        Of the first V.
    """
    limit = 1 + BOUND * poison * math.log(1 / poison) ** 2
    a_round = math.ceil(min(1.5 * poison, 0.5) * len(points) / ROUNDS)
    width = points.shape[1]
    start = np.random.Generator(np.random.PCG64(seed)).standard_normal((width, width))
    for _ in range(ROUNDS):
        white = points @ inverse_root(points.T @ points / len(points))
        direction = start + start.T
        for _ in range(POWER_STEPS):
            direction /= np.linalg.norm(direction)
            value = ((white @ direction) * white).sum(1) - np.trace(direction)
            direction = white.T @ (value[:, None] * white) / len(white)
        if np.mean(value**2) / 2 <= limit:
            break
        points = points[np.argsort(np.abs(value - np.median(value)), kind="stable")[:-a_round]]
    return points.T @ points / len(points)


def quantum_scores(white: np.ndarray) -> tuple[np.ndarray, float]:
    """Quantum entropy (QUE) scores y'Qy / tr Q of whitened points (n, k), and their mean.

    Q = exp(alpha (S - I) / (|S| - 1)) with S their covariance and |S| its largest eigenvalue
    (Dong et al. 2019). Points that are truly white have Q = I: no direction stands out.
    """
    covariance = white.T @ white / len(white)
    largest = np.linalg.eigvalsh(covariance)[-1]
    weight = np.eye(len(covariance))
    if largest > 1 + 1e-9:
        weight = expm(ALPHA * (covariance - weight) / (largest - 1))
    scores = ((white @ weight) * white).sum(1) / np.trace(weight)
    return scores, float(scores.mean())


def spectre(rows: np.ndarray, poison: float, seed: int = 0) -> tuple[np.ndarray, float]:
    """Scores (n,) of one class, and how strongly it looks poisoned.

    For several numbers of principal components k: robust covariance, whitening, QUE scores. Each k
    is judged by what its removal of the 1.5 e n highest reveals: all points, in the most components,
    are whitened by the covariance of those that were left, and their mean QUE score is taken. The k
    with the highest one gives the scores.

    Arguments
    ---------
    rows : np.ndarray
        (n, D) activations.
    poison : float
        e, the share of the class that an attacker may hold, in (0, 1).
    seed : int
        Of the filter.

    Returns
    -------
    tuple[np.ndarray, float]
        The scores, and the highest mean.
    """
    if (rows == rows[0]).all():
        return np.zeros(len(rows)), 0.0
    widest = min(WIDEST, rows.shape[1], len(rows) // 10)
    points = PCA(widest, random_state=seed).fit_transform(rows.astype(np.float64))
    left = len(rows) - math.floor(min(1.5 * poison, 0.5) * len(rows))
    best = np.zeros(len(rows)), -math.inf
    for k in sorted({round(root**2) for root in np.linspace(1, math.sqrt(widest), CANDIDATES)}):
        some = points[:, :k]
        scores, _ = quantum_scores(some @ inverse_root(robust_covariance(some, poison, seed)))
        rest = points[np.argsort(scores, kind="stable")[:left]]
        rest = rest - rest.mean(0)
        _, revealed = quantum_scores(points @ inverse_root(rest.T @ rest / len(rest)))
        best = max(best, (scores, revealed), key=lambda pair: pair[1])
    return best


@dataclass
class Spectre(FilterDefense):
    """Removes the most outlying share of the class that looks most poisoned.

    It is told how much poison to expect and always removes 1.5 times that share of one class, the
    one with the highest mean score: that is its false-positive rate on clean data, of one class,
    and of no other. With much more than the true share, whitening without the most outlying part of
    a clean class makes that class look poisoned, too. Classes of fewer than 30 utterances are left
    as they are. Beyond the simplifications of `robust_covariance`, at most a tenth as many components as utterances are
    tried, where the authors try 100 on classes of 5000.

    Arguments
    ---------
    layer : str
        `penultimate`, `logits` or `softmax`.
    expected_poison : float
        e, the share of the target class; above 0 and below 2/3.

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    layer: str = "penultimate"
    expected_poison: float = 0.2

    def __post_init__(self) -> None:
        one_of("layer", self.layer, LAYERS)
        if not 0 < self.expected_poison < 2 / 3:
            raise InputError(
                f"`expected_poison` is {self.expected_poison}: give more than 0, below 2/3"
            )

    def suspicion(
        self, activations: np.ndarray, labels: Sequence[str] | np.ndarray, seed: int = 0
    ) -> np.ndarray:
        """Rank (N,) of the score in the class that looks most poisoned, 1 the most; 0 in others.

        Arguments
        ---------
        activations : np.ndarray
            (N, D), of any model.
        labels : Sequence[str] | np.ndarray
            (N,).
        seed : int
            Of the filter of the covariance.

        Raises
        ------
        InputError
            See `by_class`.
        """
        classes = by_class(activations, labels)
        judged = {
            label: spectre(
                activations[rows],
                self.expected_poison,
                seed_of("spectre", seed, label) % 2**32,
            )
            for label, rows in classes.items()
        }
        target = max(judged, key=lambda label: judged[label][1])
        ranks = np.zeros(len(activations))
        scores = judged[target][0]
        ranks[classes[target]] = (rankdata(scores, "min") - 1) / len(scores)
        return ranks

    def scores(self, view: BlindView) -> dict[str, float]:
        """See `suspicion`, by the classifier that was trained on all."""
        outputs = activations(view.train(view.rows), view.batches(view.rows), self.layer)
        ranks = self.suspicion(outputs, view.rows["label"], view.seed)
        return dict(zip(view.rows["ID"], ranks.tolist(), strict=True))

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """Those below the quantile."""
        return [name for name, rank in scores.items() if rank < 1 - 1.5 * self.expected_poison]
