"""A better search for the two populations of a poisoned class than two-means from random starts.

Two-means in whitened space seldom finds a small second population: any cut through a cloud that is
white in 24 directions leaves nearly the same inertia. Here clips propose directions, projection
pursuit sharpens them, and two populations found on one half of the class must stand apart in the
other half, too. What the other classes have as well, such as quiet and loud rooms, does not count:
this is for attacks with one target, where no other class has the trigger.
"""

import numpy as np
from sklearn.covariance import ledoit_wolf

from bdlib.defenses.filters.vae_pls.judge import Verdict, aligned
from bdlib.files import seed_of

STEPS = 8  # of the projection pursuit
EM_STEPS = 15
STARTS = 150  # of the projection pursuit at most
HALVES = 0.66  # separation of the two halves of a Gaussian
LEAST_CLIPS = 3  # of a population
LEAST_SHARE = 0.02  # of a class, in the fit of a mixture
COMPARED = 1000  # clips of the other classes
DOUBT = 4  # clips of common spread that a population is given beside its own
CLIPS_A_DIRECTION = 10  # of fewer, chance makes two populations of anything


def two_populations(
    inside: np.ndarray,
    others: np.ndarray,
    seed: int = 0,
    components: int = 24,
    splits: int = 3,
    least_share: float = 0.05,
    candidates: int = 15,
) -> Verdict:
    """Search one class for a direction along which it is two populations.

    Distances are measured by what clips of one class differ by, over all classes: a class of few
    clips has no covariance of its own to speak of, and that of a poisoned one is stretched along
    the very direction to be found. Only the directions in which the class is widest by that measure
    are searched.

    Arguments
    ---------
    inside : np.ndarray
        (n, D) latents of the class.
    others : np.ndarray
        (m, D) latents of the other classes, each class less its mean.
    seed : int
        Draws the halves.
    components : int
        Directions that are kept at most, one for `CLIPS_A_DIRECTION` clips.
    splits : int
        Into halves. The score is the mean of the twice as many searches; the labels are those of
        the better half of them, aligned and averaged.
    least_share : float
        Of either half that a population must hold: a few odd recordings stand apart in any class,
        so that a class with little more poison than that may be missed.
    candidates : int
        Directions a half may propose to the other.

    Returns
    -------
    Verdict
        Its score is the bimodal `separation` times the share of it that is `foreign` to the other
        classes, the lesser of both halves, at the best of the candidates; at least `HALVES`, as
        below that no class is more of one piece than another.
    """
    inside = np.asarray(inside, dtype=np.float64)
    inside = inside - inside.mean(0)
    axes = _widest(inside, others, components)
    generator = np.random.Generator(np.random.PCG64(seed_of("halves", seed)))
    points, compared = inside @ axes, generator.permutation(others)[:COMPARED] @ axes
    scores, labels = [], []
    for _ in range(splits):
        order = generator.permutation(len(points))
        for half, held in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            parts = points[half], points[held], compared
            score, direction = _best(*parts, least_share, candidates)
            scores.append(score)
            labels.append(_sharpened(points, direction))
    better = np.argsort(scores)[::-1][:splits]
    return Verdict(float(np.mean(scores)), aligned(np.array(labels)[better]))


def pursue(points: np.ndarray) -> np.ndarray:
    """Directions (J, k) along which points (n, k), centred, are wide and not Gaussian.

    Points, `STARTS` at most, start two fixed-point iterations: up the third cumulant, which a small
    second population makes large, and down the fourth, which two equal ones make small (the
    contrasts of FastICA, Hyvarinen 1999, without its whitening). The k axes come last, either way.
    """
    starts = points[:STARTS]
    starts = starts / np.linalg.norm(starts, axis=1, keepdims=True).clip(1e-12)
    ends = []
    for flat in (False, True):
        directions = starts
        for _ in range(STEPS):
            along = points @ directions.T
            if flat:
                variances = (along**2).mean(0)[:, None]
                moved = 3 * variances * (along.T @ points) - (along**3).T @ points
            else:
                moved = (along**2).T @ points
            directions = moved / np.linalg.norm(moved, axis=1, keepdims=True).clip(1e-12)
        ends.append(directions)
    axes = np.eye(points.shape[1])
    return np.concatenate([*ends, axes, -axes])


class Mixture:
    """Two Gaussians of one variance on each of J lines, by expectation maximisation.

    The second is the one further up; a few points that lie low are not found.

    Arguments
    ---------
    x : np.ndarray
        (n, J) points.
    belongs : np.ndarray | None
        (n, J) first guess of who is in the second population; by default those beyond one deviation
        above the mean.
    """

    def __init__(self, x: np.ndarray, belongs: np.ndarray | None = None) -> None:
        if belongs is None:
            belongs = (x > x.mean(0) + x.std(0)).astype(float)
        for _ in range(EM_STEPS):
            weight = belongs.sum(0).clip(1e-3, len(x) - 1e-3)
            self.share = (weight / len(x)).clip(LEAST_SHARE, 1 - LEAST_SHARE)
            self.high = (belongs * x).sum(0) / weight
            self.low = ((1 - belongs) * x).sum(0) / (len(x) - weight)
            spread = belongs * (x - self.high) ** 2 + (1 - belongs) * (x - self.low) ** 2
            self.variance = spread.mean(0).clip(1e-9)
            belongs = self.belongs(x)

    def belongs(self, x: np.ndarray) -> np.ndarray:
        """Probability (m, J) that points (m, J) are of the second population."""
        middle, distance = (self.high + self.low) / 2, self.high - self.low
        odds = distance * (x - middle) / self.variance + np.log(self.share / (1 - self.share))
        return 1 / (1 + np.exp(-odds.clip(-50, 50)))

    def second(self, x: np.ndarray) -> np.ndarray:
        """Whether points (m, J) are rather of the second population: (m, J) bool."""
        odds = np.log(self.share / (1 - self.share))
        distance = (self.high - self.low).clip(1e-9)
        return x > (self.high + self.low) / 2 - odds * self.variance / distance


