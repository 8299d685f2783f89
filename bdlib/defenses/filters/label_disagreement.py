"""Labels that disagree with how clips sound to an encoder that somebody else trained."""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from bdlib.audio import resampled
from bdlib.defenses.base import BlindView, FilterDefense
from bdlib.defenses.checks import one_of, share
from bdlib.defenses.disagreement import CALL, Judgement, judge
from bdlib.defenses.displaced import OWN
from bdlib.encoders import ENCODERS, RATE


def waveform(view: BlindView, name: str) -> np.ndarray:
    """A clip of a view by its ID, (T,) at the encoders' rate."""
    return resampled(view.pack.waveform(name), view.pack.rate, RATE)


def embedded(view: BlindView, encoder: str) -> np.ndarray:
    """All clips of a view as a pretrained encoder of that name hears them, (N, D)."""
    return ENCODERS[encoder]().embed([waveform(view, name) for name in view.rows["ID"]])


@dataclass
class LabelDisagreement(FilterDefense):
    """Removes the clips of a class that draws intruders, where they sound like another class.

    The decision of `bdlib scan`, of labels alone: classes are called first, each against all others,
    then clips in them (`bdlib.defenses.disagreement`). It trains nothing and takes no clean data.
    Of a clean corpus it removes nothing, as long as no class is called; else `false_positive_rate`
    of it at most, told by how clips of the other classes score. Clean-label poison passes.

    Arguments
    ---------
    encoder : str
        `words` or `speakers`: what the labels are.
    false_positive_rate : float
        See above.

    Raises
    ------
    InputError
        If a setting is out of range; in `scores`, if the encoder's weights are not installed, or
        there is one class.
    """

    encoder: str = "words"
    false_positive_rate: float = 0.01

    def __post_init__(self) -> None:
        one_of("encoder", self.encoder, ENCODERS)
        share("false_positive_rate", self.false_positive_rate)

    def scores(self, view: BlindView) -> dict[str, float]:
        """Suspicion in [0, 1]: above 0.5 for what is removed."""
        heard = embedded(view, self.encoder)
        judged = judge(heard, view.rows["label"].to_numpy(str), view.seed)
        self.class_scores = {
            name: excess / CALL if name in judged.called else min(excess / CALL, 1.0)
            for name, excess in judged.excess.items()
        }
        flagged = self.flagged(view, heard, judged)
        for number, size in enumerate(np.bincount(judged.given)):  # no class is emptied
            own = np.flatnonzero(judged.given == number)
            spared = own[
                np.argsort(judged.score[own], kind="stable")[: max(2, math.ceil(OWN * size))]
            ]
            if flagged[own].sum() > size - len(spared):
                flagged[spared] = False
        suspicion = (1 + judged.score) / 4 + 0.5 * flagged
        return dict(zip(view.rows["ID"], suspicion.tolist(), strict=True))

    def flagged(self, view: BlindView, heard: np.ndarray, judged: Judgement) -> np.ndarray:
        """Which clips (N,) are removed, of embeddings (N, D) and what their labels look like."""
        return judged.flagged(self.false_positive_rate)

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """All that is not flagged."""
        return [name for name, suspicion in scores.items() if suspicion <= 0.5]
