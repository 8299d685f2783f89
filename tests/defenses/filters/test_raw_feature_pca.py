"""Raw features, and the control that clusters them."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import lfilter

from bdlib.corpus import Batches
from bdlib.defenses.base import BlindView
from bdlib.defenses.filters.raw_feature_pca import (
    COEFFICIENTS,
    FEATURES,
    ORDER,
    RawFeaturePca,
    lpc,
    mfcc,
)
from bdlib.errors import InputError
from bdlib.pack import Pack

RATE = 8000


def view(clips, labels):
    """Of clips (T,) float with labels."""
    pcm = [np.round(32767 * clip).astype(np.int16) for clip in clips]
    offsets = np.cumsum([0, *map(len, pcm)])
    ids = [f"u{n:03}" for n in range(len(pcm))]
    pack = Pack(np.concatenate(pcm), offsets, ids, RATE, [], "x")
    rows = pd.DataFrame({"ID": ids, "label": labels})

    def batches(chosen):
        return Batches(pack, chosen, sorted(set(labels)), 16, 0.25)

    return BlindView(
        rows, pack, tuple(sorted(set(labels))), 0, None, None, None, batches, None, None
    )


def clips(count=80, loud=0):
    """Noise around tones; the first `loud` with a loud low tone for a time."""
    generator = np.random.default_rng(0)
    time = np.arange(RATE // 4) / RATE
    for number in range(count):
        tone = np.sin(2 * np.pi * generator.uniform(1000, 1200) * time)
        other = np.sin(2 * np.pi * 300 * time) * (time < 0.15) if number < loud else 0
        yield 0.05 * generator.standard_normal(len(time)) + 0.1 * tone + 0.6 * other


def removed(defense, seen):
    scores = defense.scores(seen)
    return set(scores) - set(defense.keep(scores))


def test_lpc_of_an_autoregressive_process():
    taps = [0.9, -0.5]
    noise = np.random.default_rng(0).standard_normal(RATE)
    wavs = torch.from_numpy(0.1 * lfilter([1], [1, -taps[0], -taps[1]], noise)).float()[None]
    found = lpc(wavs, RATE).reshape(-1, ORDER)
    assert found.shape[0] == 98
    np.testing.assert_allclose(found.mean(0)[:3], [*taps, 0], atol=0.05)
    assert not lpc(torch.zeros(1, 2000), RATE).any()


def test_shapes():
    wavs = torch.randn(3, 2000)
    assert {name: f(wavs, RATE).shape[1] for name, f in FEATURES.items()} == {
        "waveform": 2000, "lpc": 23 * ORDER, "mfcc": 26 * COEFFICIENTS
    }  # fmt: skip
    assert not torch.equal(mfcc(wavs, RATE), mfcc(wavs.flip(1), RATE))  # in the order of time


@pytest.mark.parametrize("feature", FEATURES)
def test_what_dominates_the_features_is_found(feature):
    """A control must work where the task is easy, or its failure would say nothing."""
    seen = view(clips(loud=20), ["a"] * 80)
    assert removed(RawFeaturePca(feature), seen) == {f"u{n:03}" for n in range(20)}


def test_a_side_of_every_class_goes():
    seen = view(clips(110), ["a", "b"] * 40 + ["c"] * 30)
    gone = removed(RawFeaturePca(), seen)
    for label, rows in seen.rows.groupby("label"):
        assert 0 < rows["ID"].isin(gone).mean() <= 0.5, label
    assert removed(RawFeaturePca(), seen) == gone


def test_what_cannot_be_judged():
    seen = view([*clips(31), *np.zeros((40, 2000)), *clips(5)], ["a"] * 31 + ["b"] * 40 + ["c"] * 5)
    assert {int(name[1:]) < 31 for name in removed(RawFeaturePca("lpc"), seen)} == {True}
    with pytest.raises(InputError, match="no class has the 30 utterances"):
        RawFeaturePca().scores(view(clips(20), ["a"] * 20))
    with pytest.raises(InputError, match="`feature` is spectrogram: give waveform or lpc or mfcc"):
        RawFeaturePca("spectrogram")
    with pytest.raises(InputError, match="`components` is 0"):
        RawFeaturePca(components=0)
