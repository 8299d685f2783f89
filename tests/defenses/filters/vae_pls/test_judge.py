"""The poison likelihood score, on latents whose truth is known."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from bdlib.defenses.filters.vae_pls.judge import (
    FEW,
    Verdict,
    aligned,
    cross_likelihood,
    judge_all,
    poison_likelihood,
    principal,
    smaller,
    stranger,
    two_means,
)
from bdlib.defenses.filters.vae_pls.normal import Normal
from bdlib.defenses.filters.vae_pls.search import two_populations
from bdlib.errors import InputError

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


def by_hand(points, second):
    """Eq. 1 with scipy's densities."""
    total = 0
    for fitted, judged in ((second, ~second), (~second, second)):
        gaussian = multivariate_normal(
            points[fitted].mean(0), np.cov(points[fitted], rowvar=False, bias=True)
        )
        total -= gaussian.logpdf(points[judged]).mean() / 2
    return total


def test_the_score_by_hand():
    generator = np.random.default_rng(1)
    points = generator.normal(size=(400, 3))
    second = generator.random(400) < 0.1  # few points, but no fewer than a covariance needs
    for clusters in (second, ~second):
        assert np.allclose(cross_likelihood(points, clusters), (by_hand(points, second), 0))


def test_the_paper_averages_and_the_robust_score_takes_the_median():
    """Of clusters with more clips than dimensions nothing is shrunk, and Eq. 1 is as printed."""
    latents = np.random.default_rng(8).standard_t(3, size=(150, 5))
    points = principal(latents, 4)
    runs = [by_hand(points, second) for second in two_means(points, 10, 0)]
    assert np.ptp(runs) > 0.1
    paper = poison_likelihood(latents, components=4)
    assert np.isclose(paper.score, np.mean(runs)) and paper.shrunk == 0
    latents = np.repeat(latents, 20, axis=0) + np.random.default_rng(9).normal(size=(3000, 5)) / 99
    points = principal(latents, 4)
    runs = [by_hand(points, second) for second in two_means(points, 10, 0)]
    assert np.isclose(poison_likelihood(latents, components=4, robust=True).score, np.median(runs))


def test_small_clusters_are_shrunk():
    """Of 12 points in 24 dimensions the empirical covariance is singular."""
    generator = np.random.default_rng(2)
    few, many = generator.normal(size=(12, 24)), generator.normal(size=(500, 24))
    honest = -multivariate_normal(np.zeros(24), np.eye(24)).logpdf(many).mean()
    for enough in (0, FEW):
        assert honest < Normal.of(few, enough).surprise(many) < 1.5 * honest
        for singular in (few[:1], np.repeat(few[:1], 3, axis=0)):
            normal = Normal.of(singular, enough)
            assert normal.shrunk and np.isfinite(normal.surprise(many))
    assert not Normal.of(many[:60]).shrunk and Normal.of(many[:60], FEW).shrunk
    assert Normal.of(many[:60]).surprise(many) > Normal.of(many[:60], FEW).surprise(many)
    wide = Normal.of(100 * few, spread=np.full(24, 1e4)).surprise(100 * many)  # other units
    assert np.isclose(wide, Normal.of(few).surprise(many) + 24 * np.log(100))


def test_what_is_shrunk_is_said():
    """Three clips far off are a cluster of their own, too few for a covariance."""
    latents = np.random.default_rng(5).normal(size=(60, 4))
    latents[:3] += 40
    assert poison_likelihood(latents, components=3, whiten=False).shrunk == 0.5


def test_without_whitening_two_means_sees_what_stands_off():
    """A tenth of the clips, off along one of many directions: the widest, unless all are made so."""
    latents = np.random.default_rng(6).normal(size=(400, 30))
    poison = np.arange(400) < 40
    latents[poison] += 1.5
    found = {
        whiten: adjusted_rand_score(
            poison, poison_likelihood(latents, components=24, whiten=whiten).second
        )
        for whiten in (True, False)
    }
    assert found[False] > 0.9 > 0.3 > found[True]
    assert np.allclose(np.cov(principal(latents, 4, whiten=False).T)[0, 1:], 0, atol=1e-9)


