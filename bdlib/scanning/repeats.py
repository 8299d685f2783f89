"""The evidence of `snippets`: a sound that many clips of one class share."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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
    """

    seed: int = 0

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        seconds = heard.measure("seconds")
        for found in shared_sounds(heard.read, heard.labels, seconds, self.seed):
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
