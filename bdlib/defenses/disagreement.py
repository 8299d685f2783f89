"""Which labels disagree with how the clips sound: classes that draw intruders, then the intruders.

Dirty labels are, whatever the trigger, wrong labels. To an encoder that somebody else trained, and
which thus never learned the trigger, a poisoned clip lies among the clips of its true class. Three
opinions on where a clip belongs are averaged: its neighbours', a linear classifier's that did not
learn from it, and that of one Gaussian a class. None is trained on what it judges.

A clean corpus has wrong labels, too. They are spread over classes; poison has one target. So classes
are called first, each measured against all others, and clips are flagged in the called ones.
Where intruders are many they have friends, so the called class is judged again without the clips
that look worst, until those stay the same.
"""

from dataclasses import dataclass

import numpy as np

from bdlib.defenses.opinions import NEIGHBOURS, Neighbours, Opinions
from bdlib.errors import InputError

ROUNDS = 6  # of judging again, at most; most attacks need three

INTRUDER = 0.1  # mean opinion, -1 to 1, from which a clip counts as an intruder of its class
SURE = 0.5  # from which all three opinions must agree
# Where nothing is poisoned, no class of the development corpora had more than 2.1.
CALL = 4.0  # deviations by which the count of intruders exceeds that of other classes
FEWEST = 6  # intruders that make a class suspicious: fewer poisoned clips are not told from chance
LOWEST, MOST_FLAGGED = -0.3, 0.25  # least score that is flagged, largest share of a class


@dataclass(frozen=True)
class Judgement:
    """What the labels of a corpus look like beside its sound.

    Arguments
    ---------
    classes : tuple[str, ...]
        All labels, sorted.
    score : np.ndarray
        (N,) in [-1, 1]: how much better a clip fits another class than its own.
    likely : np.ndarray
        (N,) number of the class that it fits best.
    excess : dict[str, float]
        By class, how many deviations its count of intruders lies above what the others have.
    called : tuple[str, ...]
        The classes above `CALL`, with `FEWEST` intruders or more.
    given : np.ndarray
        (N,) number of the class that it is labelled as.
    """

    classes: tuple[str, ...]
    score: np.ndarray
    likely: np.ndarray
    excess: dict[str, float]
    called: tuple[str, ...]
    given: np.ndarray

    @property
    def guilty(self) -> np.ndarray:
        """(N,) whether a clip is labelled as a called class."""
        return np.isin(self.given, [self.classes.index(name) for name in self.called])

    def line(self, rate: float = 0.01) -> float:
        """Score above which clips of called classes are flagged.

        Arguments
        ---------
        rate : float
            Share of the clean clips of the corpus that may be flagged. The other classes tell how
            clean clips score: as only called ones lose clips, each of these may lose more of them.
        """
        guilty = self.guilty
        share = min(rate * len(guilty) / max(1, guilty.sum()), MOST_FLAGGED)
        clean = self.score[~guilty] if not guilty.all() else self.score
        least = max(float(np.quantile(clean, 1 - share)), LOWEST)
        return min(least, INTRUDER)

    def flagged(self, rate: float = 0.01) -> np.ndarray:
        """Clips of called classes (N,) that sound unlike them: above the `line`."""
        return self.guilty & (self.score > self.line(rate))


def excesses(
    intruder: np.ndarray, given: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Deviations by which each class's count of intruders exceeds what the others lead to expect.

    Of the others' shares of intruders the median is what to expect, and their robust spread is
    added to that of counting: classes differ in how easily they are confused.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        (classes,) deviations, and the counts.
    """
    size = np.bincount(given, minlength=classes).astype(float)
    count = np.bincount(given[intruder], minlength=classes).astype(float)
    share = (count + 0.5) / (size + 1)
    result = np.zeros(classes)
    for number in range(classes):
        others = np.delete(share, number)
        usual = np.median(others)
        spread = 1.4826 * np.median(np.abs(others - usual))
        variance = size[number] * usual + (size[number] * spread) ** 2 + 1
        result[number] = (count[number] - size[number] * usual) / np.sqrt(variance)
    return result, count


def _called(score: np.ndarray, given: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Excess and verdict of each class: few intruders show among the sure, many among all."""
    excess, called = np.full(classes, -np.inf), np.zeros(classes, bool)
    for least in (INTRUDER, SURE):
        by_class, count = excesses(score > least, given, classes)
        called |= (by_class > CALL) & (count >= FEWEST)
        excess = np.maximum(excess, by_class)
    return excess, called


def judge(
    embeddings: np.ndarray, labels: np.ndarray, seed: int = 0, near: Neighbours | None = None
) -> Judgement:
    """Call classes, then score clips.

    Arguments
    ---------
    embeddings : np.ndarray
        (N, D), by an encoder that was not trained on these clips.
    labels : np.ndarray
        (N,) class names.
    seed : int
        Of the folds.
    near : Neighbours | None
        Of these embeddings, where they are known.

    Raises
    ------
    InputError
        If there is one class, or fewer clips than neighbours.
    """
    classes, given = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) < 2 or len(given) <= NEIGHBOURS:
        raise InputError(
            f"{len(given)} clips of {len(classes)} classes: labels are compared with each other; "
            f"give at least two classes, and more than {NEIGHBOURS} clips"
        )
    opinions = Opinions(embeddings, given, len(classes), seed, near)
    everything = np.arange(len(given))
    kept = np.ones(len(given), bool)
    score, likely = opinions.on(everything, kept)
    excess, called = _called(score, given, len(classes))
    suspects = np.flatnonzero(called[given])
    for _ in range(ROUNDS if len(suspects) else 0):
        before = kept.copy()
        kept[suspects] = score[suspects] <= INTRUDER
        for number in np.flatnonzero(called):  # a class needs clips of its own to be told by
            own = suspects[given[suspects] == number]
            kept[own[np.argsort(score[own])[: max(2, len(own) // 10)]]] = True
        if (kept == before).all():
            break
        score[suspects], likely[suspects] = opinions.on(suspects, kept)
    names = tuple(str(name) for name in classes)
    return Judgement(
        names,
        score,
        likely,
        dict(zip(names, excess.tolist(), strict=True)),
        tuple(name for name, guilty in zip(names, called, strict=True) if guilty),
        given,
    )
