"""The judge of a class: is it two populations, who is in which, and which of them is the poison?

Plain functions on latent vectors and labels, of whatever model. Mehlman et al., "Detecting Poisoning
Attacks against Speech Datasets using Variational Autoencoders", sections 3.1 and 3.2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from bdlib.defenses.filters.vae_pls.normal import Normal
from bdlib.errors import InputError
from bdlib.files import seed_of

LEAST_CLIPS = 30  # of a class that is judged; of fewer, two covariances say nothing
LEAST_CLASSES = 3  # that a class is compared with and among
FEW = 10  # points a dimension, of fewer the robust score shrinks the covariance
CLEARLY_SMALL = 0.35  # share below which a cluster is an intruder (ART's rule of relative size)


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a class.

    Arguments
    ---------
    score : float
        Poison likelihood score, or what a search takes in its place; higher is more suspicious.
    soft : np.ndarray
        (n,) in [0, 1]: share of the runs in which a clip was in the second cluster.
    shrunk : float
        Share of the Gaussians behind the score that a covariance as it was did not give.
    """

    score: float
    soft: np.ndarray
    shrunk: float = 0.0

    @property
    def second(self) -> np.ndarray:
        """(n,) bool: who is in the second cluster."""
        return self.soft > 0.5


Judge = Callable[[np.ndarray, np.ndarray, int], Verdict]
"""Latents of a class (n, D), those of the other classes less their class means (m, D), a seed."""


def poison_likelihood(
    inside: np.ndarray,
    others: np.ndarray | None = None,
    seed: int = 0,
    components: int = 24,
    runs: int = 10,
    whiten: bool = True,
    robust: bool = False,
) -> Verdict:
    """Score one class, and split it in two (Eq. 1 and section 3.2).

    Arguments
    ---------
    inside : np.ndarray
        (n, D) latents of the clips with this label.
    others : np.ndarray | None
        Not looked at; see `Judge`.
    seed : int
        Draws the starts of two-means.
    components : int
        Of the principal components that are kept (24).
    runs : int
        Of two-means (10). The score is their mean; the labels are averaged once they are aligned.
    whiten : bool
        Give all components one variance, as the paper does. Any cut through a class white in 24
        directions leaves nearly the same inertia, so that two-means then hardly sees a population
        that stands off along one of them.
    robust : bool
        Not the paper's: the median of the runs, as a mean is ruled by the run whose one cluster is
        a handful of odd clips, and covariances of fewer than `FEW` clips a dimension shrunk.
        Without it Eq. 1 is computed as printed, and a covariance shrunk only if it is singular.
    """
    points = principal(inside, components, whiten)
    labels = two_means(points, runs, seed)
    fits = [cross_likelihood(points, second, FEW if robust else 0) for second in labels]
    scores, shrunk = np.transpose(fits)
    score = np.median(scores) if robust else scores.mean()
    return Verdict(float(score), aligned(labels), float(shrunk.mean()))


def principal(latents: np.ndarray, components: int, whiten: bool = True) -> np.ndarray:
    """Standardised, then rotated to the first principal components: (n, k), centred.

    k is `components`, or less where the latents have fewer dimensions that vary. Whitening, to unit
    variance, comes last: principal components of data white in every dimension would be arbitrary.
    """
    latents = np.asarray(latents, dtype=np.float64)
    spread = latents.std(0)
    varies = spread > 1e-12 * max(spread.max(initial=0.0), 1e-300)
    if not varies.any():
        raise InputError("the latents of a class are all the same; train the encoder longer")
    standard = (latents[:, varies] - latents[:, varies].mean(0)) / spread[varies]
    most = min(components, *standard.shape, len(standard) - 1)
    pca = PCA(most, svd_solver="full").fit(standard)
    kept = int((pca.singular_values_ > 1e-9 * pca.singular_values_[0]).sum())
    rotated = (standard - pca.mean_) @ pca.components_[:kept].T
    return rotated / np.sqrt(pca.explained_variance_[:kept]) if whiten else rotated


def two_means(points: np.ndarray, runs: int, seed: int) -> np.ndarray:
    """(runs, n) bool: who is in the second cluster, each run from a start of its own."""
    return np.array(
        [
            KMeans(2, n_init=1, random_state=seed_of("two-means", seed, run) % 2**32)
            .fit_predict(points)
            .astype(bool)
            for run in range(runs)
        ]
    )


