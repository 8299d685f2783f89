"""Classes whose names a person takes for one: they differ in case, in spaces or in how accents are coded."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bdlib.scanning.evidence import NOTE, Evidence, Finding
from bdlib.scanning.heard import Heard


@dataclass(frozen=True)
class Twins(Evidence):
    """Names beside each other; that clips of both sound alike is what labels say of them."""

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        alike: dict[str, list[str]] = defaultdict(list)
        for label in np.unique(heard.labels).tolist():
            alike[" ".join(unicodedata.normalize("NFKC", label).split()).casefold()].append(label)
        for names in alike.values():
            if len(names) > 1:
                clips = np.flatnonzero(np.isin(heard.labels, names))
                text = (
                    f"classes with nearly the same name, perhaps one: {', '.join(map(repr, names))}"
                )
                yield Finding("name of a class", NOTE, clips, np.ones(len(clips)), text)
