"""Activations, streamed and checked."""

import numpy as np
import pytest
import torch

from bdlib.corpus import Batch
from bdlib.defenses.activations import LAYERS, activations, by_class
from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.models.keyword import SmallResNet


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return SmallResNet(NormalizedFbank(16), 3, channels=(4, 8))


def batches(sizes=(4, 4, 2)):
    generator = torch.Generator().manual_seed(0)
    for number, size in enumerate(sizes):
        wavs = 0.1 * torch.randn(size, 4000, generator=generator)
        names = [f"{number}-{i}" for i in range(size)]
        yield Batch(names, wavs, torch.ones(size), torch.zeros(size, dtype=torch.long))


def test_layers_are_what_they_are_called(net):
    found = {name: activations(net.train(), batches(), name) for name in LAYERS}
    assert {x.dtype for x in found.values()} == {np.dtype(np.float32)} and not net.training
    with torch.no_grad():
        wavs = torch.cat([batch.wavs for batch in batches()])
        lens = torch.ones(10)
        logits = net(wavs, lens)
        np.testing.assert_allclose(
            found["penultimate"], net.embed(net.features(wavs, lens), lens), atol=1e-5
        )
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(found["softmax"], logits.softmax(1), atol=1e-5)


def test_batches_are_taken_one_by_one(net):
    """A whole corpus of waveforms is never asked for."""
    taken = []

    def spied():
        for number, batch in enumerate(batches()):
            taken.append(number)
            assert embedded == number  # the one before is done with
            yield batch

    embedded = 0
    embed = net.embed

    def counted(*given):
        nonlocal embedded
        embedded += 1
        return embed(*given)

    net.embed = counted
    activations(net, spied())
    net.embed = embed
    assert taken == [0, 1, 2]


def test_bad_activations_name_the_utterance(net):
    def broken():
        for batch in batches():
            batch.wavs[batch.lens.shape[0] - 1] *= float("nan") if batch.ids[0] == "1-0" else 1
            yield batch

    with pytest.raises(InputError, match=r"^1-3: its logits activations are NaN.*`lr`"):
        activations(net, broken(), "logits")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_rows_are_named(bad):
    found = np.zeros((90, 4), np.float32)
    found[17, 2] = bad
    with pytest.raises(InputError, match=r"activations, row 17 of 90: NaN or infinite; .*lr"):
        by_class(found, ["a"] * 90)


def test_rows_by_class():
    labels = ["b", "a"] * 40 + ["c"] * 29
    found = by_class(np.zeros((109, 2)), labels)
    assert list(found) == ["a", "b"]
    assert list(found["a"]) == list(range(1, 80, 2))
    assert set(by_class(np.zeros((109, 2)), labels, fewest=1)) == {"a", "b", "c"}


@pytest.mark.parametrize("shape", [(5,), (5, 2, 2), (4, 2)])
def test_shapes_that_do_not_fit(shape):
    with pytest.raises(InputError, match=r"give \(N, D\) and \(N,\)"):
        by_class(np.zeros(shape), ["a"] * 5)
