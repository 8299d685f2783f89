"""Clips that are damaged: silent, clipped, or far from the usual length."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bdlib.scanning.evidence import NOTE, QUALITY, Evidence, Finding
from bdlib.scanning.heard import SILENT, Heard

CLIPPED = 0.01  # share of samples at full scale
LENGTHS = 8.0  # times the median, or its inverse


@dataclass(frozen=True)
class Condition(Evidence):
    """What was measured on each clip against fixed bounds."""

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        seconds = heard.measure("seconds") / np.median(heard.measure("seconds"))
        odd = np.maximum(seconds, 1 / seconds) / LENGTHS
        quiet = SILENT / np.maximum(heard.measure("peak"), SILENT / 1000)
        for kind, much, text in (
            ("silent", quiet, "silent clips (peak below -60 dB of full scale)"),
            (
                "clipped",
                heard.measure("clipped") / CLIPPED,
                "clipped clips (1 % of samples or more)",
            ),
            ("odd length", odd, f"clips {LENGTHS:.0f} times longer or shorter than usual"),
        ):
            clips = np.flatnonzero(much > 1)
            if len(clips):
                speaks_for = QUALITY if kind == "silent" else NOTE
                yield Finding(kind, speaks_for, clips, much[clips], f"{text}: {len(clips)}")
