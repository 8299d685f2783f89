"""The evidence of `bdlib.defenses.displaced` and `crowded`: clips that a trigger moved as a whole.

An encoder hears a room, a whistle or another tempo; then poison lies near no other class, and most of
a class may be poison. What stays is that the clips come from other classes.

The filter `displaced_clips` asks the same, and calls sooner: it may drop clean clips of a class, and a
verdict should not accuse one. Constants were set on the attacks of the leaderboard's development half,
some triggers of which are in the confirmation half of `tools/scan_trials.yaml`, and on random
draws of clean and mislabelled clips; that of voices was raised when clean ones had been called in some trials.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bdlib.defenses.crowded import FAR, Crowds, apart, catch_all
from bdlib.defenses.disagreement import FEWEST, MOST_FLAGGED, excesses
from bdlib.defenses.displaced import DOUBT, Space
from bdlib.encoders import ENCODERS
from bdlib.scanning.amount import MISSED
from bdlib.scanning.evidence import MOVED, NOTE, POISON, Evidence, Finding
from bdlib.scanning.heard import Heard

CALL = {
    "words": 5.0,
    "speakers": 8.0,
}  # deviations; of the development attacks the least has 6.2, and 9.9
CLIPS = 40  # of a class that may be accused: clean ones of up to 35 clips had up to 10 deviations
FEW = 20  # clips of a class that tells what is usual
CLASSES = 4  # of these, at least
CLOSE = 1.0  # margin up to which a clip lies closely above the line
ONE_VOICE = ("speakers",)  # encoders of classes that seldom hold several by intention


@dataclass(frozen=True)
class Moved(Evidence):
    """Looks for clips of other classes, moved alike, and for classes that spread as several do.

    The second is evidence of poison among speakers, and a note among words, of which a class may hold
    several by intention; one named in underscores, as `_unknown_`, is not asked. Of a speaker whom both
    call, all is flagged that lies `apart`, as the filter has it but with a wider core, be it more than `rate`. An encoder that
    was trained on the corpus itself may have learned the trigger: nothing is asked of it.

    Arguments
    ---------
    rate : float
        Share of clean clips that may be flagged in classes that are called here, told by how clips of
        the other classes lie.
    called : tuple[str, ...]
        Classes of which labels have told; they are not asked to tell what is usual.
    """

    rate: float = 0.01
    called: tuple[str, ...] = ()

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        names, given, size = np.unique(heard.labels, return_inverse=True, return_counts=True)
        asked = np.flatnonzero(size >= FEW)
        if heard.encoder not in ENCODERS or len(asked) < CLASSES:
            return
        space, crowds = (kind(heard.embeddings, given, len(names)) for kind in (Space, Crowds))
        crowded = {n: found for n, found in crowds.find().items() if not catch_all(str(names[n]))}
        voices = heard.encoder in ONE_VOICE
        aside = {n: apart(space, crowds, n) for n in (crowded if voices else ())}
        moved = list(self._moved(space, names, asked, aside, CALL[heard.encoder]))
        yield from moved
        told = {*self.called, *(finding.label for finding in moved)}
        for number, (spread, outside) in crowded.items():
            name = str(names[number])
            if size[number] >= CLIPS and name not in told:
                own = np.flatnonzero(given == number)
                yield _crowd(name, own, outside, spread, voices)

    def _moved(
        self,
        space: Space,
        names: np.ndarray,
        asked: np.ndarray,
        aside: dict[int, np.ndarray],
        call: float,
    ) -> Iterator[Finding]:
        """Of each class whose clips lie nearer to others' middles than those of others do.

        Where it spreads as several do, `aside` has the clips that both signs take.
        """
        given = space.given
        kept = np.isin(given, asked)
        nearer = space.margins()[kept] > 0
        excess, count = excesses(nearer, np.searchsorted(asked, given[kept]), len(asked))
        large = np.bincount(given)[asked] >= CLIPS
        places = np.flatnonzero((excess > call) & (count >= FEWEST) & large)
        if not len(places):
            return
        margins = space.margins(move=True)
        silent = ~np.isin(names[asked], self.called)
        silent[places] = False
        others = [margins[given == number] for number in asked[silent]]
        called = np.isin(given, asked[places]).sum()
        share = min(self.rate * len(given) / called, MOST_FLAGGED)
        usual = float(np.quantile(np.concatenate(others), 1 - share)) if others else 0.0
        for place in places:
            own, name = np.flatnonzero(given == asked[place]), str(names[asked[place]])
            # No fewer go than called the class: of a noisy corpus all others lie far out, too.
            least = np.sort(margins[own])[-int(count[place])]
            line = min(max(usual, DOUBT), float(np.nextafter(least, -np.inf)))
            both = aside.get(int(asked[place]), np.zeros(len(own), bool))
            clips = own[(margins[own] > line) | both]
            text = _told(name, len(own), int(count[place]), excess[place], len(clips), both.any())
            least, most = _amount(margins[own], others, line)
            score = 1 + (margins[clips] - line).clip(0)
            yield Finding(MOVED, POISON, clips, score, text, name, (least, max(most, len(clips))))


def _told(name: str, size: int, nearer: int, excess: float, clips: int, both: bool) -> str:
    return (
        f"{nearer} of the {size} clips of {name} lie nearer to other classes than to their own, {excess:.0f} "
        f"deviations more than in the others; {clips} do, once a shift that they share is taken away"
        f"{', or lie outside of its core' if both else ''}"
    )


def _amount(own: np.ndarray, others: list[np.ndarray], line: float) -> tuple[int, int]:
    """Least and most moved clips: clean ones are as often above the line as in the worst other class.

    Below it there are 1.5 for each that lies closely above it.
    """
    if not others:
        return 1, len(own)
    above = int((own > line).sum())
    worst = max(((margins > line).sum() + 0.5) / (len(margins) + 1) for margins in others)
    least = (above - worst * len(own)) / max(1 - worst, 0.1)
    close = ((own > line) & (own <= CLOSE)).sum()
    most = max((own > 0).sum(), above + MISSED * close)
    return max(1, int(least)), min(len(own), int(np.ceil(most)))


def _crowd(
    name: str, own: np.ndarray, outside: np.ndarray, spread: float, one_voice: bool
) -> Finding:
    """Clips of a class outside of its core: poison, if the core is not."""
    clips, inside = own[outside], int((~outside).sum())
    text = (
        f"{name} spreads as several classes do, and {len(clips)} of its {len(own)} clips lie outside of its "
        "core: a trigger that the encoder hears, wrong labels, or a class that holds several by intention"
    )
    kind, score = POISON if one_voice else NOTE, np.full(len(clips), spread)
    strays = math.ceil((1 - FAR) * inside + 3 * math.sqrt((1 - FAR) * inside + 1))
    amount = max(1, min(len(clips), inside) - strays), len(own)
    return Finding("outside of the core", kind, clips, score, text, name, amount)
