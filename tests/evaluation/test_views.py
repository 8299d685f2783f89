"""Votes and energies are those of the model's own views, in any batches."""

import numpy as np
import pytest
import torch

from bdlib.corpus import Batch
from bdlib.errors import InputError
from bdlib.evaluation.views import energies, votes
from bdlib.features import NormalizedFbank
from bdlib.models.wide_resnet import WideResNet


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model = WideResNet(NormalizedFbank(8), 5, depth=10, width=1, view_frames=21)
    model.front_end.mean.fill_(-5.0)
    model.front_end.deviation.fill_(3.0)
    return model


@pytest.fixture(scope="module")
def wavs():
    """Five clips of 32 frames, no two alike."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 5120, generator=generator) * torch.linspace(0.02, 0.5, 5)[:, None]


def batches(wavs, size):
    for part in wavs.split(size):
        ids = [str(i) for i in range(len(part))]
        yield Batch(ids, part, torch.ones(len(part)), torch.zeros(len(part), dtype=torch.int64))


def test_a_vote_is_what_the_model_says_of_that_slice_alone(net, wavs):
    features, logits = votes(net.train(), wavs[2])
    assert not net.training
    assert (features.shape, logits.shape) == ((32, 8), (12, 5))
    with torch.no_grad():
        assert np.allclose(features, net.features(wavs[2:3], torch.ones(1))[0], atol=1e-6)
        for start in range(12):
            alone = net.view_logits(torch.from_numpy(features[None, start : start + 21]))
            assert np.allclose(logits[start], alone[0, 0], atol=1e-5)
    assert logits.std(0).min() > 1e-4  # views differ, so the comparison means something


def test_the_logsumexp_of_votes_is_what_the_model_decides_by(net, wavs):
    with torch.no_grad():
        joined = net.eval()(wavs, torch.ones(5)).numpy()
    for wav, logits in zip(wavs, joined, strict=True):
        assert np.allclose(np.logaddexp.reduce(votes(net, wav)[1]), logits, atol=1e-5)


def test_energies_equal_brute_force_whatever_the_batches(net, wavs):
    expected = []
    for wav in wavs:
        features, total = net.features(wav[None], torch.ones(1)), 0.0
        for start in range(12):
            with torch.no_grad():
                view = net.view_logits(features[:, start : start + 21])
            total += sum(np.exp(float(logit)) for logit in view.flatten())
        expected.append(-np.log(total))
    for size in (1, 2, 5):
        measured = energies(net.train(), batches(wavs, size))
        assert measured.shape == (5,) and measured.dtype == np.float64
        assert np.allclose(measured, expected, atol=1e-5)
    assert np.std(expected) > 1e-3
    assert not net.training


def test_noise_is_drawn_in_the_shape_of_the_features_and_by_its_generator_alone(net, wavs):
    def of_noise(wavs, size, seed):
        return energies(net, batches(wavs, size), torch.Generator().manual_seed(seed))

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        clips = [net.view_logits(torch.randn(1, 32, 8, generator=generator)) for _ in wavs]
    expected = [-float(logits.logsumexp((1, 2))) for logits in clips]
    torch.manual_seed(9)
    assert np.allclose(of_noise(wavs, 5, 3), expected, atol=1e-5)
    assert np.allclose(of_noise(0 * wavs, 2, 3), expected, atol=1e-5)  # nothing of the clips
    assert not np.allclose(of_noise(wavs, 5, 4), expected, atol=1e-3)
    assert np.std(expected) > 1e-4


def test_no_gradients_are_kept_and_no_weights_are_changed(net, wavs):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    votes(net, wavs[0])
    energies(net, batches(wavs, 2))
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    # A training can go on with what the figures have looked at.
    net.train()(wavs, torch.ones(5)).sum().backward()
    net.zero_grad(set_to_none=True)


def test_a_clip_shorter_than_a_view_is_refused(net, wavs):
    with pytest.raises(InputError, match="shorter than a view"):
        votes(net, wavs[0, :1600])
    with pytest.raises(InputError, match="shorter than a view"):
        energies(net, batches(wavs[:, :1600], 2))
    assert energies(net, []).shape == (0,)
