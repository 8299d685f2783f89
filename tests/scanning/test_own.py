"""The encoder that a scan trains itself: tones of one pitch lie together, which no label told it."""

import numpy as np
import pytest

from bdlib.errors import InputError
from bdlib.scanning import own
from bdlib.scanning.choice import choose
from bdlib.scanning.heard import listen
from bdlib.scanning.own import Own
from bdlib.scanning.sources import Source


@pytest.fixture
def quick(monkeypatch):
    """Seconds of training, not minutes."""
    monkeypatch.setattr(own, "STEPS", 12)
    monkeypatch.setattr(own, "BATCH", 32)


def test_words_lie_together_and_come_from_the_cache(corpus, quick, tmp_path, monkeypatch):
    source = Source.of(corpus)
    encoder, why = choose(source, "none", tmp_path, 0, True)
    heard = listen(source, encoder, tmp_path, quiet=True)
    near = heard.labels[heard.near[0]]
    assert (near == heard.labels[:, None]).mean() > 0.8  # by chance a sixth
    assert heard.encoder == "none" and "without labels" in why
    monkeypatch.setattr(own, "encoder", None)  # nothing is trained again
    again = listen(source, Own(source), tmp_path, quiet=True)
    assert np.array_equal(again.embeddings, heard.embeddings)


def test_labels_do_not_reach_it(corpus):
    source = Source.of(corpus)
    shuffled = source.rows["label"].sample(frac=1, random_state=0).to_numpy()
    other = Source(source.root, source.rows.assign(label=shuffled))
    assert Own(source).digest == Own(other).digest != Own(source, seed=1).digest


def test_without_weights_it_is_named(corpus, monkeypatch):
    monkeypatch.setattr("bdlib.encoders.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="or give `task` none"):
        choose(Source.of(corpus), "auto", None, 0, True)
