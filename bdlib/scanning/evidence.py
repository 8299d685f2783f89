"""What evidence is: clips, why they are suspicious, and how much each is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bdlib.scanning.heard import Heard

POISON, LABEL, QUALITY, NOTE = "poison", "label", "quality", "note"
"""What evidence speaks for: an attack on a class, single wrong labels, clips of no use, or nothing
that a clip should go for."""
MOVED = "moved clip"
"""The kind of a finding that labels may have said better."""


@dataclass(frozen=True)
class Finding:
    """Clips that share a reason.

    Arguments
    ---------
    kind : str
        Short name of the reason, as in `reasons` of flagged.csv.
    speaks_for : str
        `POISON`, `LABEL`, `QUALITY` or `NOTE`.
    clips : np.ndarray
        (n,) numbers.
    score : np.ndarray
        (n,) how much each is of it; 1 is the threshold.
    text : str
        One sentence for a person.
    label : str | None
        The class that it is about, if one.
    amount : tuple[int, int] | None
        Least and most clips of that class of which it is so, where it speaks for poison.
    """

    kind: str
    speaks_for: str
    clips: np.ndarray
    score: np.ndarray
    text: str
    label: str | None = None
    amount: tuple[int, int] | None = None


class Evidence(ABC):
    """One way to look at a corpus, blind to everything but sound and labels."""

    @abstractmethod
    def find(self, heard: Heard) -> Iterator[Finding]:
        """What it finds, if anything."""
