"""Channels that are zero are taken out: the same answers, of fewer parameters."""

import pytest
import torch
from torch import nn

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData
from bdlib.defenses.repair.dormant import prune
from bdlib.defenses.repair.layers import watched_layers
from bdlib.defenses.repair.pruning import Pruning
from bdlib.defenses.repair.shrink import resize, shrink
from bdlib.files import COMMON
from bdlib.stages.document import Document

LEFT = {  # most that may be left of the parameters, half of all channels cut
    "RAVDESS/hparams/xvector_small": 0.45,
    "RAVDESS/hparams/ecapa_small": 0.95,
    "RAVDESS/hparams/resnet_small": 0.95,
    "SpeechCommands/hparams/keyword_resnet": 0.8,
    "SpeechCommands/hparams/smallcnn": 0.6,
}


def fresh(model):
    torch.manual_seed(0)
    return Document(COMMON.parent / f"{model}.yaml").build()["model"]["classifier"](n_classes=4)


def clips(seed=0):
    wavs = torch.randn(3, 16000, generator=torch.Generator().manual_seed(seed)) / 10
    return Batch(["a", "b", "c"], wavs, torch.tensor([1.0, 1.0, 0.7]), torch.zeros(3).long())


def size(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("model", LEFT)
def test_a_shrunk_network_answers_as_before_and_loads_again(model):
    net = fresh(model).eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    whole = size(net)
    for layer in watched_layers(net, clips()):
        prune(layer, torch.arange(0, layer.channels, 2))
    asked = clips(seed=1)
    with torch.no_grad():
        wanted = net(asked.wavs, asked.lens)
        found = shrink(net, [clips()])(asked.wavs, asked.lens)
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert size(net) < LEFT[model] * whole
    again = fresh(model).eval()
    resize(again, net.state_dict())
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.allclose(again(asked.wavs, asked.lens), found, atol=1e-3)
    assert [str(m) for m in again.modules()] == [str(m) for m in net.modules()]


def test_what_is_alive_stays():
    net = fresh("RAVDESS/hparams/xvector_small").eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    shrink(net, [clips()])
    assert all(value.equal(state[name]) for name, value in net.state_dict().items())


def test_channels_beside_a_convolution_in_groups_stay():
    """The pooling of the nets over views is one group a channel."""
    net = fresh("SpeechCommands/hparams/mvd_small").eval()
    for layer in watched_layers(net, clips()):
        prune(layer, torch.arange(0, layer.channels, 2))
    whole, asked = size(net), clips(seed=1)
    with torch.no_grad():
        wanted = net(asked.wavs, asked.lens)
        found = shrink(net, [clips()])(asked.wavs, asked.lens)
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-3) and size(net) <= whole


def test_a_dead_layer_keeps_a_channel():
    net = fresh("RAVDESS/hparams/xvector_small").eval()
    data = CleanData(None, lambda: [clips()], 0, 0)
    shrunk = Pruning(1.0, 1.0, shrink=True).repair(net, data)
    assert [layer.channels for layer in watched_layers(shrunk, clips())] == [1] * 5
    assert shrunk(clips().wavs, clips().lens).shape == (3, 4)
