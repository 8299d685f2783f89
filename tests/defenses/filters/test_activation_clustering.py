"""Activation clustering, beside the rules of ART, stated anew here with their faults."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from bdlib.defenses import clusters
from bdlib.defenses.clusters import Halves
from bdlib.defenses.filters.activation_clustering import DECISIONS, ActivationClustering
from bdlib.errors import InputError

CLEAN_RATE = {"smaller": 0.5, "relative_size": 0.0, "distance": 0.0, "silhouette": 0.0}


def removed(defense, view):
    scores = defense.scores(view)
    return set(scores) - set(defense.keep(scores))


def sides(share, count=100, points=None):
    """Halves of which the first `share` are on side 1, well apart."""
    side = (np.arange(count) < round(share * count)).astype(int)
    points = np.stack([10.0 * side, np.arange(count) % 5], 1) if points is None else points
    distances = np.where(side[:, None] == [0, 1], 1.0, 9.0)
    return Halves(points, distances)


@pytest.mark.parametrize("layer", ["penultimate", "logits"])
@pytest.mark.parametrize("reduction", ["pca", "ica"])
@pytest.mark.parametrize("decision", ["smaller", "relative_size", "silhouette"])
def test_planted_poison_is_found(world, layer, reduction, decision):
    w = world(shift=25.0)
    defense = ActivationClustering(layer, reduction=reduction, decision=decision)
    hits, false = w.rates(removed(defense, w.view()))
    assert hits >= 0.99
    assert false <= 0.5 if decision == "smaller" else false <= 0.01


@pytest.mark.parametrize("reduction", ["pca", "ica"])
def test_a_mixture_of_two_gaussians_is_cut_where_it_is_mixed(world, reduction):
    w = world((300,), poison=0.4, shift=25.0)
    found = clusters.halves(w.found, 10, reduction)
    assert adjusted_rand_score(w.poisoned, found.side) > 0.99


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("seed", range(3))
def test_a_clean_corpus_loses_no_more_than_stated(world, decision, seed):
    w = world(poison=0.0, seed=seed)
    defense = ActivationClustering(decision=decision)
    assert w.rates(removed(defense, w.view(seed)))[1] <= CLEAN_RATE[decision]


def test_smaller_takes_a_side_of_every_class(world):
    w = world()
    gone = removed(ActivationClustering(), w.view())
    for name in w.classes:
        share = np.mean(
            [i in gone for i, label in zip(w.ids, w.labels, strict=True) if label == name]
        )
        assert 0 < share <= 0.5


def test_the_same_seed_gives_the_same_scores(world):
    w = world(shift=2.0)  # no clear clusters: another seed finds others
    for reduction in ("pca", "ica"):
        defense = ActivationClustering(reduction=reduction)
        first = defense.scores(w.view(seed=3))
        assert defense.scores(w.view(seed=3)) == first
        assert defense.scores(w.view(seed=4)) != first


# --- the rules


def art_by_share(share, silhouette=None):
    """Which side ART suspects at a share of the smaller side, 1, and what it makes of the sides.

    For each side: True for clean, False for poison, None for neither (uninitialised).
    """
    shares = np.round([1 - share, share], 2)
    poison, clean = shares < 0.35, shares >= 0.35
    if silhouette is not None and poison.any():
        if silhouette > 0.1:
            clean = shares < 0.35  # where `>=` was meant
        else:
            poison, clean = np.zeros(2, bool), np.ones(2, bool)
    return [False if p else True if c else None for p, c in zip(poison, clean, strict=True)]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.33, 0.34, 0.36, 0.45, 0.5])
def test_relative_size_is_art(share):
    side = clusters.relative_size(sides(share))
    assert [side != number for number in (0, 1)] == art_by_share(share)


def test_a_share_is_not_rounded():
    """ART rounds 34.6 % to 35 %, which is not below 35 %."""
    assert clusters.relative_size(sides(0.346, 1000)) == 1
    assert art_by_share(0.346) == [True, True]


def test_silhouette_keeps_the_large_side():
    """ART leaves its mark uninitialised, so that the clean part of the class goes as well."""
    assert clusters.silhouette(sides(0.1)) == 1
    assert art_by_share(0.1, silhouette=0.9) == [None, False]


def test_silhouette_asks_for_both():
    blurred = np.random.default_rng(0).standard_normal((100, 2))
    assert clusters.silhouette(sides(0.1, points=blurred)) is None
    assert art_by_share(0.1, silhouette=0.0) == [True, True]
    assert clusters.silhouette(sides(0.4)) is None
    assert clusters.silhouette(sides(0.4), most=0.45) == 1


def test_equal_sides_give_up_the_first():
    assert clusters.smaller(sides(0.5)) == 0 and clusters.smaller(sides(0.6)) == 0
    assert clusters.smaller(sides(0.4)) == 1


def test_distance_suspects_the_side_that_came_from_elsewhere(world):
    w = world(poison=0.0)
    middles = {name: np.median(w.found[w.labels == name], 0) for name in w.classes}
    target, source = w.labels == "word0", middles["word1"]
    w.poisoned[np.flatnonzero(target)[:60]] = True
    w.found[w.poisoned] += source - middles["word0"]
    hits, false = w.rates(removed(ActivationClustering(decision="distance"), w.view()))
    assert hits == 1 and false == 0


def test_distances_between_components_tell_nothing(world):
    """ART takes each class in its own principal components, whose origin is the class's mean."""
    w = world((100, 100), poison=0.0)
    middles = [np.median(clusters.reduced(w.found[w.labels == name], 10), 0) for name in w.classes]
    apart = np.linalg.norm(np.subtract(*(np.median(w.found[w.labels == n], 0) for n in w.classes)))
    assert np.linalg.norm(middles[0] - middles[1]) < 0.1 * apart


