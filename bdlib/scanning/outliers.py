"""Clips unlike any other: noise, another language, the wrong file."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bdlib.defenses.disagreement import NEIGHBOURS, nearest
from bdlib.scanning.evidence import NOTE, Evidence, Finding
from bdlib.scanning.heard import Heard

FAR = 6.0  # robust deviations above the median


@dataclass(frozen=True)
class Outliers(Evidence):
    """Mean cosine distance to the nearest clips, in robust deviations over the corpus."""

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        count = len(heard.embeddings)
        if count <= NEIGHBOURS:
            return
        _, cosines = nearest(heard.embeddings, heard.embeddings, NEIGHBOURS, np.arange(count))
        far = 1 - cosines.mean(1)
        spread = 1.4826 * np.median(np.abs(far - np.median(far))) + 1e-9
        much = (far - np.median(far)) / spread / FAR
        clips = np.flatnonzero(much > 1)
        if len(clips):
            yield Finding(
                "outlier", NOTE, clips, much[clips], f"clips unlike all others: {len(clips)}"
            )
