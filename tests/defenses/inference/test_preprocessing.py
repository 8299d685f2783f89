"""Preprocessing sample by sample."""

import numpy as np
import pytest
import torch
from scipy.signal import medfilt

from bdlib.defenses.inference.median_filter import MedianFilter
from bdlib.defenses.inference.quantise import Quantise
from bdlib.defenses.inference.squeeze import Squeeze
from bdlib.errors import InputError
from bdlib.features import FrontEnd
from bdlib.models.classifier import SpeechClassifier

RATE = 16000


def speech(batch=2, samples=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pcm = torch.randint(-20000, 20000, (batch, samples), generator=generator)
    return pcm / 2**15


def tone(hertz, samples=RATE):
    return torch.sin(2 * np.pi * hertz * torch.arange(samples) / RATE)[None] / 2


def level(wavs, hertz):
    """Amplitude of one frequency."""
    spectrum = np.abs(np.fft.rfft(wavs[0].numpy())) * 2 / wavs.shape[1]
    return spectrum[round(hertz * wavs.shape[1] / RATE)]


@pytest.mark.parametrize("quantum", [1, 64, 512, 2048, 100])
def test_quantise(quantum):
    wavs = speech()
    once = Quantise(quantum).transform(wavs)
    assert once.equal(Quantise(quantum).transform(once))  # idempotent
    steps = once * 2**15 / quantum
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert float((once - wavs).abs().max()) <= quantum / 2 / 2**15 + 1e-7
    assert once.equal(wavs) == (quantum == 1)


def test_quantise_by_hand():
    wavs = torch.tensor([[0, 31, 33, -31, -33, 95, 97]]) / 2**15
    assert (Quantise(64).transform(wavs) * 2**15).tolist() == [[0, 0, 64, 0, -64, 64, 128]]


@pytest.mark.parametrize("window", [1, 3, 5, 15])
def test_median(window):
    wavs = speech()
    found = MedianFilter(window).transform(wavs)
    inside = slice(window // 2, -(window // 2) or None)
    wanted = np.stack([medfilt(x, window) for x in wavs.numpy()])
    assert np.array_equal(found.numpy()[:, inside], wanted[:, inside])
    assert found.shape == wavs.shape
    click = torch.zeros(1, 50)
    click[0, [0, 25, 49]] = 1.0
    assert bool(MedianFilter(window).transform(click).any()) == (window == 1)


@pytest.mark.parametrize("every", [2, 4, 8])
def test_squeeze_as_printed(every):
    """Every nth sample exact, zeros between; the level falls by n and the spectrum is mirrored."""
    wavs = speech()
    found = Squeeze(1 / every).transform(wavs)
    assert found[:, ::every].equal(wavs[:, ::every]) and wavs.equal(speech())
    kept = torch.zeros(wavs.shape[1], dtype=torch.bool)
    kept[::every] = True
    assert not found[:, ~kept].any()
    squeezed = Squeeze(1 / every).transform(tone(500))
    for mirror in (500, RATE // every - 500):
        assert abs(level(squeezed, mirror) - 0.5 / every) < 1e-3


@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.375, 0.25, 0.125])
def test_squeeze_with_filters(ratio):
    """Below the new Nyquist frequency all stays; above it nothing does, and nothing is mirrored."""
    squeeze = Squeeze(ratio, "resample")
    limit = ratio * RATE / 2
    low, high = squeeze.transform(tone(0.5 * limit)), squeeze.transform(tone(1.2 * limit))
    assert low.shape == high.shape == (1, RATE)
    assert abs(level(low, 0.5 * limit) - 0.5) < 0.02
    inner = slice(500, -500)
    assert float(high[:, inner].abs().max()) < 0.02
    mirror = RATE * ratio - 0.5 * limit
    assert level(low, min(mirror, RATE - mirror)) < 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quantise(0), "`quantum` is 0"),
        (lambda: MedianFilter(4), "`window` is 4: give an odd"),
        (lambda: Squeeze(0.375), "only every nth"),
        (lambda: Squeeze(0.0), "`ratio` is 0.0"),
        (lambda: Squeeze(1.5, "resample"), "`ratio` is 1.5"),
        (lambda: Squeeze(0.5, "cubic"), "`mode` is cubic"),
    ],
)
def test_settings_that_are_none(make, message):
    with pytest.raises(InputError, match=message):
        make()


class Samples(FrontEnd):
    """Waveforms as they are."""

    size = 1

    def compute(self, wavs, lens):
        return wavs[:, :, None]


class Loudest(SpeechClassifier):
    """Logits are the largest sample and the number of zeros."""

    def embed(self, features, lens):
        return torch.stack([features.amax((1, 2)), (features == 0).sum((1, 2)).float()], 1)

    def classify(self, embeddings):
        return embeddings


def test_a_guarded_classifier_hears_the_change_in_every_method():
    net, wavs, lens = Loudest(Samples()), speech(), torch.ones(2)
    guarded = Squeeze(0.5).guard(net, 0)
    changed = Squeeze(0.5).transform(wavs)
    assert (
        guarded(wavs, lens).equal(net(changed, lens)) and (guarded(wavs, lens)[:, 1] > 1999).all()
    )
    assert guarded.features(wavs, lens).equal(net.features(changed, lens))
    by_steps = guarded.classify(guarded.embed(guarded.features(wavs, lens), lens))
    assert by_steps.equal(net(changed, lens))
    assert guarded.suspicion(wavs, lens) is None
