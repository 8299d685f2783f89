"""The poison likelihood score and the search beside it, on latents whose truth is known."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from bdlib.defenses.filters.poison_likelihood import (
    Verdict,
    aligned,
    cross_likelihood,
    judge_all,
    outlyingness,
    poison_likelihood,
    surprise,
    threshold,
    whitened,
)
from bdlib.defenses.filters.two_populations import (
    Mixture,
    foreign,
    separation,
    two_populations,
)
from bdlib.defenses.filters.which_cluster import smaller, stranger
from bdlib.errors import InputError

CLASSES = [f"class{i}" for i in range(7)]


def corpus(seed=0, size=160, dimensions=32, poisoned=0.0, shift=6.0):
    """Correlated Gaussian classes; a share of `class2` is another class with a shift.

    Returns latents, labels, and who is poisoned.
    """
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(dimensions, dimensions)) * np.exp(-np.arange(dimensions) / 10)
    labels = np.repeat(CLASSES, size)
    points = generator.normal(size=(len(labels), dimensions))
    means = generator.normal(size=(len(CLASSES), dimensions))
    points += np.repeat(means, size, axis=0)
    poison = np.zeros(len(labels), bool)
    if poisoned:
        sources = np.flatnonzero(labels == "class5")[: int(poisoned * size)]
        points[sources] += shift * _unit(generator, dimensions)
        labels[sources], poison[sources] = "class2", True
    return points @ mix.T, labels, poison


def _unit(generator, dimensions):
    direction = generator.normal(size=dimensions)
    return direction / np.linalg.norm(direction)


def index(verdicts, labels, poison):
    return adjusted_rand_score(poison[labels == "class2"], verdicts["class2"].second)


# --- the paper's procedure


def test_the_score_rises_when_a_class_is_a_mixture():
    """Invariant: two shifted Gaussians score higher than one, and two-means tells them apart."""
    generator = np.random.default_rng(0)
    one = generator.normal(size=(300, 3))
    two = one.copy()
    two[:120, 0] += 12
    mixed, plain = poison_likelihood(two), poison_likelihood(one)
    assert mixed.score > 1.5 * plain.score
    assert adjusted_rand_score(np.arange(300) < 120, mixed.second) > 0.98
    assert plain.soft.min() >= 0 and plain.soft.max() <= 1


def test_the_score_by_hand():
    """Eq. 1 with scipy's densities."""
    generator = np.random.default_rng(1)
    points = generator.normal(size=(400, 3))
    second = generator.random(400) < 0.4
    expected = 0
    for fitted, judged in ((second, ~second), (~second, second)):
        gaussian = multivariate_normal(
            points[fitted].mean(0), np.cov(points[fitted], rowvar=False, bias=True)
        )
        expected -= gaussian.logpdf(points[judged]).mean() / 2
    assert np.isclose(cross_likelihood(points, second), expected, rtol=1e-4)
    assert np.isclose(cross_likelihood(points, ~second), expected, rtol=1e-4)


def test_small_clusters_are_shrunk():
    """Of 12 points in 24 dimensions the empirical covariance is singular."""
    generator = np.random.default_rng(2)
    few, many = generator.normal(size=(12, 24)), generator.normal(size=(500, 24))
    honest = -multivariate_normal(np.zeros(24), np.eye(24)).logpdf(many).mean()
    assert honest < surprise(few, many) < 1.5 * honest
    assert np.isfinite(surprise(few[:1], many))
    assert np.isfinite(surprise(np.repeat(few[:1], 3, axis=0), many))


def test_whitening_comes_after_the_components():
    generator = np.random.default_rng(3)
    latents = generator.normal(size=(200, 6)) @ generator.normal(size=(6, 6)) * 1000 + 50
    latents = np.column_stack([latents, np.full(200, 7.0)])  # a dimension that never varies
    points = whitened(latents, 3)
    assert points.shape == (200, 3) and np.allclose(np.cov(points.T), np.eye(3))
    standard = (latents[:, :6] - latents[:, :6].mean(0)) / latents[:, :6].std(0)
    widest = np.linalg.eigh(np.cov(standard.T))[1][:, -1]
    assert abs(np.corrcoef(standard @ widest, points[:, 0])[0, 1]) > 0.999
    assert np.allclose(np.abs(whitened(latents * 3 - 8, 3)), np.abs(points), atol=1e-6)
    with pytest.raises(InputError, match="all the same"):
        whitened(np.ones((40, 4)), 3)


