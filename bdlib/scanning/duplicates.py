"""Copies: the same recording twice, and above all under two labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bdlib.defenses.opinions import Neighbours, neighbours
from bdlib.defenses.whitening import correlations, whitened
from bdlib.scanning.evidence import LABEL, NOTE, Evidence, Finding
from bdlib.scanning.heard import Heard

ALIKE = 0.99  # cosine of embeddings from which two clips are compared sample by sample; copies at a
# tenth of the level, 50 ms later, or through MP3 or Vorbis have more to the encoder of words
SHAPED = 0.95  # cosine of `shapes` from which they are, under two labels: copies at half the level, 50 ms
# later, have more, of real speech; among 6,583 clips of it 650 neighbours that are no copies do, too
COPY = 0.5  # correlation from which they are copies
LENGTH = 16384  # samples of the comparison
MOST = 1000  # pairs that are compared of each kind, the most alike first


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
        labels = heard.labels[own]
        near = neighbours(heard.embeddings[own]) if exact else heard.near
        candidates = alike((near[0][:, :1], near[1][:, :1]), ALIKE)
        # To some encoders a clip at another level is another clip, not to its spectrum's shape.
        shaped = neighbours(shapes(heard.bands[own]))
        differ = labels[shaped[0]] != labels[:, None]
        candidates |= alike((shaped[0], np.where(differ, shaped[1], -1)), SHAPED)
        pairs = sorted((int(own[one]), int(own[other])) for one, other in candidates)
        return exact + [pair for pair in pairs if self.copies(heard, *pair)]

    def copies(self, heard: Heard, one: int, other: int) -> bool:
        """Whether two clips are the same recording."""
        waves = torch.stack([whitened(heard.read(clip), LENGTH) for clip in (one, other)])
        spectra = torch.fft.rfft(waves, LENGTH)
        return bool(correlations(spectra[:1], spectra[1:], LENGTH)[0][0] > COPY)


def shapes(bands: np.ndarray) -> np.ndarray:
    """(N, BANDS) of unit length: long-term spectra in dB (N, BANDS) without the clip's level and the corpus's usual shape."""
    relative = bands - bands.mean(1, keepdims=True)
    scaled = (relative - relative.mean(0)) / relative.std(0).clip(1e-6)
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True).clip(1e-9)


def alike(near: Neighbours, least: float) -> set[tuple[int, int]]:
    """Pairs of clips with a cosine above this, the lower number first, `MOST` at most."""
    places, cosines = near
    rows, columns = np.nonzero(cosines > least)
    order = np.argsort(-cosines[rows, columns], kind="stable")[:MOST]
    found = zip(rows[order], places[rows[order], columns[order]], strict=True)
    return {(int(min(pair)), int(max(pair))) for pair in found}
