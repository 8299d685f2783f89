"""Classes that draw intruders, and the intruders, on embeddings whose truth is known."""

import numpy as np
import pytest

from bdlib.defenses import disagreement, opinions
from bdlib.defenses.disagreement import excesses, judge
from bdlib.defenses.opinions import distances, margin, nearest, out_of_fold, votes
from bdlib.errors import InputError

CLASSES = np.array(["a", "b", "c", "d", "e", "f", "g", "h"])


def made(each=60, width=16, seed=0):
    """Embeddings and labels of eight classes that overlap a little."""
    draws = np.random.Generator(np.random.PCG64(seed))
    middles = 2.2 * draws.standard_normal((len(CLASSES), width))
    truth = np.repeat(np.arange(len(CLASSES)), each)
    rows = middles[truth] + draws.standard_normal((len(truth), width))
    return rows.astype(np.float32), CLASSES[truth].copy()


def drawn(labels, source, count, seed=1):
    draws = np.random.Generator(np.random.PCG64(seed))
    return draws.permutation(np.flatnonzero(source(labels)))[:count]


def test_nothing_is_called_in_a_clean_corpus():
    judged = judge(*made())
    assert judged.called == () and not judged.flagged().any()
    assert max(judged.excess.values()) < disagreement.CALL / 2


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
def test_mislabelled_clips_call_no_class(share):
    rows, labels = made()
    wrong = drawn(labels, lambda given: given != "", round(share * len(labels)))
    draws = np.random.Generator(np.random.PCG64(3))
    for place in wrong:
        labels[place] = draws.choice(CLASSES[labels[place] != CLASSES])
    judged = judge(rows, labels)
    assert judged.called == ()
    assert (judged.score[wrong] > disagreement.SURE).mean() > 0.8


@pytest.mark.parametrize(("source", "count"), [("b", 15), ("b", 24), (None, 15), (None, 120)])
def test_the_target_is_called_and_its_intruders_are_flagged(source, count):
    """Few and many, from one class and from all, up to twice as many as the class has itself."""
    rows, labels = made()
    wrong = drawn(labels, lambda given: given == source if source else given != "a", count)
    true = labels[wrong].copy()
    labels[wrong] = "a"
    judged = judge(rows, labels)
    assert judged.called == ("a",)
    flagged = judged.flagged(0.01)
    bad = np.isin(np.arange(len(labels)), wrong)
    assert flagged[bad].mean() > 0.93 and flagged[~bad].mean() <= 0.011
    assert not flagged[labels != "a"].any()
    assert (np.array(judged.classes)[judged.likely[wrong]] == true).mean() > 0.9


def test_judging_again_finds_what_hides_behind_its_like(monkeypatch):
    rows, labels = made(each=40, seed=5)
    wrong = drawn(labels, lambda given: given != "a", 110)
    labels[wrong] = "a"
    found = judge(rows, labels).flagged()[wrong].mean()
    monkeypatch.setattr(disagreement, "ROUNDS", 0)
    assert judge(rows, labels).flagged()[wrong].mean() < found - 0.03


def test_the_false_alarm_rate_is_a_bound_that_is_used():
    rows, labels = made(each=100)
    labels[drawn(labels, lambda given: given != "a", 60)] = "a"
    judged = judge(rows, labels)
    assert judged.flagged(0.001).sum() <= judged.flagged(0.02).sum()
    assert (judged.flagged(0.5) >= judged.flagged(0.001)).all()


def test_neighbours_are_exact_in_any_blocks(monkeypatch):
    rows, _ = made()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -2)
    for cells in (1, 1000, 10**7):
        monkeypatch.setattr(opinions, "CELLS", cells)
        places, near = nearest(rows, rows, 7, np.arange(len(rows)))
        assert np.allclose(near, -np.sort(-cosines, 1)[:, :7], atol=1e-6)
        assert not (places == np.arange(len(rows))[:, None]).any()
    places, _ = nearest(rows[:3], rows, 1)
    assert places[:, 0].tolist() == [0, 1, 2]


def test_votes_count_kept_clips_alone():
    rows = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 2]]
    given = np.array([0, 0, 1, 1, 1, 1, 0])
    kept = np.array([True, True, False, True, True, True, True])
    shares = votes(rows, given, 2, kept, np.array([2]))
    assert shares[0, 0] > 0.99  # its copies are of class 0, and it does not vote for itself
    assert np.allclose(shares.sum(1), 1)


def test_a_clip_is_left_out_of_its_own_mean():
    rows, labels = made(each=12, width=4)
    given = np.unique(labels, return_inverse=True)[1]
    kept = np.ones(len(given), bool)
    whole = distances(rows, given, 8, kept, np.arange(len(given)))
    ratio = np.ones(len(given), bool)
    ratio[5] = False
    without = distances(rows, given, 8, ratio, np.array([5]))
    assert np.isclose(whole[5, given[5]], without[0, given[5]], rtol=0.1)
    assert margin(-whole, given).shape == (len(given),)


def test_small_and_large_classes_are_measured_by_their_share():
    given = np.repeat(np.arange(5), [1000, 100, 100, 100, 100])
    intruder = np.zeros(len(given), bool)
    for number in range(5):
        own = np.flatnonzero(given == number)
        intruder[own[: len(own) // 20]] = True
    excess, count = excesses(intruder, given, 5)
    assert count.tolist() == [50, 5, 5, 5, 5] and excess.max() < 1
    intruder[np.flatnonzero(given == 3)[:40]] = True
    assert excesses(intruder, given, 5)[0].argmax() == 3


@pytest.mark.parametrize(
    ("clips", "classes"), [(np.zeros((30, 4)), ["a"] * 30), (np.zeros((6, 4)), list("ababab"))]
)
def test_too_little_is_refused(clips, classes):
    with pytest.raises(InputError, match="give at least two classes, and more than 10 clips"):
        judge(clips.astype(np.float32), np.array(classes))


def test_a_class_that_no_fold_can_learn_from():
    """39 clips against one, which no model hears that is asked of it: it is taken for one of the others."""
    embeddings = np.random.default_rng(0).standard_normal((40, 4))
    given = np.array([0] * 39 + [1])
    kept, rows = np.ones(40, bool), np.arange(40)
    shares = out_of_fold(embeddings, given, 2, kept, rows)
    assert (shares[39] == [1, 0]).all() and np.allclose(shares.sum(1), 1)