def test_labels_are_aligned_to_the_first_run():
    first = np.array([1, 1, 0, 0, 0], bool)
    soft = aligned(np.array([first, ~first, first, [0, 0, 1, 1, 0]]))
    assert soft.tolist() == [1, 1, 0, 0, 0.25]


def test_many_labels_average_to_hard_ones():
    assert Verdict(0.0, np.array([0.5, 0.6, 0.4])).second.tolist() == [False, True, False]


# --- across classes


@pytest.mark.parametrize("judge", [poison_likelihood, two_populations])
def test_two_seeds_differ_and_one_does_not(judge):
    latents, labels, _ = corpus(size=60)
    first, again, other = (judge_all(latents, labels, seed, judge=judge) for seed in (0, 0, 1))
    scores = [{name: v.score for name, v in found.items()} for found in (first, again, other)]
    assert scores[0] == scores[1] and scores[0] != scores[2]
    assert all((first[name].soft == again[name].soft).all() for name in first)


def test_half_a_class_is_found_by_the_score():
    """Where the poison is wide enough to be a principal component, the paper's procedure works."""
    latents, labels, poison = corpus(poisoned=0.5, shift=25.0)
    verdicts = judge_all(
        latents, labels, judge=lambda inside, others, seed: poison_likelihood(inside, None, seed, 3)
    )
    scores = {name: verdict.score for name, verdict in verdicts.items()}
    assert max(scores, key=scores.get) == "class2" and index(verdicts, labels, poison) > 0.95


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("share", "shift"), [(0.08, 8.0), (0.2, 6.0), (0.9, 8.0)])
def test_the_search_finds_what_two_means_does_not(seed, share, shift):
    latents, labels, poison = corpus(seed, poisoned=share, shift=shift)
    verdicts = judge_all(latents, labels, judge=two_populations)
    outliers = outlyingness({name: v.score for name, v in verdicts.items()}, 0.2)
    limit = threshold(len(outliers), 0.05)
    assert [name for name, z in outliers.items() if z > limit] == ["class2"]
    assert index(verdicts, labels, poison) > 0.9
    inside, rest = labels == "class2", labels != "class2"
    removed = stranger(latents[inside], verdicts["class2"].second, latents[rest])
    assert (removed == poison[inside]).mean() > 0.95  # though at 0.9 the poison is hardly smaller


@pytest.mark.parametrize("share", [0.0, 0.12, 0.5])
def test_what_all_classes_have_is_no_poison(share):
    """In every class a tenth of the clips comes from a loud room, further off than the trigger."""
    latents, labels, poison = corpus(poisoned=share, shift=8.0)
    generator = np.random.default_rng(9)
    loud = generator.random(len(labels)) < 0.1
    latents[loud] += 14 * _unit(generator, latents.shape[1]) * latents.std()
    verdicts = judge_all(latents, labels, judge=two_populations)
    scores = {name: verdict.score for name, verdict in verdicts.items()}
    called = {name for name, score in scores.items() if score > 1}
    assert called == ({"class2"} if share else set())
    assert not share or index(verdicts, labels, poison) > 0.9


def test_foreign():
    """A split that the others show as well is not foreign at all, one of the poison wholly."""
    generator = np.random.default_rng(0)
    for share in (0.1, 0.3):
        x = generator.normal(size=(600, 1))
        others = generator.normal(size=(3000, 1))
        second = generator.random(x.shape) < share
        mixture = Mixture(x + 8 * second)
        assert foreign(x + 8 * second, mixture, others)[0] > 0.95
        shared = others + 8 * (generator.random(others.shape) < share)
        assert foreign(x + 8 * second, mixture, shared - shared.mean())[0] < 0.15