def test_whitening_comes_after_the_components():
    generator = np.random.default_rng(3)
    latents = generator.normal(size=(200, 6)) @ generator.normal(size=(6, 6)) * 1000 + 50
    latents = np.column_stack([latents, np.full(200, 7.0)])  # a dimension that never varies
    points = principal(latents, 3)
    assert points.shape == (200, 3) and np.allclose(np.cov(points.T), np.eye(3))
    standard = (latents[:, :6] - latents[:, :6].mean(0)) / latents[:, :6].std(0)
    widest = np.linalg.eigh(np.cov(standard.T))[1][:, -1]
    assert abs(np.corrcoef(standard @ widest, points[:, 0])[0, 1]) > 0.999
    assert np.allclose(np.abs(principal(latents * 3 - 8, 3)), np.abs(points), atol=1e-6)
    with pytest.raises(InputError, match="all the same"):
        principal(np.ones((40, 4)), 3)


def test_labels_are_aligned_to_the_first_run():
    first = np.array([1, 1, 0, 0, 0], bool)
    soft = aligned(np.array([first, ~first, first, [0, 0, 1, 1, 0]]))
    assert soft.tolist() == [1, 1, 0, 0, 0.25]


def test_many_labels_average_to_hard_ones():
    assert Verdict(0.0, np.array([0.5, 0.6, 0.4])).second.tolist() == [False, True, False]


# --- across classes


@pytest.mark.parametrize("judge", [poison_likelihood, two_populations])
def test_two_seeds_differ_and_one_does_not(corpus, judge):
    latents, labels, _ = corpus(size=60)
    first, again, other = (judge_all(latents, labels, seed, judge=judge) for seed in (0, 0, 1))
    scores = [{name: v.score for name, v in verdicts.items()} for verdicts in (first, again, other)]
    assert scores[0] == scores[1] and scores[0] != scores[2]
    assert all((first[name].soft == again[name].soft).all() for name in first)


def test_half_a_class_is_found_by_the_score(corpus):
    """Where the poison is wide enough to be a principal component, the paper's procedure works."""
    latents, labels, poison = corpus(poisoned=0.5, shift=25.0)
    verdicts = judge_all(
        latents, labels, judge=lambda inside, others, seed: poison_likelihood(inside, None, seed, 3)
    )
    scores = {name: verdict.score for name, verdict in verdicts.items()}
    assert max(scores, key=scores.get) == "class2" and (
        adjusted_rand_score(poison[labels == "class2"], verdicts["class2"].second) > 0.95
    )


def test_a_judge_gets_the_other_classes_less_their_means(corpus):
    """Classes that lie apart would look like populations; those left out are not compared."""
    latents, labels, _ = corpus(size=40, dimensions=8)
    centred = {n: latents[labels == n] - latents[labels == n].mean(0) for n in set(labels)}
    heard = {}

    def spy(inside, others, seed):
        heard[len(heard)] = inside, others
        return Verdict(0.0, np.zeros(len(inside)))

    left_out = ["class6"]
    names = list(judge_all(latents, labels, left_out=left_out, judge=spy))
    assert names == [f"class{number}" for number in range(6)]
    for name, (inside, others) in zip(names, heard.values(), strict=True):
        assert np.array_equal(inside, latents[labels == name])
        rest = [centred[other] for other in names if other != name]
        assert np.allclose(others, np.concatenate(rest))


def test_what_cannot_be_judged(corpus):
    latents, labels, _ = corpus(size=40, dimensions=8)
    with pytest.raises(InputError, match=r"2 of 280 latents are not finite"):
        broken = latents.copy()
        broken[[3, 9], 2] = np.nan, np.inf
        judge_all(broken, labels)
    with pytest.raises(InputError, match="1 classes with at least 30 clips"):
        judge_all(latents[labels == "class1"], labels[labels == "class1"])
    with pytest.raises(InputError, match="2 classes"):
        judge_all(latents, labels, left_out=sorted(set(labels))[:5])
    few = np.flatnonzero(labels == "class3")[29:]  # leaves 29
    verdicts = judge_all(np.delete(latents, few, 0), np.delete(labels, few))
    assert sorted(verdicts) == [name for name in sorted(set(labels)) if name != "class3"]


def test_the_smaller_and_the_stranger():
    second = np.array([True, False, False, False])
    assert smaller(second).tolist() == smaller(~second).tolist() == second.tolist()
    generator = np.random.default_rng(6)
    inside, others = generator.normal(size=(50, 4)), generator.normal(size=(200, 4))
    inside[:35] += [0, 9, 0, 0]
    for labels in (np.arange(50) < 35, np.arange(50) >= 35):
        assert (stranger(inside, labels, others) == (np.arange(50) < 35)).all()
