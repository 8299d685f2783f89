"""Copies: the same recording twice, and above all under two labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bdlib.defenses.disagreement import neighbours
from bdlib.scanning.evidence import LABEL, NOTE, Evidence, Finding
from bdlib.scanning.heard import Heard
from bdlib.scanning.snippets import COPY, correlations, whitened

ALIKE = 0.99  # cosine of embeddings from which two clips are compared sample by sample; copies at a
# tenth of the level, 50 ms later, or through MP3 or Vorbis have more to the encoder of words
LENGTH = 16384  # samples of the comparison
MOST = 2000  # pairs that are compared, the most alike first


@dataclass(frozen=True)
class Duplicates(Evidence):
    """Exact copies by content, near ones (another level, codec, offset) by correlation."""

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        pairs = self.pairs(heard)
        labels = heard.labels
        for same, kind, speaks_for, text in (
            (False, "copy under another label", LABEL, "copies of recordings under two labels"),
            (True, "copy", NOTE, "copies of recordings under one label"),
        ):
            chosen = [pair for pair in pairs if (labels[pair[0]] == labels[pair[1]]) == same]
            clips = np.unique(np.array(chosen, np.int64).ravel())
            if len(clips):
                yield Finding(
                    kind, speaks_for, clips, np.ones(len(clips)), f"{text}: {len(chosen)}"
                )

    def pairs(self, heard: Heard) -> list[tuple[int, int]]:
        """Numbers of clips that are copies of each other, each with the next of its kind."""
        first: dict[str, int] = {}
        exact = []
        for place, key in enumerate(heard.digests):
            if key in first:
                exact.append((first[key], place))
            first.setdefault(key, place)
        own = np.array(sorted(first.values()))
        if len(own) < 3:
            return exact
        places, cosines = neighbours(heard.embeddings[own]) if exact else heard.near
        order = np.argsort(-cosines[:, 0], kind="stable")
        order = order[cosines[order, 0] > ALIKE][:MOST]
        candidates = sorted({tuple(sorted((int(own[i]), int(own[places[i, 0]])))) for i in order})
        return exact + [pair for pair in candidates if self.copies(heard, *pair)]

    def copies(self, heard: Heard, one: int, other: int) -> bool:
        """Whether two clips are the same recording."""
        waves = torch.stack([whitened(heard.read(clip), LENGTH) for clip in (one, other)])
        spectra = torch.fft.rfft(waves, LENGTH)
        return bool(correlations(spectra[:1], spectra[1:], LENGTH)[0][0] > COPY)
