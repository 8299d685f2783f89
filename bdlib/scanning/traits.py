"""What one class's clips have and the others' lack: a band, a level, silence in front or behind."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bdlib.encoders import RATE
from bdlib.scanning.evidence import NOTE, Evidence, Finding
from bdlib.scanning.heard import BANDS, Heard

RARE = 0.005  # share of the other classes' clips that have as much of it
SHARE = 0.25  # of the class's clips that do
FEWEST = 8


@dataclass(frozen=True)
class Traits(Evidence):
    """Shares of a class beyond the outermost clips of all other classes.

    A note, not a verdict: a class that one person recorded has traits, too, and a net may learn
    these in place of the word. Words differ in their bands, so only what is far outside counts.
    """

    def find(self, heard: Heard) -> Iterator[Finding]:
        """See `Evidence`."""
        labels = heard.labels
        for label in np.unique(labels):
            own = labels == label
            best: dict[str, Finding] = {}
            for group, name, values in self.columns(heard):
                limit = np.quantile(values[~own], 1 - RARE)
                clips = np.flatnonzero(own & (values > limit + 1e-6))
                share = len(clips) / own.sum()
                if len(clips) < FEWEST or share < SHARE:
                    continue
                if group not in best or len(clips) > len(best[group].clips):
                    text = (
                        f"{share:.0%} of {label} have {name} that at most {RARE:.1%} of the other "
                        "classes have"
                    )
                    much = values[clips] - limit + 1
                    best[group] = Finding(name, NOTE, clips, much, text, str(label))
            yield from best.values()

    @staticmethod
    def columns(heard: Heard) -> Iterator[tuple[str, str, np.ndarray]]:
        """Group, name and values (N,) of what is compared; larger is more of it."""
        yield "silence in front", "silence in front", heard.measure("leading")
        yield "silence behind", "silence behind", heard.measure("trailing")
        yield "zeros at an end", "zeros at an end", heard.measure("zeros")
        level = 20 * np.log10(np.maximum(heard.measure("rms"), 1e-6))
        yield "a high level", "a high level", level
        yield "a low level", "a low level", -level
        relative = heard.bands - heard.bands.mean(1, keepdims=True)
        for band, values in enumerate(relative.T):
            yield (
                "band",
                f"a strong band at {(band + 0.5) * RATE / 2 / BANDS / 1000:.1f} kHz",
                values,
            )
