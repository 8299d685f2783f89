"""The evidence of `bdlib.defenses.displaced` and `crowded`: clips that a trigger moved as a whole.

An encoder hears a room, a whistle or another tempo; then poison lies near no other class, and most of
a class may be poison. What stays is that the clips come from other classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bdlib.defenses.crowded import FAR, Crowds, catch_all
from bdlib.defenses.disagreement import FEWEST, MOST_FLAGGED, excesses
from bdlib.defenses.displaced import DOUBT, Space
from bdlib.scanning.amount import MISSED
from bdlib.scanning.evidence import LABEL, MOVED, POISON, Evidence, Finding
from bdlib.scanning.heard import Heard

CALL = 5.0  # deviations; of the development attacks the least has 6.2
# Clips of a class that is asked: among clean ones of up to 35 words, some of fewer have 6.
CLIPS = 40
CLOSE = 1.0  # margin up to which a clip lies closely above the line
ONE_VOICE = ("speakers",)  # encoders of classes that never hold several by intention


@dataclass(frozen=True)
class Moved(Evidence):
    """Looks for clips of other classes, moved alike, and for classes that spread as several do.

    A class named in underscores, as `_unknown_`, holds several by intention and is not asked for the
    second; for another of words it is evidence of wrong labels, of speakers evidence of poison.

    Arguments
    ---------
    rate : float
        Share of clean clips that may be flagged, told by how clips of the other classes lie.
    """

    rate: float = 0.01

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        names, given, size = np.unique(heard.labels, return_inverse=True, return_counts=True)
        if len(names) < 2:
            return
        space = Space(heard.embeddings, given, len(names))
        excess, count = excesses(space.margins() > 0, given, len(names))
        called = np.flatnonzero((excess > CALL) & (count >= FEWEST) & (size >= CLIPS))
        margins = space.margins(move=True) if len(called) else np.empty(0)
        for number in called:
            others = [margins[given == k] for k in range(len(names)) if k not in called]
            yield self._moved(
                str(names[number]), np.flatnonzero(given == number), margins, others, excess[number]
            )
        for number, (spread, outside) in Crowds(heard.embeddings, given, len(names)).find().items():
            name = str(names[number])
            if number not in called and size[number] >= CLIPS and not catch_all(name):
                own = np.flatnonzero(given == number)
                yield _crowd(name, own, outside, spread, heard.encoder in ONE_VOICE)

    def _moved(
        self,
        name: str,
        own: np.ndarray,
        margins: np.ndarray,
        others: list[np.ndarray],
        excess: float,
    ) -> Finding:
        """The clips of a called class beyond what its own and those of other classes have."""
        clean = np.concatenate(others) if others else margins
        share = min(self.rate * len(margins) / len(own), MOST_FLAGGED)
        line = max(float(np.quantile(clean, 1 - share)), DOUBT)
        clips = own[margins[own] > line]
        text = (
            f"{len(clips)} of the {len(own)} clips of {name} lie as clips of other classes do that were "
            f"all moved alike, {excess:.0f} deviations more than in the others"
        )
        amount = _amount(margins[own], others, line)
        return Finding(MOVED, POISON, clips, 1 + margins[clips] - line, text, name, amount)


def _amount(own: np.ndarray, others: list[np.ndarray], line: float) -> tuple[int, int]:
    """Least and most moved clips: clean ones are as often above the line as in the worst other class.

    Below it there are 1.5 for each that lies closely above it.
    """
    above = int((own > line).sum())
    worst = max(((margins > line).mean() for margins in others), default=1.0)
    least = (above - worst * len(own)) / max(1 - worst, 0.1)
    close = ((own > line) & (own <= CLOSE)).sum()
    most = max((own > 0).sum(), above + MISSED * close)
    return max(1, int(least)), min(len(own), int(np.ceil(most)))


def _crowd(
    name: str, own: np.ndarray, outside: np.ndarray, spread: float, one_voice: bool
) -> Finding:
    """Clips of a class outside of its core: few clean ones are, and how much poison lies in it is not known."""
    clips, inside = own[outside], int((~outside).sum())
    text = (
        f"{len(clips)} of the {len(own)} clips of {name} lie outside of its core, and it spreads as several classes do: "
        "wrong labels, or a trigger that the encoder hears"
        + ("" if one_voice else "; or it holds several by intention")
    )
    kind, score = POISON if one_voice else LABEL, np.full(len(clips), 1 + spread)
    strays = math.ceil((1 - FAR) * inside + 3 * math.sqrt((1 - FAR) * inside + 1))
    amount = max(1, len(clips) - strays), len(own)
    return Finding("outside of the core", kind, clips, score, text, name, amount)
