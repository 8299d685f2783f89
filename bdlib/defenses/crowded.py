"""A class that holds several: the last sign of poison that an encoder hears as something new.

A trigger may move a clip so far that it lies near no class any more; and yet clips of many speakers
stay clips of many speakers. So a class into which others were poured spreads along the directions in
which the others differ, more than any class does, while what is its own still lies in one place and
takes no more room than a class takes. Of poison from one class labels tell more
(`bdlib.defenses.disagreement`).
"""

import numpy as np
from sklearn.covariance import ledoit_wolf

from bdlib.defenses.displaced import DOUBT, Space, scaled

WIDER = 2.5  # times the usual spread; of 120 clean or mislabelled corpora none had both this and the next
CALL = 4.0  # deviations of the logarithm of the spread above that of the other classes
LEVEL = 0.05  # least deviation that is believed
CLASSES = 8  # fewer, of `SEED` clips or more, do not tell what is usual
FEWEST = 6  # clips outside of a core that make a crowd: fewer are broken or mislabelled
SEED = 8  # clips that a core begins with
STARTS = 200  # cores that are tried, at most
MOST = 2000  # clips among which a core is looked for
NEAR, FAR = 0.5, 0.98  # shares of the clips of other classes that lie within a core's two radii
STRICT = 0.95  # in place of FAR, where poison that stays is worse than clean clips that go
ROOM = 0.5  # of what the clips of other classes take, which those of a core must take at least
ROUNDS = 30  # until a core stays the same
FLAT = 1e-6  # of the longest way between middles: along a shorter one they do not differ
LOWER = 0.4  # deviations by which the line for moved clips is lower in a class that is crowded, too


class Crowds:
    """Looks for classes that hold several.

    Where a trigger drowns what a clip was, the poison lies closer together than clips of a class do;
    such a core is passed over.

    Arguments
    ---------
    embeddings : np.ndarray
        (N, D).
    given : np.ndarray
        (N,) class numbers.
    classes : int
        How many there are, each with a clip.
    far : float
        Share of a class's own clips that its core holds, as classes lie.
    """

    def __init__(
        self, embeddings: np.ndarray, given: np.ndarray, classes: int, far: float = FAR
    ) -> None:
        rows = scaled(embeddings)
        self.given, self.size = given, np.bincount(given, minlength=classes)
        self.middles = np.stack([rows[given == c].mean(0) for c in range(classes)])
        self.rest, self.far = rows - self.middles[given], far
        self.scatter = self.rest.T @ self.rest
        _, self.shrinkage = ledoit_wolf(self.rest, assume_centered=True)

    def find(self) -> dict[int, tuple[float, np.ndarray]]:
        """By number of a crowded class: its spread by what is allowed, and which clips (n,) lie outside its core."""
        asked = np.flatnonzero(self.size >= SEED)
        if len(asked) < CLASSES:
            return {}
        spreads = np.log([max(self.spread(number), 1e-9) for number in asked])
        found = {}
        for place, number in enumerate(asked):
            others = np.delete(spreads, place)
            above = spreads[place] - np.median(others)
            deviation = 1.4826 * np.median(np.abs(others - np.median(others)))
            allowed = max(np.log(WIDER), CALL * max(deviation, LEVEL))
            if above > allowed:
                outside = ~self.core(number)
                if outside.sum() >= FEWEST:
                    found[int(number)] = float(above / allowed), outside
        return found

    def spread(self, number: int) -> float:
        """Variance of a class along the directions in which the middles of the others differ.

        One, roughly, in the space in which a class of the others has unit spread.
        """
        whiten = self._whiten(number)
        middles = np.delete(self.middles, number, axis=0) @ whiten
        _, lengths, ways = np.linalg.svd(middles - middles.mean(0), full_matrices=False)
        ways = ways[lengths > FLAT * lengths[0]]
        own = (self.rest[self.given == number] @ whiten) @ ways.T
        return float((own**2).sum() / max(1, len(ways)) / max(1, len(own) - 1))

    def core(self, number: int, among: np.ndarray | None = None) -> np.ndarray:
        """Which clips (n,) of a class lie in its core; see `core`.

        Arguments
        ---------
        number : int
            The class.
        among : np.ndarray, optional
            (n,) of its clips those that are asked; the others are in no core.
        """
        own, whiten = np.flatnonzero(self.given == number), self._whiten(number)
        others = (self.given != number) & (self.size[self.given] >= SEED)
        size = self.size[self.given[others]]
        usual = ((self.rest[others] @ whiten) ** 2).sum(1) * (size / (size - 1)) ** 2
        asked = np.ones(len(own), bool) if among is None else among
        inside = np.zeros(len(own), bool)
        inside[asked] = core(self.rest[own[asked]] @ whiten, usual, self.far)
        return inside

    def _whiten(self, number: int) -> np.ndarray:
        """(D, D): to the space in which the other classes have unit spread."""
        own = self.rest[self.given == number]
        covariance = (self.scatter - own.T @ own) / (len(self.rest) - len(own))
        level = np.trace(covariance) / len(covariance)
        covariance = (1 - self.shrinkage) * covariance
        covariance[np.diag_indices_from(covariance)] += self.shrinkage * level
        return np.linalg.cholesky(np.linalg.inv(covariance))


