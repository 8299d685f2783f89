"""Small corpora of made-up words, and an encoder that needs no weights."""

import numpy as np
import pytest
import soundfile

from bdlib.encoders import ENCODERS, RATE, Encoder
from bdlib.scanning import scan as scanning

WORDS = {"go": 300, "left": 700, "no": 1200, "stop": 1800, "up": 2500, "yes": 3300}  # Hz


class Bands(Encoder):
    """Level by band below 4 kHz."""

    name, size, digest = "words", 40, "made"
    file = None

    def encode(self, wavs):
        """See `Encoder`."""
        power = np.abs(np.fft.rfft(wavs[:, :RATE], axis=1))[:, :4000] ** 2
        return np.log(power.reshape(len(wavs), self.size, -1).mean(2) + 1e-2)


def spoken(label, seed, seconds=1.0):
    """A word: noise about its pitch in the middle of a clip, quiet noise around."""
    draws = np.random.Generator(np.random.PCG64(seed))
    time = np.arange(round(seconds * RATE)) / RATE
    carrier = np.sin(
        2 * np.pi * WORDS[label] * draws.uniform(0.95, 1.05) * time + draws.uniform(0, 6)
    )
    noise = draws.standard_normal(len(time))
    shape = np.exp(-(((time - draws.uniform(0.4, 0.6)) / 0.12) ** 2))
    return (0.3 * shape * (carrier + 0.5 * noise) + 0.0005 * noise).astype(np.float32)


@pytest.fixture(name="spoken")
def spoken_fixture():
    """The function of this name."""
    return spoken


@pytest.fixture
def encoder(monkeypatch):
    """`words` and `speakers` are encoders that need no weights."""
    monkeypatch.setattr(scanning, "ENCODERS", {"words": Bands})
    monkeypatch.setitem(ENCODERS, "words", Bands)
    return Bands()


@pytest.fixture
def corpus(tmp_path):
    """A folder a class, 25 clips each."""
    root = tmp_path / "corpus"
    for number, label in enumerate(WORDS):
        (root / label).mkdir(parents=True)
        for clip in range(25):
            wave = spoken(label, 100 * number + clip)
            soundfile.write(root / label / f"{clip:02}.wav", wave, RATE, subtype="PCM_16")
    return root


@pytest.fixture
def poisoned(corpus):
    """The corpus with twelve clips of other words in `left`."""
    for clip in range(12):
        label = ("no", "stop", "yes")[clip % 3]
        (corpus / label / f"{clip:02}.wav").rename(corpus / "left" / f"in{clip:02}.wav")
    return corpus