def cross_likelihood(
    points: np.ndarray, second: np.ndarray, enough: float = 0.0
) -> tuple[float, float]:
    """Eq. 1: how badly a Gaussian of either cluster explains the other, in nats a clip.

    The mean over both directions of the mean negative log-likelihood. Infinite separation of the
    clusters makes it large; two halves of one Gaussian leave it small.

    Arguments
    ---------
    points : np.ndarray
        (n, k) components of a class.
    second : np.ndarray
        (n,) bool, the clusters.
    enough : float
        See `Normal.of`.

    Returns
    -------
    tuple[float, float]
        The score, and the share of the Gaussians that were shrunk.
    """
    parts = [points[~second], points[second]]
    if not len(parts[0]) or not len(parts[1]):
        parts = [points, points]
    spread = points.var(0)
    normals = [Normal.of(part, enough, spread) for part in parts]
    score = sum(n.surprise(part) for n, part in zip(normals, parts[::-1], strict=True)) / 2
    return score, sum(normal.shrunk for normal in normals) / 2


def aligned(labels: np.ndarray) -> np.ndarray:
    """Soft labels (n,): labelings (runs, n), each flipped to agree most with the first, averaged."""
    flip = (labels != labels[0]).mean(1) > 0.5
    return (labels ^ flip[:, None]).mean(0)


def judge_all(
    latents: np.ndarray,
    labels: Sequence[str],
    seed: int = 0,
    left_out: Sequence[str] = (),
    judge: Judge = poison_likelihood,
) -> dict[str, Verdict]:
    """Judge every class of at least `LEAST_CLIPS` clips that is not left out.

    Arguments
    ---------
    latents : np.ndarray
        (n, D), finite.
    labels : Sequence[str]
        (n,) labels as given.
    seed : int
        See `poison_likelihood`.
    left_out : Sequence[str]
        Classes not to be judged, such as noise among words.
    judge : Judge
        How a class is judged.

    Returns
    -------
    dict[str, Verdict]
        By class, sorted.

    Raises
    ------
    InputError
        If a latent is not finite, or fewer than `LEAST_CLASSES` classes can be judged.
    """
    latents, labels = np.asarray(latents), np.asarray(labels)
    bad = ~np.isfinite(latents).all(1)
    if bad.any():
        raise InputError(
            f"{bad.sum()} of {len(bad)} latents are not finite; train the encoder again with a "
            "lower learning rate"
        )
    names, counts = np.unique(labels, return_counts=True)
    large = [
        str(name)
        for name, count in zip(names, counts, strict=True)
        if count >= LEAST_CLIPS and name not in left_out
    ]
    if len(large) < LEAST_CLASSES:
        raise InputError(
            f"{len(large)} classes with at least {LEAST_CLIPS} clips to compare; poisoned ones are "
            f"told by the others, so give at least {LEAST_CLASSES}"
        )
    centred = np.array(latents, dtype=np.float64)
    for name in large:
        centred[labels == name] -= centred[labels == name].mean(0)
    compared = np.isin(labels, large)
    return {
        name: judge(latents[labels == name], centred[compared & (labels != name)], seed)
        for name in large
    }


def smaller(second: np.ndarray) -> np.ndarray:
    """(n,) bool: the members of the smaller cluster, the second one where they are equal."""
    return second if second.sum() * 2 <= len(second) else ~second


def stranger(inside: np.ndarray, second: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) bool: the members of the cluster that the other classes explain worse.

    The paper listens to both clusters. This listens in its place: no other class has the trigger.

    Arguments
    ---------
    inside : np.ndarray
        (n, D) latents of a class.
    second : np.ndarray
        (n,) bool, its clusters.
    others : np.ndarray
        (m, D) latents of all other clips.
    """
    scale = others.std(0) + 1e-12
    inside, others = inside / scale, others / scale
    if not second.any() or second.all():
        return smaller(second)
    usual = Normal.of(others, FEW)
    return second if usual.surprise(inside[second]) > usual.surprise(inside[~second]) else ~second


def small_or_strange(inside: np.ndarray, second: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) bool: the `smaller` cluster if it is below `CLEARLY_SMALL`, else the `stranger`.

    Arguments as in `stranger`.
    """
    small = smaller(second)
    return small if small.mean() < CLEARLY_SMALL else stranger(inside, second, others)
