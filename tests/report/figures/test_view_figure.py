"""Figures of view models: they show their data, and nothing else changes them."""

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from bdlib.report.figures.figure import save
from bdlib.report.figures.view_figure import energy_histograms, langevin_samples, view_votes

RNG = np.random.Generator(np.random.PCG64(0))
FEATURES = RNG.normal(size=(100, 40))
VOTES = {name: RNG.normal(size=40) for name in ("_unknown_", "left", "on", "yes")}
ENERGIES = {"clean": RNG.normal(-9, 1, 300), "triggered": RNG.normal(-7, 1, 90)}
SAMPLES = {epoch: RNG.normal(size=(3, 61, 40)) for epoch in range(0, 21)}


def draw_votes(votes=VOTES, true="_unknown_", target="left", **options):
    return view_votes(FEATURES, votes, 61, true, target, "clap", **options)


def colour_of(axis, label):
    (line,) = [line for line in axis.lines if str(line.get_label()).startswith(label)]
    return line.get_color(), line


@pytest.mark.parametrize(
    ("draw", "other"),
    [
        (draw_votes, lambda: draw_votes(trigger=(0.0, 0.15))),
        (
            lambda: energy_histograms(ENERGIES, "x"),
            lambda: energy_histograms({"clean": ENERGIES["clean"]}, "x"),
        ),
        (
            lambda: langevin_samples(SAMPLES, "x"),
            lambda: langevin_samples(SAMPLES, "x", ["on", "no", "up"]),
        ),
    ],
)
def test_a_png_of_readme_width_with_the_same_bytes_for_the_same_data(tmp_path, draw, other):
    for number, figure in enumerate((draw(), draw(), other()), start=1):
        save(figure, tmp_path / f"{number}.png")
    one, two, three = ((tmp_path / f"{i}.png").read_bytes() for i in (1, 2, 3))
    assert one == two != three
    image = imread(tmp_path / "1.png")
    assert image.shape[1] == 1200 and 300 <= image.shape[0] <= 1200
    assert image[..., :3].std() > 0.05 and (image[..., :3].min(2) < 0.5).mean() > 0.005


def test_votes_lie_at_the_start_of_their_view_and_all_that_stands_out_is_named():
    figure = draw_votes(trigger=(0.2, 0.35))
    upper, lower = figure.axes[:2]
    for name, label in (("_unknown_", "true class"), ("left", "target class")):
        _, line = colour_of(lower, f"{label} {name}")
        assert np.allclose(line.get_ydata(), VOTES[name])
        assert np.allclose(line.get_xdata(), np.arange(40) / 100)
    assert upper.get_xlim() == lower.get_xlim() == (0, 1)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any("_unknown_" in text for text in legend) and "trigger sounds" in legend
    shades = [patch.get_extents().width for axis in (upper, lower) for patch in axis.patches]
    assert len(shades) == 3  # the frame of a view, and the trigger in either panel


@pytest.mark.parametrize("winner", ["_unknown_", "left", "yes"])
def test_eq_7_decides_by_logsumexp_over_all_views_and_all_classes(winner):
    """The decided class loses every vote by maximum: another class has the highest single view."""
    spike = next(name for name in VOTES if name != winner)
    votes = {name: np.full(40, -9.0) for name in VOTES}
    votes[spike][7], votes[winner] = 2.0, np.full(40, 0.0)  # log(40) = 3.7 > 2
    votes[winner][31] = 0.1
    figure = draw_votes(votes)
    upper, lower = figure.axes[:2]
    assert [text.get_text().strip() for text in lower.texts] == [f"Eq. 7 decides: {winner}"]
    (frame,) = upper.patches
    assert np.allclose((frame.get_x(), frame.get_width()), (0.31, 0.61))
    _, line = colour_of(lower, f"highest view of {winner}")
    assert np.allclose((line.get_xdata()[0], line.get_ydata()[0]), (0.31, 0.1))


