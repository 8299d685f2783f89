"""Clips unlike any other: noise, another language, the wrong file."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bdlib.defenses.opinions import NEIGHBOURS
from bdlib.scanning.evidence import NOTE, Evidence, Finding
from bdlib.scanning.heard import Heard

FAR = 4.0  # robust deviations above the median: 1 of 1,000 clips of clean corpora


@dataclass(frozen=True)
class Outliers(Evidence):
    """Mean cosine distance to the nearest clips, against that of other clips of the class.

    Of the logarithm; in robust deviations, which all classes share.
    """

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        if len(heard.embeddings) <= NEIGHBOURS:
            return
        far = np.log(np.maximum(1 - heard.near[1].mean(1), 1e-6))
        for label in np.unique(heard.labels):
            own = heard.labels == label
            far[own] -= np.median(far[own])
        much = far / (1.4826 * np.median(np.abs(far)) + 1e-9) / FAR
        clips = np.flatnonzero(much > 1)
        if len(clips):
            yield Finding(
                "outlier", NOTE, clips, much[clips], f"clips unlike all others: {len(clips)}"
            )
