"""Batches in training: what lies in a row, how shards part an epoch, and the same on a GPU."""

import numpy as np
import pandas as pd
import pytest
import torch

from bdlib.corpus import Batches
from bdlib.pack import Pack
from bdlib.training.classifier_brain import loader

CLASSES = ("a", "b", "c")


@pytest.fixture
def clips():
    """23 utterances of 60 to 126 samples; sample t of utterance n is 200 n + t."""
    lengths = [60 + 3 * n for n in range(23)]
    samples = np.concatenate([200 * n + np.arange(length) for n, length in enumerate(lengths)])
    offsets = np.cumsum([0, *lengths])
    names = [f"u{n:02}" for n in range(23)]
    return Pack(samples.astype(np.int16), offsets, names, 10, [], "x")


def rows(clips):
    # Not in the order of the pack, and not all of it.
    names = [name for name in reversed(clips.ids) if name != "u05"]
    return pd.DataFrame({"ID": names, "label": [CLASSES[int(name[1:]) % 3] for name in names]})


def batches(clips, size=4, seconds=10.0, seed=None, **settings):
    return Batches(clips, rows(clips), CLASSES, size, seconds, seed, **settings)


def taken(dataset, epoch=1):
    dataset.epoch = epoch
    return [name for batch in dataset for name in batch.ids]


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_a_row_is_one_piece_of_its_utterance_with_its_label_and_length(clips, seed):
    for batch in batches(clips, seed=seed):
        pcm = (batch.wavs * 32768).round().int()
        assert batch.wavs.dtype == torch.float32 and batch.labels.dtype == torch.int64
        for name, line, share, label in zip(batch.ids, pcm, batch.lens, batch.labels, strict=True):
            number = int(name[1:])
            length = min(60 + 3 * number, 100)
            start = int(line[0]) - 200 * number
            assert 0 <= start <= max(60 + 3 * number - 100, 0)
            assert line[:length].tolist() == [200 * number + start + t for t in range(length)]
            assert not line[length:].any() and abs(float(share) - length / 100) < 1e-6
            assert int(label) == number % 3


def test_evaluation_takes_the_centre_of_odd_room_too(clips):
    found = {
        n: int(w[0] * 32768) for b in batches(clips) for n, w in zip(b.ids, b.wavs, strict=True)
    }
    assert found["u22"] - 4400 == 13 and found["u14"] - 2800 == 1  # rooms of 26 and 2
    assert found["u15"] - 3000 == 2 and found["u03"] == 600  # rooms of 5 and none
    assert [n for b in batches(clips) for n in b.ids] == list(rows(clips)["ID"])


def test_an_epoch_shuffles_all_and_the_end_of_it_changes(clips):
    data = batches(clips, seed=3)
    epochs = [taken(data, epoch) for epoch in range(1, 30)]
    assert all(len(set(epoch)) == len(epoch) == 20 for epoch in epochs)  # 22 rows, batches of 4
    assert len({tuple(epoch) for epoch in epochs}) == 29
    assert set().union(*epochs) == set(rows(clips)["ID"])  # nobody is left out for good


def test_an_epoch_does_not_depend_on_what_was_drawn_before(clips):
    data = batches(clips, seed=3)
    for epoch in (1, 2, 3):
        for _ in zip(range(2), data, strict=False):
            pass
        fresh = batches(clips, seed=3)
        data.epoch = fresh.epoch = epoch
        torch.manual_seed(epoch)
        np.random.seed(epoch)
        for one, other in zip(data, fresh, strict=True):
            assert one.ids == other.ids and torch.equal(one.wavs, other.wavs)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_shards_share_no_utterance_and_have_equal_steps(clips, world):
    shards = [batches(clips, 2, seed=0, shard=(rank, world)) for rank in range(world)]
    assert len({len(shard) for shard in shards}) == 1
    together = [taken(shard) for shard in shards]
    assert all(len(names) == 2 * len(shards[0]) for names in together)
    flat = [name for names in together for name in names]
    assert len(set(flat)) == len(flat) >= 22 - 2 * world
    first = [taken(batches(clips, 2, seed=0, shard=(rank, world)), 2) for rank in range(world)]
    assert first != together


def test_the_loader_changes_nothing(clips):
    direct, loaded = batches(clips, seed=1), loader(batches(clips, seed=1))
    for one, other in zip(direct, loaded, strict=True):
        assert one.ids == other.ids and torch.equal(one.wavs, other.wavs)
    assert len(loaded) == len(direct) == 5 and len(loader(batches(clips))) == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("seed", [None, 0])
def test_a_gpu_makes_the_same_batches(clips, seed):
    pairs = zip(batches(clips, seed=seed), batches(clips, seed=seed, device="cuda"), strict=True)
    for here, there in pairs:
        assert there.wavs.is_cuda and here.ids == there.ids
        for name in ("wavs", "lens", "labels"):
            assert torch.equal(getattr(here, name), getattr(there, name).cpu())
