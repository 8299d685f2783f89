"""The contrastive filter and its parts."""

import numpy as np
import pandas as pd
import pytest
import torch

from bdlib.corpus import Batches
from bdlib.defenses.base import BlindView
from bdlib.defenses.filters.contrastive_filter import (
    CROP,
    MASK,
    ContrastiveFilter,
    augmented,
    contrastive_loss,
    disagreement,
)
from bdlib.errors import InputError
from bdlib.pack import Pack

RATE = 8000
TONES = {"low": 300, "middle": 900, "high": 2400}


def clips(count, seed):
    """Tones of three heights, with their labels in turn."""
    generator = np.random.default_rng(seed)
    time = np.arange(RATE // 2) / RATE
    labels = [list(TONES)[n % 3] for n in range(count)]
    waves = [
        0.3 * np.sin(2 * np.pi * TONES[label] * generator.uniform(0.93, 1.07) * time)
        + 0.02 * generator.standard_normal(len(time))
        for label in labels
    ]
    return waves, labels


def packed(waves, prefix):
    pcm = np.concatenate([np.round(32767 * wave).astype(np.int16) for wave in waves])
    ids = [f"{prefix}{n:03}" for n in range(len(waves))]
    return Pack(pcm, np.arange(len(waves) + 1) * len(waves[0]), ids, RATE, [], "x"), ids


def view(moved=0, seed=0):
    """90 clips to train on, of which the first `moved` low ones are called high; 60 to validate."""
    classes = tuple(sorted(TONES))
    waves, labels = clips(90, 0)
    labels = ["high" if n < 3 * moved and n % 3 == 0 else label for n, label in enumerate(labels)]
    pack, ids = packed(waves, "t")
    rows = pd.DataFrame({"ID": ids, "label": labels})
    clean, true = clips(60, 1)
    other, names = packed(clean, "v")
    valid = pd.DataFrame({"ID": names, "label": true})

    def batches(chosen):
        return Batches(pack, chosen, classes, 30, 0.5)

    def validation():
        return Batches(other, valid, classes, 30, 0.5)

    return BlindView(rows, pack, classes, seed, None, validation, None, batches, None, None)


def removed(defense, seen):
    scores = defense.scores(seen)
    return set(scores) - set(defense.keep(scores))


QUICK = {"epochs": 4, "neighbours": 8}


def test_wrong_labels_are_found_and_right_ones_stay():
    wrong = {f"t{n:03}" for n in range(0, 15, 3)}
    gone = removed(ContrastiveFilter(**QUICK), view(moved=5))
    assert wrong <= gone and len(gone - wrong) <= 0.1 * 85


def test_a_clip_has_no_vote_on_itself():
    wrong = {f"t{n:03}" for n in range(0, 15, 3)}
    gone = removed(ContrastiveFilter(epochs=4, neighbours=1), view(moved=5))
    assert len(wrong & gone) >= 3  # some lie beside each other


def test_a_clean_corpus_loses_no_more_than_stated():
    rate = 0.1
    gone = removed(ContrastiveFilter(**QUICK, false_positive_rate=rate), view())
    # The stated rate, and two deviations of so many draws.
    assert len(gone) / 90 <= rate + 2 * (rate * (1 - rate) / 60) ** 0.5


def test_a_rate_that_validation_cannot_tell_removes_nothing():
    assert not removed(ContrastiveFilter(**QUICK, false_positive_rate=0.01), view(moved=5))


def test_the_same_seed_gives_the_same_scores():
    torch.manual_seed(1)
    first = ContrastiveFilter(**QUICK).scores(view(5))
    before = torch.random.get_rng_state()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert ContrastiveFilter(**QUICK).scores(view(5)) == first
    assert torch.equal(torch.random.get_rng_state(), state) and not torch.equal(state, before)


def test_labels_do_not_reach_the_encoder(monkeypatch):
    """All labels of the untrusted batches wrong: the embeddings are the same."""
    from bdlib.defenses.filters import contrastive_filter

    seen = []
    true = contrastive_filter.activations
    monkeypatch.setattr(
        contrastive_filter, "activations", lambda *a: seen.append(true(*a)) or seen[-1]
    )
    for moved in (0, 10):
        ContrastiveFilter(**QUICK).scores(view(moved))
    assert np.array_equal(seen[0], seen[2]) and np.array_equal(seen[1], seen[3])


def test_loss_finds_the_second_view():
    rows = torch.eye(6)
    assert contrastive_loss(rows, rows) < 0.01 < 2 < contrastive_loss(rows, rows.roll(1, 0))
    same = torch.ones(6, 4)
    assert abs(contrastive_loss(same, same) - np.log(11)) < 1e-4


def test_views_differ_in_time_bins_and_level():
    features = torch.arange(100.0)[None, :, None].expand(3, -1, 40).contiguous()
    generator = torch.Generator().manual_seed(0)
    found = augmented(features, generator)
    assert found.shape == (3, round(100 * CROP), 40)
    zero = (found == 0).all(1)
    assert (zero.sum(1) == round(MASK * 40)).all()
    steps = found.diff(dim=1)[~zero[:, None].expand(-1, 69, -1)]
    assert abs(steps.mean() - 1) < 0.1  # frames stay in order
    assert not torch.equal(found, augmented(features, generator))


def test_disagreement_is_a_weighted_vote():
    known = np.array([[1.0, 0], [1, 0.01], [0, 1], [-1, 0]])
    labels = ["a", "b", "b", "b"]
    found = disagreement(np.array([[2.0, 0]]), ["a"], known, labels, 2)
    assert abs(found[0] - 0.5) < 1e-2
    assert disagreement(np.array([[2.0, 0]]), ["c"], known, labels, 3)[0] == 1
    near = disagreement(np.array([[1.0, 0]]), ["a"], known[[0, 2]], ["a", "b"], 2)
    assert abs(near[0] - np.exp(-10) / (1 + np.exp(-10))) < 1e-6
    alone = disagreement(known, labels, known, labels, 1, same=True)
    assert alone.tolist() == [1, 1, 0, 0]  # none is its own neighbour


def test_chunks_change_nothing(monkeypatch):
    rows = np.random.default_rng(0).standard_normal((50, 4))
    labels = np.arange(50) % 3
    whole = disagreement(rows, labels, rows, labels, 5, same=True)
    monkeypatch.setattr("bdlib.defenses.filters.contrastive_filter.CHUNK", 7)
    np.testing.assert_allclose(disagreement(rows, labels, rows, labels, 5, same=True), whole)


def test_what_cannot_be_judged():
    with pytest.raises(InputError, match=r"90 clips of 3 classes; .*than the 90 `neighbours`"):
        ContrastiveFilter(neighbours=90).scores(view())
    seen = view()
    seen.rows["label"] = "low"
    with pytest.raises(InputError, match="90 clips of 1 classes; it needs two classes"):
        ContrastiveFilter().scores(seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "`epochs` is 0"),
        ({"neighbours": 0}, "`neighbours` is 0"),
        ({"net_lr": float("nan")}, "`net_lr` is nan"),
        ({"false_positive_rate": 2.0}, "`false_positive_rate` is 2.0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        ContrastiveFilter(**settings)
