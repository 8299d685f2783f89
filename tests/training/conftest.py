"""A corpus of three tones that any classifier learns in seconds."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from bdlib import listing
from bdlib.corpus import Batches
from bdlib.pack import pack

RATE = 8000
CLASSES = ("high", "low", "middle")
HERTZ = {"low": 400, "middle": 1100, "high": 2500}


def _clips(folder, count, seed):
    generator = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    for label, hertz in HERTZ.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            tone = np.sin(2 * np.pi * hertz * generator.uniform(0.9, 1.1) * time)
            sound = 0.2 * tone + 0.05 * generator.standard_normal(RATE)
            soundfile.write(folder / label / f"{label}{seed}{number}.wav", sound, RATE)
    rows = listing.from_folder(folder)
    return rows, pack(rows, folder, folder.parent / f"{folder.name}-pack", RATE)


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """`train()` and `valid()` make fresh `Batches`; crops of the training clips are random."""
    folder = tmp_path_factory.mktemp("tones")
    parts = {name: _clips(folder / name, n, i) for i, (name, n) in enumerate([("t", 12), ("v", 6)])}

    def batches(name, seed, seconds, size=6, shard=(0, 1)):
        rows, packed = parts[name]
        return Batches(packed, rows, CLASSES, size, seconds, seed, shard=shard)

    return SimpleNamespace(
        rate=RATE,
        train=lambda seed=0, seconds=0.7, *more: batches("t", seed, seconds, *more),
        valid=lambda seconds=0.7: batches("v", None, seconds),
    )
