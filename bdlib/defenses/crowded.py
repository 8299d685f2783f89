"""A class that holds several: the last sign of poison that an encoder hears as something new.

A trigger may move a clip so far that it lies near no class any more; and yet clips of many speakers
stay clips of many speakers. So a class into which others were poured spreads along the directions in
which the others differ, more than any class does, while what is its own still lies in one place and
takes no more room than a class takes. Of poison from one class labels tell more
(`bdlib.defenses.disagreement`).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf

WIDER = 2.5  # times the usual spread; of 120 clean or mislabelled corpora none had both this and the next
CALL = 4.0  # deviations of the logarithm of the spread above that of the other classes
LEVEL = 0.05  # least deviation that is believed
CLASSES = 8  # fewer do not tell what is usual
SEED = 8  # clips that a core begins with
STARTS = 200  # cores that are tried, at most
NEAR, FAR = 0.5, 0.98  # shares of the clips of other classes that lie within a core's two radii
ROUNDS = 30  # until a core stays the same


@dataclass(frozen=True)
class Alone:
    """A class as all others see it.

    Arguments
    ---------
    points : np.ndarray
        (n, D) its clips, where a class of the others has unit spread.
    spread : float
        Its variance along the directions in which the middles of the others differ.
    usual : np.ndarray
        Squared distances of the clips of the others to their own middles.
    """

    points: np.ndarray
    spread: float
    usual: np.ndarray


class Crowds:
    """Looks for classes that hold several.

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
        rows = np.asarray(embeddings, np.float64)
        self.rows = (rows - rows.mean(0)) / rows.std(0).clip(1e-6)
        self.given, self.size = given, np.bincount(given, minlength=classes)
        self.middles = np.stack([self.rows[given == c].mean(0) for c in range(classes)])
        self.rest = self.rows - self.middles[given]
        self.scatter = self.rest.T @ self.rest
        _, self.shrinkage = ledoit_wolf(self.rest, assume_centered=True)

    def alone(self, number: int) -> Alone:
        """One class, in the space that the others make."""
        own = self.given == number
        covariance = (self.scatter - self.rest[own].T @ self.rest[own]) / (~own).sum()
        level = np.trace(covariance) / len(covariance)
        covariance = (1 - self.shrinkage) * covariance
        covariance[np.diag_indices_from(covariance)] += self.shrinkage * level
        whiten = np.linalg.cholesky(np.linalg.inv(covariance))
        middles = np.delete(self.middles, number, axis=0) @ whiten
        ways = np.linalg.svd(middles - middles.mean(0), full_matrices=False)[2]
        ways = ways[: min(len(middles) - 1, ways.shape[1])]
        points = self.rows[own] @ whiten
        along = (points - points.mean(0)) @ ways.T
        spread = (along**2).sum() / len(ways) / max(1, len(points) - 1)
        size = self.size[self.given[~own]]
        leave_out = (size / np.maximum(size - 1, 1)) ** 2
        return Alone(points, spread, ((self.rest[~own] @ whiten) ** 2).sum(1) * leave_out)

    def find(self) -> dict[int, tuple[float, np.ndarray]]:
        """By number of a crowded class: its spread by what is allowed, and which clips (n,) lie outside its core."""
        if len(self.size) < CLASSES:
            return {}
        seen = [self.alone(number) for number in range(len(self.size))]
        spreads = np.log([max(each.spread, 1e-9) for each in seen])
        found = {}
        for number, each in enumerate(seen):
            others = np.delete(spreads, number)
            above = spreads[number] - np.median(others)
            deviation = 1.4826 * np.median(np.abs(others - np.median(others)))
            allowed = max(np.log(WIDER), CALL * max(deviation, LEVEL))
            if above > allowed:
                found[number] = float(above / allowed), ~core(each.points, each.usual)
        return found


def core(points: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Which points (n,) lie around the place where most of them lie close to each other; all if none do.

    Arguments
    ---------
    points : np.ndarray
        (n, D).
    usual : np.ndarray
        Squared distances of members to the middle of a class of unit spread.
    """
    near, far = np.quantile(usual, NEAR), np.quantile(usual, FAR)
    best = np.zeros(len(points), bool)
    for start in range(0, len(points), -(-len(points) // STARTS)):
        begun = np.zeros(len(points), bool)
        begun[((points - points[start]) ** 2).sum(1).argsort()[:SEED]] = True
        members = _grown(points, begun, near)
        if members.sum() > best.sum():
            best = members
    return _grown(points, best, far) if best.any() else ~best


def _grown(points: np.ndarray, members: np.ndarray, radius: float) -> np.ndarray:
    """The points around the middle of the members, again and again; a middle of few is uncertain."""
    for _ in range(ROUNDS):
        count = members.sum()
        squared = ((points - points[members].mean(0)) ** 2).sum(1)
        if count > 1:  # no point counts for itself
            squared[members] *= (count / (count - 1)) ** 2
        before, members = members, squared <= radius * (1 + 1 / count)
        if not members.any() or (members == before).all():
            break
    return members