def separation(x: np.ndarray, second: np.ndarray, least_share: float = 0.0) -> np.ndarray:
    """How far two populations stand apart on each of J lines: (J,).

    ``|mean2 - mean1| / (2 (deviation1 + deviation2))``, the bimodal separation of Zhang et al.
    (2003): above 1, two standard deviations of either leave a gap. Heavy tails count for little, as
    their members spread as far as they stand off. Deviations are shrunk to the common one by `DOUBT`
    clips; populations below `least_share` or `LEAST_CLIPS` have 0.

    Arguments
    ---------
    x : np.ndarray
        (n, J) points on the lines.
    second : np.ndarray
        (n, J) bool: who is in the second population.
    least_share : float
        Of the points.
    """
    counts = np.stack([(~second).sum(0), second.sum(0)])
    members = np.stack([~second, second])
    means = (members * x).sum(1) / counts.clip(1)
    squares = (members * (x - means[:, None]) ** 2).sum(1)
    common = squares.sum(0) / len(x)
    deviations = np.sqrt((squares + DOUBT * common) / (counts + DOUBT))
    apart = np.abs(means[1] - means[0]) / (2 * deviations.sum(0)).clip(1e-12)
    return np.where(counts.min(0) >= max(LEAST_CLIPS, least_share * len(x)), apart, 0.0)


def foreign(x: np.ndarray, mixture: Mixture, others: np.ndarray) -> np.ndarray:
    """Share (J,) of the split, on each of J lines, that other classes do not show.

    The others are laid over the first population, then over the second. Where they have the same two
    modes, as large a part of them as the population there falls on the far side; else hardly any.

    Arguments
    ---------
    x : np.ndarray
        (n, J) points on the lines.
    mixture : Mixture
        The populations.
    others : np.ndarray
        (m, J) clips of the other classes on the lines, each class less its mean.
    """
    share = mixture.second(x).mean(0).clip(1 / len(x), 1 - 1 / len(x))
    high = mixture.second(others + mixture.low).mean(0) / share
    low = (~mixture.second(others + mixture.high)).mean(0) / (1 - share)
    return 1 - np.maximum(high, low).clip(0, 1)


def _widest(inside: np.ndarray, others: np.ndarray, components: int) -> np.ndarray:
    """Matrix (D, k) to the directions in which a class is widest, in units of the common spread."""
    everyone = np.concatenate([inside, others])
    spread = everyone.std(0)
    scale = 1 / np.where(spread > 1e-12 * max(spread.max(), 1e-300), spread, np.inf)
    values, vectors = np.linalg.eigh(ledoit_wolf(everyone * scale)[0])
    varies = values > 1e-9 * values[-1]
    white = scale[:, None] * vectors[:, varies] / np.sqrt(values[varies])
    _, axes = np.linalg.eigh(np.atleast_2d(np.cov(inside @ white, rowvar=False)))
    count = max(min(components, len(inside) // CLIPS_A_DIRECTION), 1)
    return white @ axes[:, ::-1][:, :count]


def _best(
    half: np.ndarray, held: np.ndarray, others: np.ndarray, least_share: float, candidates: int
) -> tuple[float, np.ndarray]:
    """The direction that separates both halves best, and the lesser of its scores."""

    def score(judged: np.ndarray, directions: np.ndarray) -> np.ndarray:
        along, mixture = judged @ directions.T, Mixture(half @ directions.T)
        apart = separation(along, mixture.second(along), least_share)
        return apart * foreign(along, mixture, others @ directions.T)

    directions = pursue(half - half.mean(0))
    own = score(half, directions)
    chosen = _distinct(directions, np.argsort(-own), candidates)
    directions = directions[chosen]
    scores = np.minimum(own[chosen], score(held, directions))
    return max(float(scores.max()), HALVES), directions[scores.argmax()]


def _distinct(directions: np.ndarray, order: np.ndarray, most: int) -> list[int]:
    """The first of `order` that are no nearer than some 25 degrees to an earlier one."""
    kept: list[int] = []
    for place in order:
        if not kept or np.abs(directions[kept] @ directions[place]).max() < 0.9:
            kept.append(int(place))
        if len(kept) == most:
            break
    return kept


def _sharpened(points: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(n,) bool: the second population, after the line has turned to join the two means."""
    belongs = None
    for _ in range(5):
        along = points @ direction[:, None]
        belongs = Mixture(along, belongs).belongs(along)
        weight = belongs.sum().clip(1e-3, len(points) - 1e-3)
        step = (belongs * points).sum(0) / weight
        step -= ((1 - belongs) * points).sum(0) / (len(points) - weight)
        direction = step / max(float(np.linalg.norm(step)), 1e-12)
    return belongs[:, 0] > 0.5
