"""Noise and one uphill step at test time: what they do to features, and how levels are chosen."""

from dataclasses import replace

import pytest
import torch

from bdlib.corpus import Batch
from bdlib.defenses.inference import feature_noise
from bdlib.defenses.inference.feature_noise import NOISES, STEPS, FeatureNoise
from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.models.keyword import SmallResNet
from bdlib.models.wide_resnet import WideResNet


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return WideResNet(NormalizedFbank(8), 3, depth=10, width=1).eval()


@pytest.fixture(scope="module")
def wavs():
    return 0.1 * torch.randn(4, 16000, generator=torch.Generator().manual_seed(1))


LENS = torch.ones(4)


def features(net, defense, wavs, seed=0):
    return defense.guard(net, seed).features(wavs, LENS)


def test_level_zero_is_the_classifier_itself(net, wavs):
    guarded = FeatureNoise(noise=0.0).guard(net, 0)
    with torch.no_grad():
        assert torch.equal(guarded(wavs, LENS), net(wavs, LENS))


def test_noise_has_its_level_and_its_seed(net, wavs):
    plain = net.features(wavs, LENS)
    noise = features(net, FeatureNoise(noise=0.5), wavs) - plain
    assert noise.std() == pytest.approx(0.5, rel=0.05) and noise.mean().abs() < 0.05
    assert torch.equal(features(net, FeatureNoise(noise=0.5), wavs), plain + noise)
    assert not torch.equal(features(net, FeatureNoise(noise=0.5), wavs, seed=1), plain + noise)


def test_a_test_set_scored_twice_gets_the_same_answers(net, wavs):
    guarded = FeatureNoise(noise=0.5).guard(net, 0)
    with torch.no_grad():
        first, second = guarded(wavs, LENS), guarded(wavs, LENS)
        assert not torch.equal(first, second)  # other clips get other noise
        assert torch.equal(guarded.eval()(wavs, LENS), first)


def height(net, x):
    """Sum over views of the log-sum-exp of their logits, a view at a time."""
    views = [x[start : start + 61] for start in range(len(x) - 60)]
    return sum(net.view_logits(view[None])[0, 0].logsumexp(0) for view in views)


@pytest.mark.parametrize("coverage", [False, True])
def test_the_step_follows_the_gradient_of_all_views(net, wavs, coverage):
    defense = FeatureNoise(noise=0.0, step_size=0.4, coverage=coverage)
    for x, moved in zip(net.features(wavs, LENS), features(net, defense, wavs), strict=True):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(height(net, x), x)
        if coverage:
            seen = [sum(s <= t < s + 61 for s in range(len(x) - 60)) for t in range(len(x))]
            gradient = gradient / torch.tensor(seen)[:, None]
        assert torch.allclose(moved, x + 0.2 * gradient, atol=1e-5)
        assert height(net, moved) > height(net, x)


def test_the_network_is_left_as_it_was(net, wavs):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    FeatureNoise(noise=0.1, step_size=1.0).guard(net, 0)(wavs, LENS)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


class Fragile(WideResNet):
    """Calls every clip class 0 until a frame of its features moves by more than `limit`."""

    limit = 0.6

    def view_logits(self, features):
        far = (features - self.quiet[: len(features)]).std(dim=(1, 2)) > self.limit
        rest = 0 * super().view_logits(features)
        return rest + torch.nn.functional.one_hot(far.long(), 3)[:, None]


@pytest.fixture
def fragile(wavs):
    net = Fragile(NormalizedFbank(8), 3, depth=10, width=1).eval()
    net.quiet = net.features(wavs, LENS).detach()
    return net


def validation(wavs):
    return lambda: [Batch(list("abcd"), wavs, LENS, torch.zeros(4, dtype=torch.int64))]


def test_validation_chooses_the_strongest_noise_that_is_still_understood(fragile, wavs):
    asked = FeatureNoise(noise=0.05, selection="validation")
    found = asked.calibrate(fragile, validation(wavs), 0)
    assert found.noise == 0.5 and found.step_size == 0.0
    fragile.limit = 0.15
    assert asked.calibrate(fragile, validation(wavs), 0).noise == 0.1
    fragile.limit = -1.0  # even clean clips fall: nothing can be lost
    assert asked.calibrate(fragile, validation(wavs), 0).noise == NOISES[-1]
    stepping = replace(asked, step_size=1.0).calibrate(fragile, validation(wavs), 0)
    assert stepping.step_size in STEPS


def test_a_drop_of_the_tolerance_is_allowed_and_the_best_step_is_taken(monkeypatch):
    """0.93 - 0.02 is more than 0.91 as a float."""
    right = {(0.0, 0.0): 93, (0.05, 0.0): 91, (0.1, 0.0): 90, (0.05, 1.0): 89, (0.05, 5.0): 92}
    monkeypatch.setattr(
        FeatureNoise, "guard", lambda self, *given: right.get((self.noise, self.step_size), 0)
    )
    monkeypatch.setattr(feature_noise, "accuracy", lambda right, clips: right / 100)
    asked = FeatureNoise(selection="validation", step_size=3.0)
    chosen = asked.calibrate(None, list, 0)
    assert (chosen.noise, chosen.step_size) == (0.05, 5.0)
    assert replace(asked, tolerance=0.019, step_size=0.0).calibrate(None, list, 0).noise == 0.0


@pytest.mark.parametrize("selection", ["fixed", "oracle"])
def test_given_levels_stay(fragile, wavs, selection):
    asked = FeatureNoise(noise=0.3, step_size=1.0, selection=selection)
    assert asked.calibrate(fragile, validation(wavs), 0) is asked


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": -0.1}, "`noise` is -0.1: give at least 0"),
        ({"noise": float("nan")}, "`noise` is nan: give at least 0"),
        ({"selection": "test"}, "`selection` is test: give fixed or validation or oracle"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(InputError, match=message):
        FeatureNoise(**settings)


def test_a_model_without_views_is_refused():
    with pytest.raises(InputError, match="needs a model with views"):
        FeatureNoise().guard(SmallResNet(NormalizedFbank(16), 3, channels=(4,), blocks=1), 0)
