"""Figures are written whole, of readable size, and depend on the data alone."""

import numpy as np
import pytest
from matplotlib.image import imread

from bdlib.records.figure import attack_figure, confusion_matrix, training_curves

RATE = 16000
SPEECH = 0.3 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE)
LOG = [
    {
        "epoch": i,
        "train_loss": 2 / i,
        "valid_loss": 2.2 / i,
        "valid_accuracy": 1 - 0.5 / i,
        "lr": 1e-3,
    }
    for i in range(1, 6)
]


def triggered():
    wave = SPEECH.copy()
    wave[:1600] += 0.1
    return wave


def test_each_figure_is_a_png_of_readme_width(tmp_path):
    attack_figure(SPEECH, triggered(), RATE, tmp_path / "a.png", "clap")
    training_curves(LOG, tmp_path / "b.png")
    training_curves(LOG[:1], tmp_path / "c.png")
    confusion_matrix(["no", "on"], ["on", "on"], ["no", "on"], tmp_path / "d.png", "test")
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == ["a.png", "b.png", "c.png", "d.png"]
    for path in paths:
        height, width = imread(path).shape[:2]
        assert width == 1200
        assert 300 <= height <= 1200


def test_the_same_data_give_the_same_bytes_and_other_data_do_not(tmp_path):
    attack_figure(SPEECH, triggered(), RATE, tmp_path / "1.png", "x")
    attack_figure(SPEECH, triggered(), RATE, tmp_path / "2.png", "x")
    attack_figure(SPEECH, SPEECH, RATE, tmp_path / "3.png", "x")
    one, two, three = ((tmp_path / f"{i}.png").read_bytes() for i in (1, 2, 3))
    assert one == two != three


def test_a_clip_shorter_than_a_window_is_drawn(tmp_path):
    attack_figure(SPEECH[:100], SPEECH[:100], RATE, tmp_path / "s.png", "short")
    assert (tmp_path / "s.png").exists()


def test_data_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "x.png"
    with pytest.raises(ValueError, match="shapes"):
        attack_figure(SPEECH, SPEECH[:-1], RATE, path, "x")
    with pytest.raises(ValueError, match="no epoch"):
        training_curves([], path)
    with pytest.raises(ValueError, match="no such class: maybe"):
        confusion_matrix(["no"], ["maybe"], ["no", "on"], path, "x")
    with pytest.raises(ValueError, match=r"shorter|longer"):
        confusion_matrix(["no"], ["no", "no"], ["no"], path, "x")
    assert not list(tmp_path.iterdir())
