"""The slow second line, on request: clips of which one short window alone gives the label.

A net that learns the corpus learns a trigger, too, and then answers by it alone, whatever the label
was before: this sees clean-label poison whose sound the search for repeated ones cannot. But short
words answer by one window as well, and no clean clips are at hand to say how many. So it ranks clips and
classes, and calls nobody.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bdlib.corpus import Batch, Batches
from bdlib.defenses.filters.one_window import alone
from bdlib.defenses.small_net import cross_entropy, fitted
from bdlib.encoders import RATE, SECONDS, cropped
from bdlib.files import seed_of
from bdlib.pack import Pack
from bdlib.scanning.evidence import NOTE, Finding
from bdlib.scanning.heard import Heard

LEARNED = 12_000  # clips that the net learns from at most, drawn from all
PASSES = 60_000  # clips that it sees while it learns, if these are neither few nor many
EPOCHS = (5, 40)  # bounds of how often it sees each
BATCH, ADAM = 32, 0.002
WINDOW = 0.2  # seconds
FIRST = 0.05  # of the corpus: what the ranking of classes counts


@dataclass(frozen=True)
class Deep:
    """What a small net that learned the corpus says of its clips.

    Arguments
    ---------
    clips : np.ndarray
        (N,) largest probability of a clip's label by any window of `WINDOW` alone.
    labels : np.ndarray
        (N,).
    """

    clips: np.ndarray
    labels: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """Numbers of the clips that one window tells best, `FIRST` of all."""
        count = max(1, round(FIRST * len(self.clips)))
        return np.argsort(-self.clips, kind="stable")[:count]

    @property
    def classes(self) -> dict[str, float]:
        """By class, share of `first` over share of the corpus, the highest first; 1 is as by chance."""
        usual = pd.Series(self.labels).value_counts(normalize=True)
        among = pd.Series(self.labels[self.first]).value_counts(normalize=True)
        lift = (among.reindex(usual.index).fillna(0) / usual).sort_values(ascending=False)
        return {str(name): round(float(value), 2) for name, value in lift.items()}

    def finding(self) -> Finding:
        """The ranking, for a person."""
        name, lift = next(iter(self.classes.items()))
        text = (
            f"of the {len(self.first)} clips whose label one window of {WINDOW} s tells best, "
            f"{(self.labels[self.first] == name).sum()} are {name}, {lift:g} times what chance would "
            "give: looked at, no verdict"
        )
        return Finding("one window", NOTE, self.first, self.clips[self.first], text)


def look(heard: Heard, seed: int = 0, quiet: bool = False) -> Deep:
    """Train a small net on a corpus, and ask it about windows.

    Arguments
    ---------
    heard : Heard
        The corpus; its waveforms lie in a temporary file meanwhile.
    seed : int
        Of the net, and of the clips that it learns from.
    quiet : bool
        No progress bar.
    """
    seconds = min(float(np.quantile(heard.measure("seconds"), 0.75)), SECONDS)
    classes = sorted(set(heard.labels.tolist()))
    with tempfile.TemporaryDirectory() as folder:
        pack = packed(heard, Path(folder) / "samples.i16", seconds)
        rows = pd.DataFrame({"ID": pack.ids, "label": heard.labels})
        some = rows.sample(min(len(rows), LEARNED), random_state=seed)
        size = min(BATCH, len(some))
        learned = Batches(pack, some, classes, size, seconds, seed_of("deep", seed))

        def batches(epoch: int) -> Iterable[Batch]:
            learned.epoch = epoch
            return learned

        epochs = int(np.clip(PASSES // len(some), *EPOCHS))
        of_weights = seed_of("deep weights", seed)
        net = fitted(
            len(classes), batches, cross_entropy, epochs, ADAM, of_weights, "learning", quiet
        )
        told = alone(net, Batches(pack, rows, classes, BATCH, seconds), WINDOW, RATE)
    return Deep(told, heard.labels)


def packed(heard: Heard, file: Path, seconds: float) -> Pack:
    """The middles of all clips, at most this long, in a file."""
    offsets = [0]
    with file.open("wb") as to:
        for clip in range(len(heard.labels)):
            samples = cropped(heard.read(clip), seconds)
            to.write((samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
            offsets.append(offsets[-1] + len(samples))
    ids = [str(clip) for clip in range(len(heard.labels))]
    return Pack(np.memmap(file, "<i2", "r"), np.array(offsets, np.int64), ids, RATE, [], "")
