"""Clips of other classes that a trigger moved, as a pretrained encoder hears them."""

from dataclasses import dataclass

import numpy as np

from bdlib.defenses.disagreement import CALL, FEWEST, Judgement, excesses
from bdlib.defenses.displaced import DOUBT, Space
from bdlib.defenses.filters.label_disagreement import LabelDisagreement
from bdlib.errors import within


@dataclass
class DisplacedClips(LabelDisagreement):
    """Removes what `label_disagreement` removes, and clips of other classes that were moved alike.

    Where a trigger changes all of a clip, or most of a class is poison, opinions that learn from the
    poison take it for its class. A class is called, too, where more clips than in the others lie
    nearer to another class's middle than to its own (by `CALL` deviations, and `FEWEST` of them);
    of such a class go the clips that are another class's, moved by one vector
    (`bdlib.defenses.displaced`). It trains nothing and takes no clean data. Clean-label poison passes.

    Arguments
    ---------
    encoder, false_positive_rate
        See `LabelDisagreement`.
    line : float
        Deviations by which a clip must fit another class better than its own, to go from a class that
        is called for moved clips; below 0 the benefit of the doubt is the others'.

    Raises
    ------
    InputError
        As `LabelDisagreement` does.
    """

    line: float = DOUBT

    def __post_init__(self) -> None:
        super().__post_init__()
        within("line", self.line, -10, 10)

    def flagged(self, heard: np.ndarray, judged: Judgement) -> np.ndarray:
        """See `LabelDisagreement`; raises the scores of the classes that are called for moved clips."""
        flagged = super().flagged(heard, judged)
        space = Space(heard, judged.given, len(judged.classes))
        excess, count = excesses(space.margins() > 0, judged.given, len(judged.classes))
        for number in np.flatnonzero((excess > CALL) & (count >= FEWEST)):
            flagged[judged.given == number] |= space.moved(number, self.line)
            name = judged.classes[number]
            self.class_scores[name] = max(self.class_scores[name], excess[number] / CALL)
        return flagged
