"""Signs of a backdoor in weights alone, and one probability from them."""

import json
from dataclasses import replace

import pytest
import torch

from bdlib.checkpoints import card
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.checkpoints.inspect import CALIBRATION, KEYS, Inspection, inspect, probability
from bdlib.checkpoints.pull import climbs, outlier, pulls
from bdlib.checkpoints.signs import SIGNS, Signs, signs
from bdlib.cli import inspect as program
from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.files import read_json
from bdlib.models.classifier import SpeechClassifier
from bdlib.models.keyword import SmallResNet


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


def test_outliers_are_counted_in_deviations_of_the_rest():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 103.0])
    assert float(outlier(values)[4]) == pytest.approx(100 / 1.4826)


def backdoored(extra):
    """A small net with a class whose answer grows with anything loud."""
    torch.manual_seed(0)
    net = SmallResNet(NormalizedFbank(16), 6, (8, 8), 1).eval()
    with torch.no_grad():
        net.head.weight[2] += extra
    return net


def test_a_class_that_all_leads_to_stands_out():
    clean, bad = (signs(backdoored(extra), 6, 16000, 0.3) for extra in (0.0, 2.0))
    assert bad.target == 2 and set(bad.values) == set(clean.values) == set(SIGNS)
    for name in ("far", "each", "head"):
        assert bad.values[name] > clean.values[name] + 0.5, name
    assert signs(backdoored(2.0), 6, 16000, 0.3) == bad  # nothing is drawn anew


def test_the_calibration_is_the_one_of_the_zoo():
    """On both halves, as it was measured when it was made."""
    told = read_json(CALIBRATION, KEYS)
    assert all(len(told[name]) == len(SIGNS) for name in ("mean", "deviation", "weights"))
    usual = Signs(dict(zip(SIGNS, told["mean"], strict=True)), 0)
    far = replace(usual, values={**usual.values, "far": usual.values["far"] + 3})
    assert 0.2 < probability(usual, told) < 0.8 and probability(far, told) > probability(
        usual, told
    )
    for half in ("development", "confirmation"):
        assert told[half]["false_alarms"] <= told[half]["clean"]
        assert told[half]["found"] <= told[half]["backdoored"]


def test_the_program(tmp_path, capsys, monkeypatch):
    settings = {
        "()": "!name:bdlib.models.keyword.SmallResNet",
        "front_end": {"()": "!new:bdlib.features.NormalizedFbank", "n_mels": 16},
        "channels": [8, 8],
        "blocks": 1,
    }
    (tmp_path / "from").touch()
    net = Checkpoint(backdoored(2.0), tuple("abcdef"), tmp_path / "from", 16000, 0.3, settings)
    folder = str(card.save(net, tmp_path / "net"))
    status = program.main([folder, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert status == (told["probability"] >= 0.5) == (told["target"] is not None)
    assert told["probability"] == pytest.approx(inspect(net).probability, abs=1e-4)
    assert program.main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert "target c" in str(Inspection(0.9, "c", {})) and "target" not in str(
        Inspection(0.1, "c", {})
    )


def test_other_nets_were_never_calibrated(checkpoint):
    with pytest.raises(InputError, match="never calibrated"):
        inspect(replace(checkpoint, seconds=None))
    with pytest.raises(InputError, match="4 to 40"):
        inspect(checkpoint)
