"""Clips of other classes that a trigger moved, as a pretrained encoder hears them, and shared sounds."""

from dataclasses import dataclass

import numpy as np

from bdlib.defenses.base import BlindView
from bdlib.defenses.crowded import STRICT, Crowds, apart, catch_all
from bdlib.defenses.disagreement import CALL, FEWEST, INTRUDER, Judgement, excesses
from bdlib.defenses.displaced import DOUBT, Space
from bdlib.defenses.filters.label_disagreement import LabelDisagreement, waveform
from bdlib.defenses.snippets import shared_sounds
from bdlib.errors import within


@dataclass
class DisplacedClips(LabelDisagreement):
    """Removes what `label_disagreement` does, clips of other classes that a trigger moved, and a shared sound.

    Where a trigger changes all of a clip, or most of a class is poison, opinions that learn from the
    poison take it for its class. Two more signs call a class:

    - More of its clips than of others' lie nearer to another class's middle than to its own (by
      `CALL` deviations, and `FEWEST` of them). Then those go that are another class's, moved by one
      vector (`bdlib.defenses.displaced`).
    - It spreads as several classes would (`bdlib.defenses.crowded`). Then all goes that lies outside
      of its core; or, if the first sign calls it, too, what that takes at a lower `line`, and of the
      rest what lies outside of the core of the rest (`bdlib.defenses.crowded.apart`). A class named in
      underscores, as `_unknown_`, holds several by intention and is not asked.

    Poison with clean labels is where it should be, but repeats itself: of a class that nothing has
    called so far those clips go that share an added sound, if they are many and the other classes lack
    it (`bdlib.defenses.snippets.shared_sounds`). A few clips with wrong labels are too few to call a
    class by, but they are among those that sound like another class: if eight clips share a sound, half
    of them or more among these, they go, and with them all that sounds like another class. Classes named in
    underscores are not asked, as `_silence_` is cut from a few recordings. A faint tone, an echo and
    changes of a whole clip pass under clean labels.

    It trains nothing and takes no clean data. Of the clean clips of a class that is called for moved
    clips up to half goes, once 30 of 43.

    Arguments
    ---------
    encoder, false_positive_rate
        See `LabelDisagreement`.
    line : float
        Deviations by which a clip must fit another class better than its own, to go from a class that
        is called for moved clips; below 0 the doubt is not to the clip's benefit. It is lower by 0.4
        where both signs call.

    Raises
    ------
    InputError
        As `LabelDisagreement` does.
    """

    line: float = DOUBT

    def __post_init__(self) -> None:
        super().__post_init__()
        within("line", self.line, -10, 10)

    def flagged(self, view: BlindView, heard: np.ndarray, judged: Judgement) -> np.ndarray:
        """See `LabelDisagreement`; raises the scores of the classes that are called here."""
        displaced = super().flagged(view, heard, judged) | self.displaced(heard, judged)
        return displaced | self.repeated(view, judged)

    def displaced(self, heard: np.ndarray, judged: Judgement) -> np.ndarray:
        """Which clips (N,) a trigger moved, of embeddings (N, D)."""
        flagged = np.zeros(len(heard), bool)
        given, names = judged.given, judged.classes
        space = Space(heard, given, len(names))
        excess, count = excesses(space.margins() > 0, given, len(names))
        moved = np.flatnonzero((excess > CALL) & (count >= FEWEST))
        crowds = Crowds(heard, given, len(names), STRICT)
        crowded = {
            number: found for number, found in crowds.find().items() if not catch_all(names[number])
        }
        for number, (spread, outside) in crowded.items():
            self._call(names[number], spread)
            both = number in moved
            flagged[given == number] |= apart(space, crowds, number, self.line) if both else outside
        for number in moved:
            self._call(names[number], excess[number] / CALL)
            if number not in crowded:
                flagged[given == number] |= space.moved(number, self.line)
        return flagged

    def repeated(self, view: BlindView, judged: Judgement) -> np.ndarray:
        """Which clips (N,) share an added sound, of classes that nothing has called yet."""
        names, rate = view.rows["ID"].to_numpy(), view.pack.rate
        seconds = np.array([len(view.pack.waveform(name)) / rate for name in names])
        labels, flagged = view.rows["label"].to_numpy(str), np.zeros(len(names), bool)

        def read(clip: int) -> np.ndarray:
            return waveform(view, names[clip])

        for found in shared_sounds(read, labels, seconds, view.seed, judged.score):
            if self.class_scores[found.label] <= 1 and not catch_all(found.label):
                own = labels == found.label
                self._call(found.label, 1 + len(found.clips) / own.sum())
                flagged[found.clips] = True
                if found.suspects:
                    flagged |= own & (judged.score > INTRUDER)
        return flagged

    def _call(self, name: str, score: float) -> None:
        self.class_scores[name] = max(self.class_scores[name], float(score))
