"""Nets know the arguments that they were made with."""

import copy

import pytest
import torch

from bdlib.checkpoints import architecture
from bdlib.features import NormalizedFbank, Waveform
from bdlib.making import NEW
from bdlib.models.keyword import SmallResNet
from bdlib.models.wrap import wrap


def test_a_net_is_made_again_from_what_it_remembers(tmp_path):
    """Arguments by place and by name; of a copy, too. Those of its base classes are not its own."""
    net = SmallResNet(NormalizedFbank(20), 3, (4, 8), blocks=1).eval()
    told = copy.deepcopy(net).made_with
    front_end = {"()": f"{NEW}bdlib.features.NormalizedFbank", "n_mels": 20}
    assert told == {
        **{"()": f"{NEW}bdlib.models.keyword.SmallResNet", "front_end": front_end},
        **{"n_classes": 3, "channels": [4, 8], "blocks": 1},
    }
    settings = {key: value for key, value in told.items() if key != "n_classes"}
    settings["()"] = settings["()"].replace(NEW, "!name:")
    again = architecture.build(settings, 3, net.state_dict(), tmp_path)
    wavs = 0.1 * torch.randn(2, 8000)
    assert torch.equal(again(wavs, torch.ones(2)), net(wavs, torch.ones(2)))


def test_what_no_file_holds_is_not_remembered():
    class Mine(SmallResNet):
        """A class that nobody else has."""

    assert Mine(NormalizedFbank(20), 3, (4,), 1).made_with is None
    assert wrap(torch.nn.Linear(8000, 3), ["a", "b", "c"]).made_with is None
    assert Waveform().made_with is None
    with pytest.raises(TypeError, match="unexpected keyword"):
        SmallResNet(NormalizedFbank(20), 3, depth=2)
