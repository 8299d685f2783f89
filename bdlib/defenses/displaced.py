"""Clips of other classes, moved alike: what poison is to an encoder that hears the trigger.

A trigger that changes all of a clip, a room or another tempo, makes the poisoned clips of a class
each other's neighbours, and most of a class may be poison; opinions that learn from them then take
them for their class. What stays is where they come from: seen from the middles of all other
classes, they lie like clips of those, all moved by the same vector. So a class is read as a mixture
of clips of its own, about an unknown middle, and of clips of the others, about known middles and an
unknown move, in a space where every class has the same spread.
"""

import math

import numpy as np
from sklearn.covariance import ledoit_wolf

LEAST = 6  # moved clips that tell the move
PULL = 10  # clips that it takes to believe half of the move
DOUBT = -0.2  # deviations by which a clip of a called class must fit it better than another, moved
ROUNDS = 30  # until clips stay where they are; most classes need fewer than ten
OWN = 0.1  # share of a class that is its own whatever it looks like


class Space:
    """Embeddings in which every class has unit spread, as a pooled covariance has it.

    The covariance is shrunk as in Ledoit and Wolf (2004).

    Arguments
    ---------
    embeddings : np.ndarray
        (N, D).
    given : np.ndarray
        (N,) class numbers.
    classes : int
        How many there are, each with a clip.
    """

    def __init__(self, embeddings: np.ndarray, given: np.ndarray, classes: int) -> None:
        rows = scaled(embeddings)
        self.given, self.classes = given, classes
        spread, _ = ledoit_wolf(rows - self._middles(rows)[given], assume_centered=True)
        self.points = rows @ np.linalg.cholesky(np.linalg.inv(spread))
        self.middles = self._middles(self.points)

    def _middles(self, rows: np.ndarray) -> np.ndarray:
        sums = np.zeros((self.classes, rows.shape[1]))
        np.add.at(sums, self.given, rows)
        return sums / np.bincount(self.given, minlength=self.classes)[:, None]

    def margins(self, move: bool = False) -> np.ndarray:
        """Of all clips (N,) how much better they fit another class than their own.

        In deviations of a squared distance, sqrt(2 D). A class's middle is that of the clips which
        fit it better than any other.

        Arguments
        ---------
        move : bool
            Whether those may have been moved, all of a class alike.
        """
        result = np.zeros(len(self.given))
        for number in range(self.classes):
            result[self.given == number], _ = self._settled(number, move, line=0.0)
        return result

    def moved(self, number: int, line: float = DOUBT) -> np.ndarray:
        """Which clips of one class (n,) are another's, where those may have been moved.

        Arguments
        ---------
        number : int
            The class.
        line : float
            Margin above which a clip is none of its own; at least a tenth of a class is.
        """
        return self._settled(number, move=True, line=line)[1]

    def _settled(self, number: int, move: bool, line: float) -> tuple[np.ndarray, np.ndarray]:
        """Margins of a class's clips, and which are another's, once these stay the same."""
        points = self.points[self.given == number]
        others = np.delete(self.middles, number, axis=0)
        alien = np.zeros(len(points), bool)
        if move:
            _, alien = self._settled(number, move=False, line=0.0)
        for _ in range(ROUNDS):
            shift = _move(points[alien], others) if move else 0.0
            margin = _margins(points, ~alien, others + shift)
            before, alien = alien, margin > line
            alien[np.argsort(margin)[: max(2, math.ceil(OWN * len(points)))]] = False
            if (alien == before).all():
                break
        return margin, alien


def scaled(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings (N, D) with mean 0 and deviation 1 in each column that is not constant, float64."""
    rows = np.asarray(embeddings, np.float64)
    return (rows - rows.mean(0)) / rows.std(0).clip(1e-6)


def _squared(points: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Squared distances (n, K) of points (n, D) to middles (K, D)."""
    return (points**2).sum(1)[:, None] - 2 * points @ middles.T + (middles**2).sum(1)


def _margins(points: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance to the middle of `own`, of which no clip counts for itself, less that to the nearest other."""
    count = own.sum()
    to_own = _squared(points, points[own].mean(0, keepdims=True))[:, 0]
    if count > 1:
        to_own[own] *= (count / (count - 1)) ** 2
    return (to_own - _squared(points, others).min(1)) / np.sqrt(2 * points.shape[1])


def _move(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The mean way (D,) from the nearest other middle to these clips, few of which tell little."""
    shift = np.zeros(others.shape[1])
    if len(points) >= LEAST:
        for _ in range(3):
            nearest = others[_squared(points - shift, others).argmin(1)]
            shift = (points - nearest).mean(0) * len(points) / (len(points) + PULL)
    return shift
