"""Figures are written whole, of readable size, and depend on the data alone."""

import numpy as np
import pytest
from matplotlib.image import imread

from bdlib.report.figures.figure import attack_figure, confusion_matrix, save, training_curves

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
    figures = [
        attack_figure(SPEECH, triggered(), RATE, "clap"),
        training_curves(LOG),
        training_curves(LOG[:1]),
        confusion_matrix(["no", "on"], ["on", "on"], ["no", "on"], "test"),
    ]
    for number, figure in enumerate(figures):
        path = tmp_path / f"{number}.png"
        save(figure, path)
        height, width = imread(path).shape[:2]
        assert width == 1200
        assert 300 <= height <= 1200


def test_the_same_data_give_the_same_bytes_and_other_data_do_not(tmp_path):
    save(attack_figure(SPEECH, triggered(), RATE, "x"), tmp_path / "1.png")
    save(attack_figure(SPEECH, triggered(), RATE, "x"), tmp_path / "2.png")
    save(attack_figure(SPEECH, SPEECH, RATE, "x"), tmp_path / "3.png")
    one, two, three = ((tmp_path / f"{i}.png").read_bytes() for i in (1, 2, 3))
    assert one == two != three


def test_a_clip_shorter_than_a_window_is_drawn(tmp_path):
    save(attack_figure(SPEECH[:100], SPEECH[:100], RATE, "short"), tmp_path / "s.png")
    assert (tmp_path / "s.png").exists()


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        attack_figure(SPEECH, SPEECH[:-1], RATE, "x")
    with pytest.raises(ValueError, match="no epoch"):
        training_curves([])
    with pytest.raises(ValueError, match="no such class: maybe"):
        confusion_matrix(["no"], ["maybe"], ["no", "on"], "x")
    with pytest.raises(ValueError, match=r"shorter|longer"):
        confusion_matrix(["no"], ["no", "no"], ["no"], "x")