def test_odd_recordings_are_no_poison():
    """Ten of 300 clips far from all others are below the least share, until it is lowered."""
    latents, labels, _ = corpus(size=300)
    latents[:10] += 30 * latents.std() * _unit(np.random.default_rng(9), latents.shape[1])
    scores = [
        judge_all(latents, labels, judge=partial(two_populations, least_share=share))[
            "class0"
        ].score
        for share in (0.05, 0.01)
    ]
    assert scores[0] < 1 < 2 < scores[1]


def test_false_alarms_on_clean_corpora():
    """No more than the stated share of clean corpora, give or take what a dozen draws allow."""
    alarms = {}
    for judge, spread in ((poison_likelihood, 0.0), (two_populations, 0.15)):
        alarms[judge] = 0
        for seed in range(12):
            latents, labels, _ = corpus(seed + 100, size=60, dimensions=12)
            found = judge_all(latents, labels, judge=judge)
            outliers = outlyingness({name: v.score for name, v in found.items()}, spread)
            alarms[judge] += max(outliers.values()) > threshold(len(outliers), 0.05)
    assert max(alarms.values()) <= 2


def test_the_threshold_keeps_its_promise():
    scores = np.random.default_rng(5).standard_normal((3000, 11))
    limit = threshold(11, 0.05)
    alarms = [
        max(outlyingness(dict(zip(range(11), row, strict=True))).values()) > limit for row in scores
    ]
    assert 0.035 < np.mean(alarms) < 0.065
    assert threshold(11, 0.2) < limit < threshold(5, 0.05)
    with pytest.raises(InputError, match="false_alarms=0"):
        threshold(11, 0)


def test_outlyingness_by_hand():
    found = outlyingness({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 13.0})
    assert np.isclose(found["e"], 10 / 1.4826) and found["c"] == 0
    assert outlyingness({"a": 1.0, "b": 1.0, "c": 2.0}, 0.5)["c"] == 2


def test_what_cannot_be_judged():
    latents, labels, _ = corpus(size=40, dimensions=8)
    with pytest.raises(InputError, match=r"2 of 280 latents are not finite"):
        broken = latents.copy()
        broken[[3, 9], 2] = np.nan, np.inf
        judge_all(broken, labels)
    with pytest.raises(InputError, match="1 classes with at least 30 clips"):
        judge_all(latents[labels == "class1"], labels[labels == "class1"])
    with pytest.raises(InputError, match="2 classes"):
        judge_all(latents, labels, left_out=CLASSES[:5])
    few = np.flatnonzero(labels == "class3")[29:]  # leaves 29
    found = judge_all(np.delete(latents, few, 0), np.delete(labels, few))
    assert sorted(found) == [name for name in CLASSES if name != "class3"]


def test_the_smaller_and_the_stranger():
    second = np.array([True, False, False, False])
    assert smaller(second).tolist() == smaller(~second).tolist() == second.tolist()
    generator = np.random.default_rng(6)
    inside, others = generator.normal(size=(50, 4)), generator.normal(size=(200, 4))
    inside[:35] += [0, 9, 0, 0]
    for labels in (np.arange(50) < 35, np.arange(50) >= 35):
        assert (stranger(inside, labels, others) == (np.arange(50) < 35)).all()


def test_separation():
    """Two spikes are far apart, the halves of a Gaussian are not, and three clips are no crowd."""
    generator = np.random.default_rng(7)
    normal = generator.normal(size=(4000, 1))
    assert np.isclose(separation(normal, normal > 0)[0], 0.66, atol=0.02)
    second = np.arange(4000)[:, None] < 400
    apart = separation(normal + 8 * second, second)[0]
    assert np.isclose(apart, 8 / 4, rtol=0.05)
    tails = generator.standard_t(3, size=(4000, 1))
    assert separation(tails, tails > 3)[0] < 1
    assert separation(normal[:100], np.arange(100)[:, None] < 2)[0] == 0
