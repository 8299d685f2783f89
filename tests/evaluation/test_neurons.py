"""Neuron groups and their gradients, by hand on a net whose backdoored channel is known."""

import math

import pytest
import torch
from torch import nn

from bdlib.corpus import Batch
from bdlib.evaluation.neurons import GROUPS, activation_changes, contrast, gradient_norms, grouped
from bdlib.features import FrontEnd
from bdlib.models.classifier import SpeechClassifier
from bdlib.report.figures.neuron_figure import neuron_gradients


class Samples(FrontEnd):
    size = 1

    def compute(self, wavs, lens):
        return wavs[:, :, None]


class Net(SpeechClassifier):
    """One convolution of 20 channels, channel k scaled by k, and a head."""

    def __init__(self):
        super().__init__(Samples())
        self.conv, self.head = nn.Conv1d(1, 20, 1, bias=False), nn.Linear(20, 2, bias=False)
        with torch.no_grad():
            self.conv.weight[:, 0, 0] = torch.arange(20.0)

    def embed(self, features, lens):
        return self.conv(features.transpose(1, 2)).mean(2)

    def classify(self, embeddings):
        return self.head(embeddings)


def batches(wavs, size=2):
    labels = torch.arange(len(wavs)) % 2
    parts = zip(wavs.split(size), labels.split(size), strict=True)
    return [Batch(["a"] * len(w), w, torch.ones(len(w)), part) for w, part in parts]


def test_changes_are_mean_distances_of_the_channels():
    wavs = torch.randn(5, 4)
    moved = wavs + torch.tensor([1.0, 0, 0, 2.0])
    changes = activation_changes(Net(), batches(wavs), batches(moved))
    assert len(changes) == 1
    assert torch.allclose(changes[0], torch.arange(20.0) * math.sqrt(5), rtol=1e-4)


class Overwritten(Net):
    """What its convolution gives is written over before the pass is over."""

    def embed(self, features, lens):
        return self.conv(features.transpose(1, 2)).relu_().mul_(0).mean(2)


def test_changes_are_of_what_a_convolution_gave():
    wavs = torch.randn(5, 4)
    moved = wavs + torch.tensor([1.0, 0, 0, 2.0])
    (changes,) = activation_changes(Overwritten(), batches(wavs), batches(moved))
    assert torch.allclose(changes, torch.arange(20.0) * math.sqrt(5), rtol=1e-4)


def test_groups_are_the_top_the_rest_and_the_bottom_half():
    (groups,) = grouped([torch.arange(40.0)])
    assert set(groups["backdoored"].tolist()) == {39, 38}
    assert set(groups["clean"].tolist()) == set(range(20))
    assert sum(len(part) for part in groups.values()) == 40
    (few,) = grouped([torch.tensor([1.0, 5.0, 2.0])])
    assert few["backdoored"].tolist() == [1] and few["clean"].tolist() == [2, 0]


def test_norms_are_of_the_mean_loss_whatever_the_batches():
    torch.manual_seed(0)
    net, wavs = Net(), torch.randn(5, 4)
    groups = grouped([torch.arange(20.0)])
    measured = gradient_norms(net, batches(wavs, 2), groups)
    (whole,) = batches(wavs, 5)
    loss = nn.functional.cross_entropy(net(whole.wavs, whole.lens), whole.labels)
    (gradient,) = torch.autograd.grad(loss, net.conv.weight)
    norm = gradient.flatten(1).norm(dim=1)
    for group in GROUPS:
        assert measured[group] == pytest.approx([float(norm[groups[0][group]].mean())], rel=1e-4)
    net.conv.requires_grad_(False)
    assert gradient_norms(net, batches(wavs, 2), groups) == measured
    assert not net.conv.weight.requires_grad


def test_a_contrast_is_the_middle_one_over_layers():
    norms = {"backdoored": [4.0, 9.0, 1.0, None, 5.0, 4.0], "hybrid": [2.0, 6.0, 3.0, 1.0, 5.0, 5.0],
             "clean": [1.0, 3.0, 2.0, 1.0, 0.0, 1.0]}  # fmt: skip
    told = contrast(norms)  # of four layers: quotients 4, 3, 0.5 and 4, and 2, 2, 1.5 and 5
    assert told == {"value": 3.5, "hybrid": 2.0, "ordered": 2, "layers": 4}
    assert not contrast({group: [0.0] for group in GROUPS})
    (few,) = grouped([torch.tensor([1.0, 5.0])])
    assert gradient_norms(Net(), batches(torch.randn(2, 4)), [few])["hybrid"] == [None]


def test_the_figure():
    norms = {group: [0.1 * (n + 1), 0.2, 0.3] for n, group in enumerate(GROUPS)}
    figure = neuron_gradients(
        dict.fromkeys(("clean clips", "triggered clips"), (norms, norms)), "t"
    )
    assert len(figure.axes) == 4
    with pytest.raises(ValueError, match="no norms"):
        neuron_gradients({}, "t")
