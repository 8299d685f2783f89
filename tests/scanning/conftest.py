"""Small corpora of made-up words, and an encoder that needs no weights."""

import numpy as np
import pytest
import soundfile

from bdlib.encoders import ENCODERS, RATE, Encoder
from bdlib.scanning import choice

WORDS = ["go", "left", "no", "stop", "up", "yes"]


class Bands(Encoder):
    """Level by band below 4 kHz."""

    name, size, digest = "words", 40, "made"
    file = None

    def encode(self, wavs):
        """See `Encoder`."""
        power = np.abs(np.fft.rfft(wavs[:, :RATE], axis=1))[:, :4000] ** 2
        return np.log(power.reshape(len(wavs), self.size, -1).mean(2) + 1e-2)


@pytest.fixture
def encoder(monkeypatch):
    """`words` and `speakers` are encoders that need no weights."""
    monkeypatch.setattr(choice, "ENCODERS", {"words": Bands})
    monkeypatch.setitem(ENCODERS, "words", Bands)
    return Bands()


@pytest.fixture
def corpus(tmp_path, spoken):
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
