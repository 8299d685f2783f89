"""Classes cut in two by two-means, and rules that suspect a side (Chen et al. 2018)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score

STARTS = 4  # of two-means; the best is taken
REDUCTIONS = ("pca", "ica")


@dataclass(frozen=True)
class Halves:
    """Two clusters of one class.

    Arguments
    ---------
    points : np.ndarray
        (n, d) reduced activations.
    distances : np.ndarray
        (n, 2) Euclidean, to the two centres.
    """

    points: np.ndarray
    distances: np.ndarray

    @property
    def side(self) -> np.ndarray:
        """(n,) 0 or 1, the nearer centre."""
        return self.distances.argmin(1)

    @property
    def smaller(self) -> int:
        """The side with fewer utterances; of equal ones the first."""
        return int(np.bincount(self.side, minlength=2).argmin())

    @property
    def share(self) -> float:
        """Share of the utterances on the smaller side."""
        return float((self.side == self.smaller).mean())

    def suspicion(self, side: int) -> np.ndarray:
        """(n,) how near each utterance is to a side, in [0, 1]; above 0.5 it is on it."""
        return self.distances[:, 1 - side] / self.distances.sum(1)


def reduced(rows: np.ndarray, components: int, reduction: str = "pca", seed: int = 0) -> np.ndarray:
    """Activations of one class (n, D) as principal or independent components (n, components).

    Nothing is whitened by PCA, and what is no wider than `components` stays as it is. ICA works
    on the principal components, as FastICA itself does. Of fewer rows than `components` there are
    as many components as rows; ART stops there.
    """
    wide = rows.shape[1] > components
    if wide or reduction == "ica":
        rows = PCA(min(components, *rows.shape), random_state=seed).fit_transform(rows)
    if reduction == "ica":
        spread = rows.std(axis=0)
        rows = rows[:, spread > 1e-5 * spread.max()]  # whitened, the others would be noise
        ica = FastICA(whiten="unit-variance", max_iter=1000, tol=0.005, random_state=seed)
        with warnings.catch_warnings():
            # Of Gaussian rows every rotation is as independent, and will do for two-means.
            warnings.simplefilter("ignore", ConvergenceWarning)
            rows = ica.fit_transform(rows)
    return rows


def halves(
    rows: np.ndarray, components: int, reduction: str = "pca", seed: int = 0
) -> Halves | None:
    """Two-means of activations of one class (n, D), `reduced`; None where all are equal.

    Seeded: ART draws its single start anew each time, so that two runs on the same activations may
    suspect different utterances.
    """
    if (rows == rows[0]).all():
        return None
    return two_means(reduced(rows, components, reduction, seed), seed)


def two_means(points: np.ndarray, seed: int = 0) -> Halves:
    """The best of several starts on points (n, d)."""
    means = KMeans(2, n_init=STARTS, random_state=seed).fit(points).cluster_centers_
    gaps = points[:, None].astype(np.float64) - means
    return Halves(points, np.sqrt((gaps**2).sum(2)))


def smaller(halves: Halves) -> int:
    """The smaller side, of every class whether it is poisoned or not."""
    return halves.smaller


def relative_size(halves: Halves, most: float = 0.35) -> int | None:
    """The smaller side if it holds less than `most` of the class.

    ART 1.20.1 rounds shares to hundredths first, so that 34.6 % passes for 35 %; and where it
    suspects neither side of a class, its report fails on NumPy 2.
    """
    return halves.smaller if halves.share < most else None


def silhouette(halves: Halves, most: float = 0.35, least: float = 0.1) -> int | None:
    """The smaller side if it is small (`relative_size`) and the silhouette is above `least`.

    In this case ART 1.20.1 takes the small side for clean and for poison, and the large one for
    neither: its marks are uninitialised memory, and the clean part of the class is lost.
    """
    if halves.share >= most:
        return None
    return halves.smaller if silhouette_score(halves.points, halves.side) > least else None


def distance(halves: Halves, rows: np.ndarray, others: np.ndarray) -> int | None:
    """The side whose median is nearer to another class than to its own, while the other's is not.

    Distances are between activations. ART takes them between principal components, of which every
    class has its own, with its own mean as the origin: there the medians of all classes lie near 0
    and near each other. Where each side looks like a class of its own, ART removes the whole class;
    here the smaller side.

    Arguments
    ---------
    halves : Halves
        Of the class.
    rows : np.ndarray
        (n, D) its activations.
    others : np.ndarray
        (C - 1, D) medians of the other classes.
    """
    own, sides = np.median(rows, axis=0), halves.side
    middles = np.stack([np.median(rows[sides == side], axis=0) for side in (0, 1)])
    nearer = np.linalg.norm(middles[:, None] - others, axis=2)  # (2, C - 1)
    nearer = nearer < np.linalg.norm(middles - own, axis=1)[:, None]
    foreign = [bool((nearer[side] & ~nearer[1 - side]).any()) for side in (0, 1)]
    return halves.smaller if all(foreign) else foreign.index(True) if any(foreign) else None


def exre(predicted: Sequence[str] | np.ndarray, label: str) -> float:
    """Exclusionary reclassification score l / p of a cluster, infinite if p is 0.

    l counts utterances that a classifier trained without the cluster predicts as its label, p those
    that it predicts as the most frequent other class (Chen et al. 2018).
    """
    names, counts = np.unique(np.asarray(predicted), return_counts=True)
    own, other = counts[names == label].sum(), counts[names != label].max(initial=0)
    return float(own / other) if other else float("inf")
