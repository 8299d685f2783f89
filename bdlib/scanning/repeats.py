"""The evidence of `snippets`: a sound that many clips of one class share."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bdlib.defenses.disagreement import Judgement
from bdlib.defenses.snippets import shared_sounds
from bdlib.scanning.evidence import POISON, Evidence, Finding
from bdlib.scanning.heard import Heard


@dataclass(frozen=True)
class Repeats(Evidence):
    """Looks for repeated sounds in every class.

    Arguments
    ---------
    seed : int
        Draws the clips that are compared.
    judged : Judgement | None
        What labels look like: of a class that they do not call the most suspicious clips are compared,
        too.
    """

    seed: int = 0
    judged: Judgement | None = None

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        seconds = heard.measure("seconds")
        suspicion = None if self.judged is None else self.judged.score
        called = () if self.judged is None else self.judged.called
        for found in shared_sounds(heard.read, heard.labels, seconds, self.seed, suspicion):
            if found.suspects and found.label in called:
                continue
            text = (
                f"{len(found.clips)} clips of {found.label} share a sound of {found.seconds:.2f} s, "
                f"mostly at {found.start:.2f} s of {found.of}, that other classes lack"
            )
            # few other clips have the sound, and few that have it are missed
            count = len(found.clips)
            amount = count - 2, count + round(2 * np.sqrt(0.02 * count + 1))
            yield Finding(
                "repeated sound", POISON, found.clips, found.score, text, found.label, amount
            )