def test_votes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"not of shape \(40,\)"):
        draw_votes({**VOTES, "on": np.zeros(39)})
    with pytest.raises(ValueError, match="votes for"):
        draw_votes(target="right")
    with pytest.raises(ValueError, match="-20 views"):
        view_votes(FEATURES[:40], VOTES, 61, "on", "left", "x")


def test_histograms_share_bins_and_each_adds_up_to_all_its_inputs():
    figure = energy_histograms(ENERGIES, "x")
    stairs = [patch.get_data() for patch in figure.axes[0].patches]
    assert len(stairs) == 2 and np.array_equal(stairs[0].edges, stairs[1].edges)
    everything = np.concatenate(list(ENERGIES.values()))
    assert stairs[0].edges[0] == everything.min() and stairs[0].edges[-1] == everything.max()
    for (values, edges, _), energies in zip(stairs, ENERGIES.values(), strict=True):
        assert values.sum() == pytest.approx(100)
        below = 100 * np.mean(energies < edges[30])
        assert values[:30].sum() == pytest.approx(below)


def test_energies_that_cannot_be_drawn_are_refused():
    for energies in ({}, {"clean": np.zeros(0)}, {"clean": np.array([0.0, np.inf])}):
        with pytest.raises(ValueError, match="missing or not finite"):
            energy_histograms(energies, "x")
    assert energy_histograms({"one value": np.full(9, -3.0)}, "x").axes


@pytest.mark.parametrize(
    ("epochs", "shown"),
    [
        (range(0, 21), [0, 4, 8, 12, 16, 20]),
        ([40, 1], [1, 40]),
        ([7], [7]),
        (range(1, 8), [1, 2, 3, 5, 6, 7]),
    ],
)
def test_at_most_six_epochs_with_the_first_and_the_last(epochs, shown):
    samples = {epoch: np.full((2, 61, 8), float(epoch)) for epoch in epochs}
    figure = langevin_samples(samples, "x", ["no", "_unknown_"])
    axes = np.reshape(figure.axes[: 2 * len(shown)], (2, -1))
    assert [axis.get_title() for axis in axes[0]] == [f"epoch {epoch}" for epoch in shown]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["no", "_unknown_"]
    for axis, epoch in zip(axes[1], shown, strict=True):
        assert np.all(axis.images[0].get_array() == epoch)


def test_samples_keep_their_place_and_one_colour_scale():
    figure = langevin_samples({1: SAMPLES[0], 2: 5 * SAMPLES[1]}, "x")
    axes = np.reshape(figure.axes[:6], (3, 2))
    for row, (first, second) in enumerate(axes):
        assert np.array_equal(first.images[0].get_array(), SAMPLES[0][row].T)
        assert np.array_equal(second.images[0].get_array(), 5 * SAMPLES[1][row].T)
    assert len({axis.images[0].get_clim() for axis in axes.flat}) == 1
    low, high = axes[0, 0].images[0].get_clim()
    assert low < -8 and high > 8  # the wide epoch counts too


def test_samples_that_do_not_fit_are_refused():
    for samples in ({}, {1: SAMPLES[0], 2: SAMPLES[1][:2]}, {1: SAMPLES[0][:0]}):
        with pytest.raises(ValueError, match="missing or differ"):
            langevin_samples(samples, "x")
    with pytest.raises(ValueError, match="3 samples of 2 classes"):
        langevin_samples(SAMPLES, "x", ["no", "on"])


def test_no_text_is_smaller_than_8_points_and_none_is_cut_off():
    figures = [
        draw_votes(trigger=(0.0, 0.15)),
        energy_histograms(ENERGIES, "x"),
        langevin_samples(SAMPLES, "x", ["_silence_", "_unknown_", "left"]),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if text.get_text()]
        assert len(texts) > 10 and min(text.get_fontsize() for text in texts) >= 8
        drawn_on, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(drawn_on.x0, drawn_on.y0) > -0.01, figure
        assert drawn_on.x1 < width + 0.01 and drawn_on.y1 < height + 0.01
