"""Three opinions on where a clip belongs: its neighbours', a linear classifier's, and one Gaussian a class's.

None is trained on the clip that it judges. `bdlib.defenses.disagreement` decides by their mean.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from bdlib.errors import InputError
from bdlib.files import seed_of

NEIGHBOURS = 10
FOLDS = 5
STRENGTH = 0.02  # C of the logistic regression: strong, for as many values as clips of a class
MOST = 20_000  # clips that the logistic regression learns from: more do not change 200 weights
CELLS = 2**24  # similarities in memory at once


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of rows that have `CELLS` values of `width` together, or one row."""
    step = max(1, CELLS // max(1, width))
    yield from (slice(start, start + step) for start in range(0, rows, step))


def nearest(
    queries: np.ndarray, known: np.ndarray, neighbours: int, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `known` with the highest cosines, exactly, and these; both (Q, neighbours).

    Arguments
    ---------
    queries, known : np.ndarray
        (Q, D) and (N, D) float32, of unit length.
    neighbours : int
        At most N, or N - 1 with `own`.
    own : np.ndarray | None
        (Q,) row of `known` that a query is itself, which is left out; -1 for none.
    """
    places = np.empty((len(queries), neighbours), np.int64)
    cosines = np.empty((len(queries), neighbours), np.float32)
    table = torch.from_numpy(np.ascontiguousarray(known.T))
    for part in blocks(len(queries), len(known)):
        near = torch.from_numpy(queries[part]) @ table
        if own is not None:
            rows = np.flatnonzero(own[part] >= 0)
            near[rows, own[part][rows]] = -2.0
        values, found = near.topk(neighbours, dim=1)
        places[part], cosines[part] = found.numpy(), values.numpy()
    return places, cosines


Neighbours = tuple[np.ndarray, np.ndarray]
"""Places and cosines of the `NEIGHBOURS` nearest others of each clip, both (N, NEIGHBOURS)."""


def neighbours(embeddings: np.ndarray) -> Neighbours:
    """Of all clips (N, D) of unit length, which costs the square of N: to be looked for once."""
    count = min(NEIGHBOURS, len(embeddings) - 1)
    return nearest(embeddings, embeddings, count, np.arange(len(embeddings)))


def votes(
    embeddings: np.ndarray, given: np.ndarray, classes: int, kept: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Share of each class among the nearest kept clips, weighted by cosine; (len(rows), classes)."""
    known = np.flatnonzero(kept)
    own = np.full(len(given), -1)
    own[known] = np.arange(len(known))
    count = min(NEIGHBOURS, len(known) - 1)
    places, cosines = nearest(embeddings[rows], embeddings[known], count, own[rows])
    return counted(given[known[places]], cosines, classes)


def counted(labels: np.ndarray, cosines: np.ndarray, classes: int) -> np.ndarray:
    """Share (Q, classes) of each class among labels (Q, K) with these weights (Q, K)."""
    weights = torch.from_numpy(cosines.clip(1e-6)).double()
    shares = torch.zeros(len(labels), classes, dtype=torch.float64)
    shares.scatter_add_(1, torch.from_numpy(labels), weights)
    return (shares / shares.sum(1, keepdim=True)).numpy()


def out_of_fold(
    embeddings: np.ndarray,
    given: np.ndarray,
    classes: int,
    kept: np.ndarray,
    rows: np.ndarray,
    seed: int = 0,
) -> np.ndarray:
    """Probabilities (len(rows), classes) by logistic regressions that did not learn from the row.

    Arguments
    ---------
    embeddings : np.ndarray
        (N, D) with mean 0 and deviation 1 in each column.
    given : np.ndarray
        (N,) class numbers.
    classes : int
        How many there are.
    kept : np.ndarray
        (N,) whether a clip may be learned from.
    rows : np.ndarray
        The clips asked about.
    seed : int
        Draws the folds, each class in equal parts.
    """
    generator = np.random.Generator(np.random.PCG64(seed_of("folds", seed)))
    order = generator.permutation(len(given))
    fold = np.empty(len(given), np.int64)
    fold[order[np.argsort(given[order], kind="stable")]] = np.arange(len(given)) % FOLDS
    shares = np.zeros((len(rows), classes))
    for number in range(FOLDS):
        learned = order[(kept & (fold != number))[order]][:MOST]
        asked = fold[rows] == number
        if (given[learned] == given[learned[0]]).all():  # nothing to learn from one class
            shares[asked, given[learned[0]]] = 1.0
            continue
        model = LogisticRegression(C=STRENGTH, max_iter=100, tol=1e-3)
        with threadpool_limits(torch.get_num_threads()):
            model.fit(embeddings[learned], given[learned])
        if asked.any():
            answer = model.predict_proba(embeddings[rows[asked]])
            shares[np.ix_(asked, model.classes_)] = answer
    return shares


def distances(
    embeddings: np.ndarray, given: np.ndarray, classes: int, kept: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Squared Mahalanobis distances (len(rows), classes) to the means of kept clips.

    One covariance for all classes (Ledoit and Wolf 2004). A kept clip is left out of its own mean,
    which makes its distance larger by (n / (n - 1)) squared.
    """
    counts = np.bincount(given[kept], minlength=classes)
    known = np.flatnonzero(kept)
    sums = torch.zeros(classes, embeddings.shape[1], dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(given[known]), torch.from_numpy(embeddings[known]).double())
    middles = sums.numpy() / np.maximum(counts, 1)[:, None]
    some = known[:: -(-len(known) // MOST)]
    covariance, _ = ledoit_wolf(embeddings[some] - middles[given[some]], assume_centered=True)
    try:
        whiten = np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)
    except np.linalg.LinAlgError:
        raise InputError(
            "the clips of each class sound all the same, so there is nothing to compare; "
            "give a corpus of different clips"
        ) from None
    points, centres = embeddings[rows] @ whiten, middles @ whiten
    result = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)
    own = np.flatnonzero(kept[rows] & (counts[given[rows]] > 1))
    number = counts[given[rows[own]]]
    result[own, given[rows[own]]] *= (number / (number - 1)) ** 2
    result[:, counts == 0] = np.inf
    return result


def margin(fit: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Fit of the best other class minus that of the given one; (N,) of (N, classes) and (N,)."""
    lines = np.arange(len(given))
    others = fit.copy()
    others[lines, given] = -np.inf
    return others.max(1) - fit[lines, given]


@dataclass(frozen=True)
class Opinions:
    """The three opinions on a corpus.

    Arguments
    ---------
    embeddings : np.ndarray
        (N, D) float32.
    given : np.ndarray
        (N,) class numbers.
    classes : int
        How many there are.
    seed : int
        Of the folds.
    near : Neighbours | None
        Of all clips, where they are known.
    """

    embeddings: np.ndarray
    given: np.ndarray
    classes: int
    seed: int = 0
    near: Neighbours | None = None

    def __post_init__(self) -> None:
        rows = np.asarray(self.embeddings, np.float32)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)
        scaled = (rows - rows.mean(0)) / rows.std(0).clip(1e-6)
        object.__setattr__(self, "unit", unit)
        object.__setattr__(self, "scaled", scaled.astype(np.float32))

    def on(self, rows: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (len(rows),) and likely classes of some clips, told by the kept ones."""
        if self.near is not None and kept.all():
            places, cosines = (part[rows] for part in self.near)
            near = counted(self.given[places], cosines, self.classes)
        else:
            near = votes(self.unit, self.given, self.classes, kept, rows)
        linear = out_of_fold(self.scaled, self.given, self.classes, kept, rows, self.seed)
        far = distances(self.scaled, self.given, self.classes, kept, rows)
        given, width = self.given[rows], self.scaled.shape[1]
        # The deviation of a squared distance of a member is sqrt(2 D): differences in units of it.
        gauss = np.tanh(margin(-far, given) / np.sqrt(2 * width))
        score = (margin(near, given) + margin(linear, given) + gauss) / 3
        closest = np.exp(-(far - far.min(1, keepdims=True)) / np.sqrt(2 * width))
        fit = near + linear + closest / closest.sum(1, keepdims=True)
        return score, fit.argmax(1)
