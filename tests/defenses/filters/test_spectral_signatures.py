"""Spectral signatures, beside the paper's algorithm and ART's, both stated anew here."""

import numpy as np
import pytest

from bdlib.defenses.filters.spectral_signatures import (
    SpectralSignatures,
    outlierness,
    spectral_ranks,
)
from bdlib.errors import InputError


def restated(rows, centered):
    """|<v, row>| by a full singular value decomposition."""
    middle = rows - rows.mean(0)
    v = np.linalg.svd(middle.astype(np.float64))[2][0]
    return np.abs((middle if centered else rows) @ v)


def kept_by_art(found, labels, expected=0.33, multiplier=1.5):
    """Below the quantile of uncentred scores, class by class."""
    kept = np.zeros(len(labels), bool)
    for label in set(labels):
        rows = np.flatnonzero(labels == label)
        scores = restated(found[rows], centered=False)
        kept[rows] = scores < np.quantile(scores, 1 - multiplier * expected)
    return kept


def kept(defense, scores):
    return set(defense.keep(scores))


@pytest.mark.parametrize("centered", [True, False])
def test_scores_are_those_of_the_full_decomposition(world, centered):
    rows = world().found[:150]
    np.testing.assert_allclose(
        outlierness(rows, centered), restated(rows, centered), rtol=2e-4, atol=1e-3
    )
    wide = rows[:35]  # fewer rows than columns
    np.testing.assert_allclose(
        outlierness(wide, centered), restated(wide, centered), rtol=2e-4, atol=1e-3
    )


@pytest.mark.parametrize("sizes", [(1000, 1000, 400), (301, 402, 555)])
def test_uncentred_is_art(world, sizes):
    w = world(sizes)
    defense = SpectralSignatures(centered=False)
    found = kept(defense, defense.scores(w.view()))
    expected = kept_by_art(w.found, w.labels)
    assert found == {name for name, good in zip(w.ids, expected, strict=True) if good}


def test_the_defaults_remove_49_5_percent_of_every_class(world):
    w = world((1000, 1000, 400))
    for centered in (True, False):
        defense = SpectralSignatures(centered=centered)
        found = kept(defense, defense.scores(w.view()))
        for name, size in zip(w.classes, (1000, 1000, 400), strict=True):
            left = len(
                found & {i for i, label in zip(w.ids, w.labels, strict=True) if label == name}
            )
            assert size - left == round(0.495 * size)


def test_armory_removes_45_percent(world):
    w = world((1000, 1000))
    defense = SpectralSignatures(expected_poison=0.3, centered=False)
    found = kept(defense, defense.scores(w.view()))
    assert len(found) == 1100 and len(kept_by_art(w.found, w.labels, 0.3).nonzero()[0]) == 1100


def test_centred_scores_find_poison_where_uncentred_do_not(world):
    """Far from the origin, an uncentred projection tells where a row is, not how far out it is."""
    w = world(poison=0.1, shift=12.0)
    target = w.labels == "word0"
    middle = w.found[target] - w.found[target].mean(0)
    v = np.linalg.svd(middle)[2][0]
    sign = np.sign((middle @ v)[w.poisoned[target]].mean())
    w.found[target] -= (sign * 40 * v).astype(np.float32)  # the poison is on the near side
    rates = {}
    for centered in (True, False):
        defense = SpectralSignatures(centered=centered, expected_poison=0.1)
        found = kept(defense, defense.scores(w.view()))
        rates[centered] = w.rates(set(w.ids) - found)
    assert rates[True][0] == 1 and rates[False][0] == 0


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("expected", [0.05, 0.33])
def test_a_clean_corpus_loses_the_stated_share(world, centered, expected):
    w = world(poison=0.0)
    defense = SpectralSignatures(centered=centered, expected_poison=expected)
    assert w.rates(set(w.ids) - kept(defense, defense.scores(w.view())))[1] <= 1.5 * expected + 1e-9


def test_where_nothing_is_expected_nothing_goes(world):
    """ART removes the most outlying utterance of every class even then."""
    w = world()
    defense = SpectralSignatures(expected_poison=0.0)
    assert kept(defense, defense.scores(w.view())) == set(w.ids)
    assert (~kept_by_art(w.found, w.labels, 0.0)).sum() == len(w.classes)


def test_a_class_of_equal_activations_stays(world):
    """ART removes all of it, for none is below the quantile."""
    w = world()
    w.found[w.labels == "word1"] = w.found[w.labels == "word1"][0]
    ranks = spectral_ranks(w.found, w.labels)
    assert not ranks[w.labels == "word1"].any() and ranks[w.labels == "word0"].max() == 1
    assert not kept_by_art(w.found, w.labels)[w.labels == "word1"].any()


def test_small_classes_stay(world):
    w = world((29, 30, 60))
    ranks = spectral_ranks(w.found, w.labels)
    assert not ranks[w.labels == "word0"].any()
    assert ranks[w.labels == "word1"].max() == 1
    with pytest.raises(InputError, match=r"largest class has 29 utterances.*needs 30"):
        spectral_ranks(*(x[w.labels == "word0"] for x in (w.found, w.labels)))


def test_one_class_will_do(world):
    w = world((200,), shift=15.0)
    defense = SpectralSignatures(expected_poison=0.1)
    hits, false = w.rates(set(w.ids) - kept(defense, defense.scores(w.view())))
    assert hits == 1 and false < 0.07


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "last"}, "`layer` is last: give penultimate or logits or softmax"),
        ({"expected_poison": 1.5}, "`expected_poison` is 1.5: give a share"),
        ({"expected_poison": float("nan")}, "`expected_poison` is nan"),
        ({"multiplier": 4.0}, "`multiplier` is 4.0: removes 4 times 0.33 of every class"),
        ({"multiplier": -1.0}, "`multiplier` is -1.0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        SpectralSignatures(**settings)
