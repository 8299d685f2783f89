"""The search for two populations, on latents whose truth is known."""

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from bdlib.defenses.filters.vae_pls import search
from bdlib.defenses.filters.vae_pls.filter import outlyingness, threshold
from bdlib.defenses.filters.vae_pls.judge import judge_all, stranger
from bdlib.defenses.filters.vae_pls.search import Mixture, foreign, separation, two_populations


def index(verdicts, labels, poison):
    return adjusted_rand_score(poison[labels == "class2"], verdicts["class2"].second)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("share", "shift"), [(0.08, 8.0), (0.2, 6.0), (0.9, 8.0)])
def test_the_search_finds_what_two_means_does_not(corpus, seed, share, shift):
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
def test_what_all_classes_have_is_no_poison(corpus, unit, share):
    """In every class a tenth of the clips comes from a loud room, further off than the trigger."""
    latents, labels, poison = corpus(poisoned=share, shift=8.0)
    generator = np.random.default_rng(9)
    loud = generator.random(len(labels)) < 0.1
    latents[loud] += 14 * unit(generator, latents.shape[1]) * latents.std()
    verdicts = judge_all(latents, labels, judge=two_populations)
    scores = {name: verdict.score for name, verdict in verdicts.items()}
    called = {name for name, score in scores.items() if score > 1}
    assert called == ({"class2"} if share else set())
    assert not share or index(verdicts, labels, poison) > 0.9


def test_labels_are_those_of_the_better_half_of_the_searches(monkeypatch):
    """The score is the mean of all; each search here finds a population of a size of its own."""
    scores = [0.7, 3.0, 0.9, 2.5, 0.8, 2.0]
    found = iter([(score, np.full(4, score)) for score in scores])
    monkeypatch.setattr(search, "_best", lambda *a: next(found))
    monkeypatch.setattr(
        search, "_sharpened", lambda points, d: np.arange(len(points)) < 10 * d[0] - 1e-9
    )
    points = np.random.default_rng(0).normal(size=(60, 4))
    verdict = two_populations(points, points)
    assert np.isclose(verdict.score, np.mean(scores))
    assert np.allclose(verdict.soft, np.mean([np.arange(60) < n for n in (30, 25, 20)], axis=0))


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


def test_odd_recordings_are_no_poison(corpus, unit):
    """Ten of 300 clips far from all others are below the least share, until it is lowered."""
    latents, labels, _ = corpus(size=300)
    latents[:10] += 30 * latents.std() * unit(np.random.default_rng(9), latents.shape[1])
    scores = [
        judge_all(latents, labels, judge=partial(two_populations, least_share=share))[
            "class0"
        ].score
        for share in (0.05, 0.01)
    ]
    assert scores[0] < 1 < 2 < scores[1]


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