def first(count, rows):
    """Halves of which the first rows are on side 0."""
    return Halves(rows, np.where(np.arange(len(rows))[:, None] < count, [1.0, 9.0], [9.0, 1.0]))


def test_distance_never_takes_both_sides():
    """Each side is near another class; ART removes both, which is the whole class."""
    rows = np.repeat([[-5.0, 0.0], [0.1, 0.0], [5.0, 0.0]], [40, 15, 45], axis=0)
    others = np.array([[-6.0, 0.0], [6.0, 0.0]])
    assert clusters.distance(first(40, rows), rows, others) == 0
    assert clusters.distance(first(40, rows), rows, others[:1]) == 0
    assert clusters.distance(first(40, rows), rows, others[1:]) == 1
    assert clusters.distance(first(40, rows), rows, 9 * others) is None


def test_distance_asks_that_the_other_side_is_not_near_too():
    corners = [[0.0, 0.0], [0.0, 10.0], [10.0, 10.0], [0.0, 10.0]]
    rows = np.repeat(corners, [21, 19, 31, 29], axis=0)  # median: (0, 10)
    assert clusters.distance(first(40, rows), rows, np.array([[5.0, 5.0]])) is None
    assert clusters.distance(first(40, rows), rows, np.array([[1.0, 0.0]])) == 0


def test_distance_needs_another_class(world):
    w = world((100,))
    with pytest.raises(InputError, match="`decision` is distance: it needs a second class"):
        ActivationClustering(decision="distance").scores(w.view())
    assert ActivationClustering().scores(w.view())


# --- exclusionary reclassification


def test_exre_is_l_over_p():
    assert clusters.exre(["a"] * 6 + ["b"] * 3 + ["c"] * 2, "a") == 2.0
    assert clusters.exre(["b"] * 3, "a") == 0.0
    assert clusters.exre(["a"], "a") == float("inf")


class Nearest(torch.nn.Module):
    """A classifier by the nearest of the class means of the rows it was trained on."""

    def __init__(self, w, rows):
        super().__init__()
        place = {name: number for number, name in enumerate(w.ids)}
        self.means = torch.stack([
            torch.from_numpy(w.found[[place[i] for i in rows["ID"][rows["label"] == name]]]).mean(0)
            for name in w.classes
        ])  # fmt: skip

    def features(self, wavs, lens):
        return wavs

    def embed(self, features, lens):
        return features

    def forward(self, wavs, lens):
        return -torch.cdist(wavs, self.means)


def test_exre_clears_what_a_fresh_classifier_takes_for_its_class(world):
    """`smaller` suspects half of the clean classes too; only the poison stays suspected."""
    w = world(poison=0.0, sizes=(200, 200, 200))
    target = np.flatnonzero(w.labels == "word0")
    w.poisoned[target[:40]] = True
    means = [w.found[w.labels == name].mean(0) for name in w.classes]
    w.found[w.poisoned] += means[1] - means[0]
    trained = []

    def train(rows):
        trained.append(set(rows["ID"]))
        return Nearest(w, rows)

    plain = removed(ActivationClustering(), w.view(train=train))
    assert w.rates(plain)[1] > 0.2 and len(trained) == 1
    hits, false = w.rates(removed(ActivationClustering(exre_threshold=1.0), w.view(train=train)))
    assert (hits, false) == (1, 0)
    assert trained[1] == set(w.ids) and trained[2] == set(w.ids) - plain


# --- what cannot be judged


def test_equal_activations_stay(world):
    w = world()
    w.found[w.labels == "word1"] = 1.0
    for reduction in ("pca", "ica"):
        gone = removed(ActivationClustering(reduction=reduction), w.view())
        assert gone and not any(
            i in gone for i, label in zip(w.ids, w.labels, strict=True) if label == "word1"
        )


def test_small_classes_stay(world):
    w = world((29, 40, 60))
    gone = removed(ActivationClustering(components=50), w.view())  # more than there are columns
    assert gone and not any(
        i in gone for i, label in zip(w.ids, w.labels, strict=True) if label == "word0"
    )


def test_fewer_rows_than_components():
    """ART stops there."""
    rows = np.random.default_rng(0).standard_normal((31, 60))
    assert clusters.reduced(rows, 43).shape == (31, 31)
    assert clusters.reduced(rows[:, :20], 43).shape == (31, 20)


def test_nan_is_refused(world):
    w = world()
    w.found[5, 3] = np.nan
    with pytest.raises(InputError, match="u0005: its penultimate activations are NaN"):
        ActivationClustering().scores(w.view())
    with pytest.raises(InputError, match="row 5 of 800: NaN"):
        ActivationClustering().suspicion(w.found, w.labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "last"}, "`layer` is last: give penultimate or"),
        ({"reduction": "tsne"}, "`reduction` is tsne: give pca or ica"),
        ({"decision": "size"}, "`decision` is size: give smaller or relative_size"),
        ({"size_threshold": 35}, "`size_threshold` is 35: give a share"),
        ({"components": 0}, "`components` is 0"),
        ({"exre_threshold": 0}, "`exre_threshold` is 0: give a number above 0"),
        ({"exre_threshold": "yes"}, "`exre_threshold` is yes"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        ActivationClustering(**settings)
