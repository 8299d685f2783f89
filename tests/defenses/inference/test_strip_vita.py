"""STRIP-ViTA by its official definition, and its calibration."""

import math

import numpy as np
import pytest
import torch

from bdlib.corpus import Batch
from bdlib.defenses.inference.screening import PRESETS
from bdlib.defenses.inference.strip_vita import StripVita, entropies
from bdlib.errors import InputError
from bdlib.features import FrontEnd
from bdlib.models.classifier import SpeechClassifier


class Samples(FrontEnd):
    """Waveforms as they are."""

    size = 1

    def compute(self, wavs, lens):
        return wavs[:, :, None]


class Sums(SpeechClassifier):
    """Two classes: the logit of the first is a hundred times the sum over the clip, or NaN."""

    def embed(self, features, lens):
        self.lens = lens
        return features.sum((1, 2))[:, None] * torch.tensor([100.0, 0.0])

    def classify(self, embeddings):
        return embeddings


NET = Sums(Samples())


def batches(wavs, size=7):
    wavs = torch.as_tensor(wavs)
    return [
        Batch([f"u{i}" for i in range(len(part))], part, torch.ones(len(part)), torch.zeros(len(part)).long())
        for part in wavs.split(size)
    ]  # fmt: skip


def levels(count, seed=0):
    """Clips of ten samples of one level each, in steps of 16 bits."""
    drawn = torch.randint(-60, 60, (count, 1), generator=torch.Generator().manual_seed(seed))
    return drawn.float().expand(count, 10) / 2**15


def calibrated(frr=0.03, overlays=20, count=100):
    validation = batches(levels(count))
    return StripVita(overlays, frr).calibrate(NET, lambda: validation, seed=3)


def test_entropies_are_in_bits():
    logits = torch.tensor([[0.0, 0, 0, 0], [100.0, 0, 0, 0], [0.0, 0, -1e4, -torch.inf]])
    assert torch.allclose(entropies(logits), torch.tensor([2.0, 0, 1]).double(), atol=1e-5)


def test_suspicion_by_hand():
    """Overlays are added with weight one and not clipped; the mean is over entropies, not votes."""
    defense = calibrated(overlays=4)
    wavs = torch.cat([levels(2, seed=9), torch.full((1, 10), 0.9)])
    screened = defense.guard(NET, seed=5)
    found = screened.suspicion(wavs, torch.ones(3))
    drawn = torch.randint(100, (3, 4), generator=torch.Generator().manual_seed(5))
    pool = levels(100)
    for wav, chosen, suspicion in zip(wavs, drawn, found, strict=True):
        sums = [100 * float((wav + pool[i]).sum()) for i in chosen]
        shares = 1 / (1 + np.exp(-np.array(sums)))
        bits = [-sum(p * math.log2(p) for p in (s, 1 - s) if p > 0) for s in shares]
        assert abs(float(suspicion) + np.mean(bits)) < 1e-4
    assert -1e-6 < float(found[2]) <= 0 and found[:2].max() < -1e-3  # 0.9 + x stays certain


def test_the_same_answers_twice_and_others_with_another_seed():
    defense, wavs = calibrated(), levels(5, seed=1)
    screened = defense.guard(NET, 0)
    first = screened.suspicion(wavs, torch.ones(5))
    assert screened.eval().suspicion(wavs, torch.ones(5)).equal(first)
    assert not defense.guard(NET, 1).suspicion(wavs, torch.ones(5)).equal(first)
    assert screened(wavs, torch.ones(5)).equal(NET(wavs, torch.ones(5)))  # answers stay


def test_overlays_are_cut_to_the_clip():
    """What lies after the end of a short clip stays silent, and its length is told."""
    defense = calibrated()
    wavs = torch.zeros(1, 10)
    wavs[:, :4] = 0.001
    heard = []
    net = Sums(Samples())
    net.register_forward_pre_hook(lambda module, inputs: heard.append(inputs))
    defense.guard(net, 0).suspicion(wavs, torch.tensor([0.4]))
    mixed, lens = (torch.cat(parts) for parts in zip(*heard, strict=True))
    assert mixed.shape == (20, 10) and lens.tolist() == pytest.approx([0.4] * 20)
    assert not mixed[:, 4:].any() and mixed[:, :4].std(0).min() > 0


@pytest.mark.parametrize("frr", [0.0, 0.03, 0.1, 0.25, 0.5, 0.99])
@pytest.mark.parametrize("count", [37, 100])
def test_the_preset_share_of_clean_clips_is_rejected(frr, count):
    """Give or take one clip; entropies that are equal are rejected together."""
    defense = calibrated(frr, count=count)
    thresholds = defense.thresholds
    assert next(iter(thresholds)) == frr and set(PRESETS) <= set(thresholds)
    benign = np.array(defense.benign)
    for rate, least in thresholds.items():
        rejected = int((benign >= least).sum())
        equal = int((benign == least).sum())
        assert abs(rejected - rate * count) <= 1 + equal - 1


def test_low_entropy_is_what_is_rejected():
    defense = calibrated(0.1)
    certain = defense.guard(NET, 0).suspicion(torch.full((1, 10), 0.5), torch.ones(1))
    assert float(certain) >= defense.thresholds[0.1]


def test_nan_is_left_out():
    """Overlays without a number count neither as certain nor as uncertain."""

    class Odd(Sums):
        def classify(self, embeddings):
            missing = torch.tensor([[0.0], [torch.nan]]).repeat(len(embeddings) // 2, 1)
            return 0 * embeddings + missing

    found = calibrated().guard(Odd(Samples()), 0).suspicion(levels(3, 4), torch.ones(3))
    assert found.tolist() == [-1.0] * 3


@pytest.mark.parametrize("settings", [(0, 0.03), (10, 1.0), (10, -0.1)])
def test_settings_that_are_none(settings):
    with pytest.raises(InputError, match=r"`(overlays|frr)` is "):
        StripVita(*settings)
    with pytest.raises(InputError, match="calibrate"):
        StripVita().guard(NET, 0)
    assert not StripVita().thresholds and StripVita().selection == "validation"