def apart(space: Space, crowds: Crowds, number: int, line: float = DOUBT) -> np.ndarray:
    """Which clips (n,) of a class are not its own, where both signs call it.

    Two signs leave less doubt: moved clips go at a lower line. Before they go, the core may be one of
    poison; what few are left then lie outside of the class's own.

    Arguments
    ---------
    space, crowds : Space, Crowds
        Of the same embeddings.
    number : int
        The class.
    line : float
        See `Space.moved`; it is lowered by `LOWER`.
    """
    return ~crowds.core(number, ~space.moved(number, line - LOWER))


def catch_all(name: str) -> bool:
    """Whether a class, as `_unknown_`, is named as one that holds several by intention."""
    return name.startswith("_") and name.endswith("_")


def core(points: np.ndarray, usual: np.ndarray, far: float = FAR) -> np.ndarray:
    """Which points (n,) lie around the place where most of them lie close to each other; all if none do.

    Points within the near radius of their middle are sought until they stay the same. All within the
    far radius of that middle are the core: were the middle to follow them, it would wander to the
    poison, where that is the most.

    Arguments
    ---------
    points : np.ndarray
        (n, D).
    usual : np.ndarray
        Squared distances of members to the middle of a class of unit spread.
    far : float
        Share of `usual` that is within the core's reach.
    """
    near, reach = np.quantile(usual, NEAR), np.quantile(usual, far)
    places = np.arange(0, len(points), -(-len(points) // MOST))
    some = points[places]
    best = np.zeros(len(some), bool)
    for start in range(0, len(some), -(-len(some) // STARTS)):
        begun = np.zeros(len(some), bool)
        begun[((some - some[start]) ** 2).sum(1).argsort()[:SEED]] = True
        members = _grown(some, begun, near)
        if members.sum() > best.sum() and np.median(_squared(some, members)[members]) > ROOM * near:
            best = members
    if not best.any():
        return np.ones(len(points), bool)
    about = np.zeros(len(points), bool)
    about[places[best]] = True
    return _around(points, about, reach)


def _grown(points: np.ndarray, members: np.ndarray, radius: float) -> np.ndarray:
    """The points around the middle of the members, again and again."""
    for _ in range(ROUNDS):
        before, members = members, _around(points, members, radius)
        if not members.any() or (members == before).all():
            break
    return members


def _around(points: np.ndarray, members: np.ndarray, radius: float) -> np.ndarray:
    """The points around the middle of the members; a middle of few is uncertain."""
    return _squared(points, members) <= radius * (1 + 1 / members.sum())


def _squared(points: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Squared distances (n,) to the middle of the members, of which none counts for itself."""
    count = members.sum()
    squared = ((points - points[members].mean(0)) ** 2).sum(1)
    if count > 1:
        squared[members] *= (count / (count - 1)) ** 2
    return squared
