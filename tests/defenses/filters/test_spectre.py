"""SPECTRE and its parts."""

import numpy as np
import pytest

from bdlib.defenses.filters.spectral_signatures import SpectralSignatures
from bdlib.defenses.filters.spectre import (
    Spectre,
    inverse_root,
    quantum_scores,
    robust_covariance,
)
from bdlib.errors import InputError


def removed(defense, view):
    scores = defense.scores(view)
    return set(scores) - set(defense.keep(scores))


def gaussian(count=3000, width=6, seed=0):
    generator = np.random.default_rng(seed)
    shape = np.diag([9.0, 4.0, 1.0, 1.0, 0.25, 0.04][:width])
    turn, _ = np.linalg.qr(generator.standard_normal((width, width)))
    true = turn @ shape @ turn.T
    return generator.multivariate_normal(np.zeros(width), true, count), true


def error(found, true):
    """Relative, in the metric of the true covariance."""
    root = inverse_root(true)
    return np.linalg.norm(root @ found @ root - np.eye(len(true)))


def test_inverse_root():
    _, true = gaussian()
    root = inverse_root(true)
    np.testing.assert_allclose(root @ true @ root, np.eye(6), atol=1e-9)
    flat = np.diag([4.0, 0.0])
    np.testing.assert_allclose(inverse_root(flat), np.diag([0.5, 0.0]))


def test_clean_gaussians_keep_their_covariance():
    points, true = gaussian()
    for poison in (0.05, 0.002):  # where the bound is loose, and where it is hardly above one
        found = robust_covariance(points, poison)
        np.testing.assert_array_equal(found, points.T @ points / len(points))
    assert error(robust_covariance(points, 0.05), true) < 0.2


def test_poison_does_not_move_the_covariance():
    """Far poison in the thinnest direction, which plain covariance takes for the widest."""
    points, true = gaussian()
    thin = np.linalg.eigh(true)[1][:, 0]
    points[:150] += 3.0 * thin
    assert error(points.T @ points / len(points), true) > 8
    assert error(robust_covariance(points, 0.05), true) < 0.5


def test_quantum_scores_between_norm_and_projection():
    points, _ = gaussian()
    white = points @ inverse_root(points.T @ points / len(points))
    scores, mean = quantum_scores(white)
    np.testing.assert_allclose(scores, (white**2).sum(1) / 6, atol=1e-6)  # nothing stands out
    assert abs(mean - 1) < 1e-9
    white[:, 0] *= 50  # one direction does: alpha = 4 weighs it by e^4
    covariance = white.T @ white / len(white)
    scores, mean = quantum_scores(white)
    weight = np.exp(4 * (np.diag(covariance) - 1) / (covariance[0, 0] - 1))
    np.testing.assert_allclose(scores, (white**2) @ weight / weight.sum(), rtol=1e-3)
    assert mean > 2000


def test_planted_poison_is_found(world):
    """Where spectral signatures, told the same, find some."""
    w = world((400, 400, 400, 400), poison=0.1, shift=7.0)
    hits, false = w.rates(removed(Spectre(expected_poison=0.1), w.view()))
    assert hits >= 0.95 and false < 0.02
    assert w.rates(removed(SpectralSignatures(expected_poison=0.1), w.view()))[0] < 0.8


@pytest.mark.parametrize("expected", [0.05, 0.2, 0.5])
def test_a_clean_corpus_loses_the_stated_share_of_one_class(world, expected):
    w = world(poison=0.0)
    gone = removed(Spectre(expected_poison=expected), w.view())
    hit = {label for i, label in zip(w.ids, w.labels, strict=True) if i in gone}
    assert len(hit) == 1 and len(gone) <= 1.5 * expected * 200


def test_the_same_seed_gives_the_same_scores(world):
    w = world(poison=0.05, shift=5.0)
    first = Spectre().scores(w.view(seed=3))
    assert Spectre().scores(w.view(seed=3)) == first


def test_what_cannot_be_judged(world):
    w = world((29, 40, 60))
    w.found[w.labels == "word1"] = 1.0
    gone = removed(Spectre(), w.view())
    assert gone
    assert {label for i, label in zip(w.ids, w.labels, strict=True) if i in gone} == {"word2"}
    one = world((29,))
    with pytest.raises(InputError, match="largest class has 29"):
        Spectre().scores(one.view())
    assert removed(Spectre(), world((60,)).view())
    w.found[3, 3] = np.inf
    with pytest.raises(InputError, match="u0003: its penultimate"):
        Spectre().scores(w.view())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "last"}, "`layer` is last"),
        ({"expected_poison": 0.0}, "`expected_poison` is 0.0: give more than 0, below 2/3"),
        ({"expected_poison": 0.7}, "`expected_poison` is 0.7"),
        ({"expected_poison": -1.0}, "`expected_poison` is -1.0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        Spectre(**settings)
