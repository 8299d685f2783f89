"""What one change of all clips reaches is climbed to, bounded, and free of the scale of logits."""

import importlib
from pathlib import Path

import pytest
import torch

from bdlib.features import NormalizedFbank
from bdlib.models.classifier import SpeechClassifier

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parents[1] / "tools")
    climbs, pulls = (getattr(importlib.import_module("pull"), name) for name in ("climbs", "pulls"))


class Plain(SpeechClassifier):
    """Logits that are the means of the features' bins; one bin may count more."""

    def __init__(self, extra=0.0):
        super().__init__(NormalizedFbank(16))
        self.head = torch.nn.Linear(16, 16)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(16))
            self.head.weight[3, 3] += extra
            self.head.bias.zero_()

    def embed(self, features, lens):
        """(B, T, F) to (B, F)."""
        return features.mean(1)


def test_a_change_is_as_long_as_it_may_be_and_climbs():
    """Of a linear net the largest margin of a class is known."""
    features, lens = torch.zeros(2, 25, 16), torch.ones(2)
    reached = climbs(Plain(1.0), features, lens, range(16), limit=10.0, steps=30)
    # Mean features have a norm of 10 / sqrt(25); the other 15 bins share the way down, which adds a
    # little: 10 / 5 * sqrt(16 / 15).
    plain = 10 / 5 * (16 / 15) ** 0.5
    assert reached[3] > 1.5 * reached[4] and 0.9 * plain <= float(reached[4]) <= plain + 1e-3
    own = climbs(Plain(), features, lens, [0], 10.0, 30, shared=False)
    assert float(own) == pytest.approx(float(reached[0]), rel=0.05)


def test_a_pull_does_not_depend_on_the_scale_of_logits():
    torch.manual_seed(0)
    features, lens = torch.randn(3, 25, 16), torch.ones(3)
    net = Plain(1.0)
    before = pulls(net, features, lens, range(4))
    with torch.no_grad():
        net.head.weight.mul_(7)
    torch.testing.assert_close(pulls(net, features, lens, range(4)), before)
