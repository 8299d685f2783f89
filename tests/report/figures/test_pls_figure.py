"""Figures of many judged attacks: what is counted, and that each is drawn where it can be."""

import numpy as np
import pytest

from bdlib.report.attacks_table import pooled
from bdlib.report.figures import autoencoder_figure, pls_figure

CLASSES = ("left", "no", "yes")


def record(source=None, target=None, rate=0.1, index=1.0, name="clap", **scores):
    attack = source and {"name": name, "source": source, "target": target, "rate": rate,
                         "poisoned": 9, "labels": {"target_class": target}}  # fmt: skip
    metrics = {"adjusted_rand_index": {"value": index}, "target_class_found": {"value": 1.0}}
    return {
        "status": "ok",
        "dataset": {"name": "Words", "variant": "3", "scale": "mini"},
        "model": {"name": "dsa", "trained_on": None},
        "defense": {"name": "vae_pls", "settings": {"runs": 10}},
        "attack": attack,
        "metrics": metrics if attack else {},
        "classes": {name: scores.get(name, 0.0) for name in CLASSES},
        "scores": {name: scores.get(name, 0.0) for name in CLASSES},
    }


ATTACKS = [
    record("no", "left", left=2.0),
    record("yes", "left", left=1.5, no=1.2),
    record("yes", "no", index=0.2, name="whistle", no=0.5),
]
DRAWS = [record(yes=0.1)]


def test_targets_and_benign_classes_are_pooled():
    scores, targets = pooled(ATTACKS, DRAWS)
    assert len(scores) == 12 and targets.sum() == 3
    assert sorted(scores[targets]) == [0.5, 1.5, 2.0]
    assert sorted(scores[~targets])[-2:] == [0.1, 1.2]


def names(figures):
    return [stem.split("-")[1] for stem in figures]


def test_each_figure_is_drawn_where_it_can_be():
    drawn = pls_figure.draw([*ATTACKS, *DRAWS], [])
    assert names(drawn) == ["roc", "rand", "classes"] and all(p.figure.axes for p in drawn.values())
    rates = [record("no", "left", rate=rate, left=2.0) for rate in (0.05, 0.3)]
    again = pls_figure.draw([*ATTACKS, *DRAWS, *rates], [])
    assert names(again) == ["roc", "rand", "fraction", "classes"]
    assert names(pls_figure.draw(ATTACKS, [])) == ["rand", "classes"]
    assert pls_figure.draw([{"status": "ok"}], []) == {}
    other = record("no", "left")
    other["defense"] = {"name": "vae_pls", "settings": {"runs": 3}}
    assert len(pls_figure.draw([*ATTACKS, other], [])) == 4  # two filters


def test_the_class_scores_are_those_of_the_encoders_own_attack():
    own = record("yes", "no")
    own["model"]["trained_on"] = {**own["attack"], "poisoned": 5}
    assert pls_figure.of_encoder(own) and not pls_figure.of_encoder(ATTACKS[0])


def test_scatter_curves_and_spectrograms():
    points = np.random.default_rng(0).normal(size=(20, 2))
    second = np.arange(20) < 5
    assert len(pls_figure.scatter(points, second, ~second, "two views").axes) == 2
    line = {f"{part}_{term}": 1.0 for part in ("train", "valid") for term in ("reconstruction",
            "kl_f", "kl_z")}  # fmt: skip
    assert len(autoencoder_figure.autoencoder_curves([{"epoch": 1, **line}]).axes) == 3
    for rows in (1, 2):
        clips = np.zeros((3, rows, 8, 16))
        assert len(autoencoder_figure.spectrograms(clips, "clips").axes) == 3 * rows
    with pytest.raises(ValueError, match="no epoch"):
        autoencoder_figure.autoencoder_curves([])
