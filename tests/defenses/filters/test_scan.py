"""SCAn and its parts."""

import numpy as np
import pytest

from bdlib.defenses.filters.scan import Scan, contamination, shared_covariance
from bdlib.errors import InputError

SIZES = (200,) * 8


def removed(defense, view):
    scores = defense.scores(view)
    return set(scores) - set(defense.keep(scores))


def drawn(classes=900, most=5, seed=0):
    """Rows of many classes of unequal size, by the model."""
    generator = np.random.default_rng(seed)
    s_mu, s_eps = (x @ x.T / 5 for x in generator.standard_normal((2, 4, 4)))
    s_eps += 0.2 * np.eye(4)
    labels = np.repeat(np.arange(classes), generator.integers(1, most, classes))
    means = generator.multivariate_normal(np.zeros(4), s_mu, classes)
    noise = generator.multivariate_normal(np.zeros(4), s_eps, len(labels))
    return means[labels] + noise, labels, s_mu, s_eps


def test_em_finds_both_covariances():
    rows, labels, s_mu, s_eps = drawn()
    found_mu, found_eps = shared_covariance(rows, labels)
    # The ridge adds a twentieth of the mean variance.
    assert np.linalg.norm(found_eps - s_eps) < 0.15 * np.linalg.norm(s_eps)
    assert np.linalg.norm(found_mu - s_mu) < 0.15 * np.linalg.norm(s_mu)
    # Means of small classes also hold noise, which their plain covariance counts in.
    middles = np.stack([rows[labels == k].mean(0) for k in range(900)])
    plain = np.cov(middles.T)
    assert np.linalg.norm(plain - s_mu) > 2 * np.linalg.norm(found_mu - s_mu)


def test_j_is_the_likelihood_ratio_of_two_groups(world):
    """Against the definition, with the groups known."""
    w = world(SIZES, poison=0.3, shift=30.0)
    generator = np.random.default_rng(0)
    root = np.linalg.qr(generator.standard_normal((40, 40)))[0] * np.linspace(0.5, 2, 40)
    s_eps = root @ root.T
    levels, nearness = contamination(w.found, w.labels, s_eps, {})

    def far(rows):
        centred = rows - rows.mean(0)
        return (centred @ np.linalg.inv(s_eps) * centred).sum()

    def gain(rows, groups):
        return (far(rows) - far(rows[groups]) - far(rows[~groups])) / len(rows)

    raw = {}
    for name in w.classes:
        of = w.labels == name
        raw[name] = gain(w.found[of].astype(float), nearness[of] > 0.5)
    assert (nearness[w.labels == "word0"] > 0.5).tolist() == w.poisoned[
        w.labels == "word0"
    ].tolist()
    values = np.array(list(raw.values()))
    spread = 1.4826 * np.median(np.abs(values - np.median(values)))
    for name, value in raw.items():
        assert np.isclose(levels[name], (value - np.median(values)) / spread, rtol=1e-4)


@pytest.mark.parametrize("poison", [0.1, 0.4, 0.7])
def test_planted_poison_is_found(world, poison):
    w = world(SIZES, poison=poison, shift=8.0)
    hits, false = w.rates(removed(Scan(), w.view()))
    assert hits >= 0.95 and false <= 0.01


def test_without_clean_clips_of_the_class_the_smaller_group_is_odd(world):
    w = world(SIZES, poison=0.7, shift=12.0)
    of = w.labels == "word0"
    for clean, odd in (
        ({}, ~w.poisoned),
        ({"word0": w.found[of & ~w.poisoned].mean(0)}, w.poisoned),
    ):
        _, nearness = contamination(w.found, w.labels, np.eye(40), clean)
        assert ((nearness > 0.5) == odd)[of].mean() > 0.95


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_a_class_of_clips_that_are_all_equal_is_left_alone(world):
    w = world(SIZES, poison=0.1, shift=8.0)
    rows, silent = w.found.copy(), w.labels == "word3"
    rows[silent] = rows[silent][0]
    flagged, nearness = contamination(rows, w.labels, np.eye(40), {})
    assert (nearness[silent] == 0).all() and min(flagged, key=flagged.get) == "word3"


def test_a_clean_corpus_loses_no_more_than_stated(world):
    """Less than 1 in 100 classes, over ten corpora."""
    flagged = 0
    for seed in range(10):
        w = world(SIZES, poison=0.0, seed=seed)
        gone = removed(Scan(), w.view(seed))
        flagged += len({label for i, label in zip(w.ids, w.labels, strict=True) if i in gone})
    assert flagged <= 1


def test_a_larger_class_is_not_suspicious(world):
    """J itself grows with the class; J / n does not."""
    w = world((1500, *SIZES[1:]), poison=0.0)
    assert not removed(Scan(), w.view())
    w = world((1500, *SIZES[1:]), poison=0.05, shift=12.0)
    assert w.rates(removed(Scan(), w.view()))[0] == 1


def test_few_clean_clips_will_do(world):
    """Two of each class more than determine the covariance of 8 components, with the ridge."""
    w = world(SIZES, poison=0.2, shift=14.0)
    hits, false = w.rates(removed(Scan(components=8, clean_share=0.01), w.view()))
    assert hits >= 0.95 and false <= 0.01


def test_the_budget_is_its_share_of_the_clean_clips(world):
    w = world(SIZES, poison=0.2, shift=14.0)
    assert w.view().clean(Scan().clean_share).count == 160


def test_the_same_seed_gives_the_same_scores(world):
    w = world(SIZES, shift=5.0)
    assert Scan().scores(w.view(3)) == Scan().scores(w.view(3))


def test_what_cannot_be_judged(world):
    with pytest.raises(
        InputError, match="SCAn: 5 classes of 30 utterances; it compares at least 6"
    ):
        Scan().scores(world((200,) * 5 + (29,)).view())
    with pytest.raises(InputError, match=r"`clean_share` is 0.01: 16 clean utterances for 32"):
        Scan(clean_share=0.01).scores(world(SIZES).view())
    w = world((29, *SIZES), poison=0.5, shift=20.0)
    assert not removed(Scan(), w.view()) & {w.ids[n] for n in np.flatnonzero(w.labels == "word0")}
    w.found[7, 0] = np.nan
    with pytest.raises(InputError, match="u0007: its penultimate"):
        Scan().scores(w.view())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "last"}, "`layer` is last"),
        ({"components": 0}, "`components` is 0"),
        ({"threshold": 0.0}, "`threshold` is 0.0"),
        ({"clean_share": 2.0}, "`clean_share` is 2.0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        Scan(**settings)
