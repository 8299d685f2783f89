"""Pruning: which layers and channels, that what is cut is dead, and all rates at once."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData
from bdlib.defenses.repair.dormant import last, prune, sleepers
from bdlib.defenses.repair.layers import activations, watched_layers
from bdlib.defenses.repair.pruning import Pruning
from bdlib.defenses.repair.surface import surface
from bdlib.errors import InputError
from bdlib.features import FrontEnd
from bdlib.files import COMMON
from bdlib.models.classifier import SpeechClassifier
from bdlib.stages.document import Document

RECIPES = COMMON.parent
MODELS = {  # convolutions, those with a normalisation of their own, those normalised first
    "RAVDESS/hparams/xvector_small": (5, 5, 0),
    "RAVDESS/hparams/ecapa_small": (38, 30, 0),
    "RAVDESS/hparams/resnet_small": (18, 13, 12),
    "SpeechCommands/hparams/keyword_resnet": (21, 21, 21),
    "SpeechCommands/hparams/base_wrn_small": (16, 0, 0),
}


def clips(count=3, seed=0, samples=16000):
    generator = torch.Generator().manual_seed(seed)
    wavs = torch.randn(count, samples, generator=generator) / 10
    return Batch(
        [f"u{i}" for i in range(count)], wavs, torch.ones(count), torch.zeros(count).long()
    )


def clean(*batches):
    return CleanData(None, lambda: batches, 0, 0)


def classifier(model, n_classes=4):
    """With statistics and shifts that are not those of a fresh net."""
    torch.manual_seed(0)
    net = Document(RECIPES / f"{model}.yaml").build()["model"]["classifier"](n_classes=n_classes)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return net.eval()


def outputs(net, modules, batch):
    found = {}
    handles = [
        module.register_forward_hook(lambda m, i, o: found.__setitem__(m, o.detach().clone()))
        for module in modules
    ]
    with torch.no_grad():
        net(batch.wavs, batch.lens)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("model", MODELS)
def test_a_pruned_channel_is_dead_for_every_input(model):
    """Half of all channels: not one value that is not zero, and all others as alive as before."""
    net = classifier(model)
    every = watched_layers(net, clips())
    counts = len(every), sum(x.norm is not None for x in every), sum(x.normed_first for x in every)
    assert counts == MODELS[model]
    cut = {layer: torch.arange(0, layer.channels, 2) for layer in every}
    ends = [layer.norm or layer.conv for layer in every]
    before = outputs(net, ends, clips(seed=5))
    assert all(before[end][:, cut[layer]].any() for layer, end in zip(every, ends, strict=True))
    for layer, channels in cut.items():
        prune(layer, channels)
    after = outputs(net, ends, clips(seed=5))
    for layer, end in zip(every, ends, strict=True):
        assert not after[end][:, ::2].any(), layer.name
    assert after[ends[0]][:, 1::2].equal(before[ends[0]][:, 1::2])


@pytest.mark.parametrize("model", ["RAVDESS/hparams/ecapa", "RAVDESS/hparams/resnet"])
def test_convolutions_at_the_published_sizes(model):
    net = Document(RECIPES / f"{model}.yaml").build()["model"]["classifier"](n_classes=4)
    every = watched_layers(net, clips(1, samples=4000))
    assert len(every) == {"ecapa": 38, "resnet": 54}[model.rpartition("/")[2]]
    assert every[0].conv.in_channels in (1, 80) and every[-1].norm is None


def test_floor_rule():
    """Five layers: 0.2 and 0.3 are one, 0.4 and 0.5 are two; never none (EmoBack section 6.2.3)."""
    rates = (-1.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9, 1.0)
    assert [len(last(range(5), rate)) for rate in rates] == [1, 1, 1, 1, 1, 2, 2, 3, 4, 5]
    assert last(range(38), -1.0) == [37] and last(range(38), 0.1) == [35, 36, 37]
    assert [len(last(range(54), rate)) for rate in (0.1, 0.5, 0.9)] == [5, 27, 48]


def test_sleepers_are_the_least_active_and_rounded_down():
    means = torch.tensor([0.3, 0.1, 0.1, 0.5, 0.0])
    assert sleepers(means, 0.59).tolist() == [4, 1]
    assert sleepers(means, 0.6).tolist() == [4, 1, 2]  # 0.6 * 5 is no 2.9999
    assert sleepers(means, 0.0).tolist() == [] and len(sleepers(means, 1.0)) == 5


class Front(FrontEnd):
    """The waveform as one channel of features."""

    size = 1

    def compute(self, wavs, lens):
        return wavs[:, :, None]


class Tiny(SpeechClassifier):
    """Three convolutions of width 1, whose activations are known."""

    def __init__(self):
        super().__init__(Front())
        self.one, self.two, self.three = nn.Conv1d(1, 3, 1), nn.Conv1d(3, 2, 1), nn.Conv1d(2, 2, 1)
        self.norm = nn.BatchNorm1d(3)
        with torch.no_grad():
            self.one.weight.copy_(torch.tensor([1.0, -1.0, 0.5])[:, None, None])
            self.one.bias.copy_(torch.tensor([0.0, 0.0, -9.0]))

    def embed(self, features, lens):
        x = self.norm(torch.relu(self.one(features.transpose(1, 2))))
        x = self.two(x)
        x += x.flip(1)  # a residual, added in place
        return self.three(x).mean(2)

    def classify(self, embeddings):
        return embeddings


def test_activations_by_hand():
    """max(x, 0), so that a channel that is far below zero sleeps."""
    net, batches = Tiny().eval(), []
    for level in (0.2, -0.1):
        batches.append(replace(clips(2, samples=8), wavs=torch.full((2, 8), level)))
    batches[1] = replace(batches[1], wavs=torch.full((2, 8), -0.1))
    every = watched_layers(net, batches[0])
    assert [layer.name for layer in every] == ["one", "two", "three"]
    means = activations(net, every, batches)["one"]
    assert torch.allclose(means, torch.tensor([0.1, 0.05, 0.0], dtype=torch.float64))
    assert sleepers(means, 0.7).tolist() == [2, 1]
    assert activations(net, every[:1], batches).keys() == {"one"}


def test_what_reads_a_sum_is_not_taken_for_the_channel():
    """Were the shift of a normalisation behind a residual zeroed, the residual would die too."""

    class Residual(Tiny):
        def __init__(self):
            super().__init__()
            self.after = nn.BatchNorm1d(2)

        def embed(self, features, lens):
            x = self.two(self.one(features.transpose(1, 2)))
            x += x.flip(1)
            return self.three(self.after(x)).mean(2)

    assert [layer.norm for layer in watched_layers(Residual(), clips(2, samples=8))] == [None] * 3


def test_repair_cuts_the_share_in_the_last_layers_and_nowhere_else():
    model = "RAVDESS/hparams/xvector_small"
    net, untouched = classifier(model), classifier(model)
    repaired = Pruning(0.25, 0.4).repair(net, clean(clips(), clips(seed=1)))
    means = activations(untouched, watched_layers(untouched, clips()), [clips(), clips(seed=1)])
    for number, (layer, old) in enumerate(
        zip(watched_layers(repaired, clips()), watched_layers(untouched, clips()), strict=True)
    ):
        dead = (layer.conv.weight == 0).flatten(1).all(1)
        assert int(dead.sum()) == (layer.channels // 4 if number >= 3 else 0)
        if number >= 3:
            assert means[layer.name][dead].max() <= means[layer.name][~dead].min()
            assert not layer.norm.bias[dead].any() and not layer.norm.weight[dead].any()
        assert layer.conv.weight[~dead].equal(old.conv.weight[~dead])
    assert Pruning().clean_share == 0 and Pruning().selection == "validation"


def test_no_rate_changes_nothing():
    net = classifier("RAVDESS/hparams/xvector_small")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    Pruning(0.0, 1.0).repair(net, clean(clips()))
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("rates", [(-0.1, 0.5), (1.1, 0.5), (0.5, -0.5), (0.5, 1.5)])
def test_rates_that_are_none(rates):
    with pytest.raises(InputError, match="rate` is "):
        Pruning(*rates)


CONV_RATES, PRUNING_RATES = (-1.0, 0.2, 0.5, 1.0), (0.0, 0.3, 0.7)


@pytest.mark.parametrize(
    "model",
    ["RAVDESS/hparams/xvector_small", "RAVDESS/hparams/ecapa_small", "RAVDESS/hparams/resnet_small",
     "SpeechCommands/hparams/base_wrn_small"],
)  # fmt: skip
def test_every_cell_of_a_surface_answers_as_its_pruning(model):
    net = classifier(model, n_classes=20)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    ranked, asked = [clips(2), clips(1, seed=1)], [clips(2, seed=2), clips(1, seed=3)]
    found = surface(net, ranked, asked, CONV_RATES, PRUNING_RATES)
    assert set(found) == {(c, p) for c in CONV_RATES for p in PRUNING_RATES}
    for (conv_rate, pruning_rate), logits in found.items():
        pruned = Pruning(pruning_rate, conv_rate).repair(copy.deepcopy(net), clean(*ranked))
        with torch.no_grad():
            wanted = torch.cat([pruned(b.wavs, b.lens) for b in asked])
        assert torch.allclose(logits, wanted, atol=1e-5), (conv_rate, pruning_rate)
    whole = found[0.5, 0.0]
    assert found[1.0, 0.0].equal(whole) and not torch.allclose(found[0.5, 0.7], whole, atol=1e-3)
    assert all(value.equal(state[name]) for name, value in net.state_dict().items())
    assert "features" not in vars(net) and not any("forward" in vars(m) for m in net.modules())


def test_what_is_below_the_cut_is_computed_once(monkeypatch):
    """Of five layers, the lowest runs three times: to find the layers, to rank, to remember."""
    net = classifier("RAVDESS/hparams/xvector_small")
    seen = []
    first = next(m for m in net.modules() if isinstance(m, torch.nn.Conv1d))
    convolve = type(first)._conv_forward
    monkeypatch.setattr(
        type(first), "_conv_forward",
        lambda self, *inputs: seen.append(self is first) or convolve(self, *inputs),
    )  # fmt: skip
    surface(net, [clips(2)], [clips(2, seed=1)], (0.2, 0.4, 0.8), (0.2, 0.5))
    assert seen.count(True) == 3
    # Five layers each time, then one, two or four of them at two rates.
    assert len(seen) == 3 * 5 + 2 * (1 + 2 + 4)


def test_layers_that_are_skipped_are_not_counted():
    net = classifier("RAVDESS/hparams/ecapa_small")
    state = {name: value.clone() for name, value in net.state_dict().items()}
    Pruning(0.5, -1.0, skip_layers="asp|se_block|fc").repair(net, clean(clips()))
    changed = {name for name, value in net.state_dict().items() if not value.equal(state[name])}
    assert changed and all(name.startswith("encoder.mfa.") for name in changed)
    with pytest.raises(InputError, match="`skip_layers` is encoder: no convolution is left"):
        Pruning(skip_layers="encoder").repair(net, clean(clips()))
    with pytest.raises(InputError, match="no regular expression"):
        Pruning(skip_layers="(")
