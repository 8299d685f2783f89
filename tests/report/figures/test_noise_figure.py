"""Noise curves: which records count, what their points are, and how they are drawn."""

import numpy as np
import pytest
from matplotlib.image import imread

from bdlib.report.figures import noise_figure
from bdlib.report.figures.figure import save
from bdlib.report.figures.noise_figure import draw, noise_curves, noise_points, tasks_with_noise

NOISE = "feature_noise"
TRAINING = {"name": "mvj", "stage": "training", "selection": "fixed", "clean_budget": 0}


@pytest.fixture
def measured(make_record):
    """A function: model, noise (None without defense), seed and ASR in, a record out."""

    def make(model, noise, seed, success, changes=None, step=0.0):
        defense = None
        if noise is not None:
            settings = {"noise": noise, "step_size": step, "coverage": False}
            about = {"stage": "inference", "selection": "fixed", "clean_budget": 0}
            defense = {"name": NOISE, **about, "settings": settings}
        metrics = {
            "triggered_accuracy": {"value": 1 - success},
            "attack_success_rate": {"value": success, "count": round(100 * success), "total": 100},
        }
        base = {"model.name": model, "model.yaml": f"hparams/{model}.yaml", "seed": seed}
        return make_record({**base, "defense": defense, "metrics": metrics, **(changes or {})})

    return make


def test_points_by_hand(measured):
    records = [
        measured("mvd", 0.3, 0, 0.4),
        measured("mvd", 0.3, 1, 0.6),
        measured("mvd", 10.0, 0, 0.1),
        measured("mvd", 2.0, 0, 0.2),
        measured("mvd", None, 0, 0.9),
        measured("mvd", None, 1, 0.7),
    ]
    curves = noise_points(records)
    assert list(curves) == ["mvd"]
    assert list(curves["mvd"]) == ["triggered_accuracy", "attack_success_rate"]
    expected = [
        (0, 0.8, 0.7, 0.9),
        (0.3, 0.5, 0.4, 0.6),
        (2.0, 0.2, 0.2, 0.2),  # one seed: no interval, although the counts are known
        (10.0, 0.1, 0.1, 0.1),
    ]
    assert np.allclose(curves["mvd"]["attack_success_rate"], expected)
    accuracy = np.array(curves["mvd"]["triggered_accuracy"])
    assert np.allclose(accuracy[:, 1], [0.2, 0.5, 0.8, 0.9])


def test_the_point_without_noise_is_of_the_trainings_that_met_noise(measured):
    records = [
        measured("mvd", None, 0, 0.9),
        measured("mvd", None, 1, 0.1),  # never met noise
        measured("mvd", None, 0, 0.2, {"attack.seed": 1}),  # another poisoning
        measured("keyword_resnet", None, 0, 0.3),  # no such model with noise
        measured("mvd", 0.3, 0, 0.5),
    ]
    curves = noise_points(records)
    assert list(curves) == ["mvd"]
    assert np.allclose(curves["mvd"]["attack_success_rate"], [[0, *[0.9] * 3], [0.3, *[0.5] * 3]])


def test_a_defense_that_is_the_training_is_the_model_without_noise(measured):
    records = [
        measured("mvj", None, 0, 0.9, {"defense": TRAINING}),
        measured("mvj", None, 0, 0.3, {"defense": {**TRAINING, "stage": "filter"}}),
        measured("mvj", 0.3, 0, 0.5),
    ]
    points = noise_points(records)["mvj"]["attack_success_rate"]
    assert np.allclose([point[:2] for point in points], [[0, 0.9], [0.3, 0.5]])


def test_langevin_steps_and_failures_are_left_out_and_repeats_replace(measured):
    records = [
        measured("mvj", 0.3, 0, 0.5),
        measured("mvj", 0.3, 0, 0.1, step=0.2),
        measured("mvj", 0.6, 0, 0.1, {"status": "failed", "metrics": {}}),
        measured("mvj", 0.3, 0, 0.4),
        measured("mvd", 0.3, 0, 0.1, step=0.2),
    ]
    assert noise_points(records) == {
        "mvj": {
            "triggered_accuracy": [(0.3, 0.6, 0.6, 0.6)],
            "attack_success_rate": [(0.3, 0.4, 0.4, 0.4)],
        }
    }
    assert noise_points([]) == {}
    assert noise_points([measured("mvj", None, 0, 0.5)]) == {}


def test_models_of_one_name_are_told_apart(measured):
    own = {"model.yaml": "own/mvd.yaml"}
    records = [measured("mvd", 0.3, 0, 0.5), measured("mvd", 0.3, 0, 0.2, own)]
    assert sorted(noise_points(records)) == ["mvd (hparams/mvd.yaml)", "mvd (own/mvd.yaml)"]
    settings = [{"model.settings": {"width": width}} for width in (1, 2)]
    records = [measured("mvd", 0.3, 0, 0.1 * i, change) for i, change in enumerate(settings)]
    curves = noise_points(records)
    assert len(curves) == 2 and all(name.startswith("mvd (") for name in curves)
    points = [curve["attack_success_rate"] for curve in curves.values()]
    assert sorted(point[0][1] for point in points) == [0, 0.1]


def test_one_figure_for_each_data_set_scale_and_attack(measured):
    records = [
        measured("mvd", 0.3, 0, 0.1),
        measured("mvd", 0.3, 1, 0.1, {"attack.seed": 1, "attack.poisoned": 250}),
        measured("mvd", 0.3, 0, 0.2, {"attack.name": "whistle"}),
        measured("mvd", 0.3, 0, 0.3, {"dataset.scale": "full"}),
        measured("mvd", 0.3, 0, 0.4, {"dataset.name": "ESD", "dataset.variant": None}),
        measured("mvd", None, 0, 0.5, {"attack.name": "horn"}),  # without noise: no figure
        measured("mvd", 0.3, 0, 0.6, {"attack": None, "metrics": {}}),  # no backdoor
    ]
    tasks = tasks_with_noise(records)
    assert {stem: curves["mvd"]["attack_success_rate"] for stem, curves in tasks.items()} == {
        "ESD-subset-clap-scale-0.1": [(0.3, 0.4, 0.4, 0.4)],
        "SpeechCommands-12-full-clap-scale-0.1": [(0.3, 0.3, 0.3, 0.3)],
        "SpeechCommands-12-subset-clap-scale-0.1": [(0.3, 0.1, 0.1, 0.1)],
        "SpeechCommands-12-subset-whistle-scale-0.1": [(0.3, 0.2, 0.2, 0.2)],
    }
    assert tasks == tasks_with_noise(records[::-1])
    assert list(draw(records, [])) == [f"noise-{stem}" for stem in tasks]
    with pytest.raises(ValueError, match="several attacks"):
        noise_points(records)


def test_attacks_of_one_name_get_files_of_their_own(measured):
    records = [
        measured("mvd", 0.3, 0, value, {"attack.trigger.scale": scale})
        for scale, value in ((0.1, 0.5), (0.02, 0.2))
    ]
    records.append(measured("mvd", 0.3, 0, 0.1, {"dataset.digest": "other"}))
    stems = list(tasks_with_noise(records))
    assert len(stems) == 3
    assert all(stem.startswith("SpeechCommands-12-subset-clap-") for stem in stems)
    assert sorted(stems) == sorted(tasks_with_noise(records[::-1]))


CURVES = {
    name: {
        metric: [(0.0, 0.9 - down, 0.85 - down, 1.2 - down), (0.3, 0.5, 0.5, 0.5)]
        for metric in noise_figure.METRICS
    }
    for name, down in (("base_wrn", 0.0), ("mvd", 0.2))
}


def test_curves_are_drawn_in_percent_with_bars_within_the_scale():
    figure = noise_curves(CURVES, "x")
    accuracy, success = figure.axes
    assert "accuracy" in accuracy.get_ylabel() and "success" in success.get_ylabel()
    for axis in (accuracy, success):
        data, _, (bars,) = axis.containers[0]
        assert np.allclose(data.get_xydata(), [[0, 90], [0.3, 50]])
        assert np.allclose(bars.get_segments()[0], [[0, 85], [0, 100]])
        one_seed = np.reshape(bars.get_segments()[1], (-1, 2))
        assert not np.isfinite(one_seed[:, 1]).any()
        looks = {(c[0].get_color(), c[0].get_marker()) for c in axis.containers}
        assert len(looks) == len(axis.containers) == 2
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["base_wrn", "mvd"]


def test_the_same_curves_give_the_same_bytes(tmp_path):
    save(noise_curves(CURVES, "x"), tmp_path / "1.png")
    save(noise_curves(CURVES, "x"), tmp_path / "2.png")
    save(noise_curves({"mvd": CURVES["mvd"]}, "x"), tmp_path / "3.png")
    one, two, three = ((tmp_path / f"{i}.png").read_bytes() for i in (1, 2, 3))
    assert one == two != three
    image = imread(tmp_path / "1.png")
    assert image.shape[1] == 1200 and image[..., :3].std() > 0.05


def test_a_model_may_lack_a_metric_but_not_every_one():
    curves = {"mvd": {"attack_success_rate": [(0.3, 0.5, 0.5, 0.5)]}}
    assert [len(axis.containers) for axis in noise_curves(curves, "x").axes] == [1, 1]
    for empty in ({}, {"mvd": {}}, {"mvd": {"attack_success_rate": []}}):
        with pytest.raises(ValueError, match="no point"):
            noise_curves(empty, "x")
