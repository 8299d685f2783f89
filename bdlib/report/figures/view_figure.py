"""Figures of view models: what each view says, energies, and Langevin samples.

Every function takes plain data and draws as those of `bdlib.report.figures.figure` do.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from bdlib.report.figures.figure import BLUE, GREEN, GREY, ORANGE, new

FRAME = 0.01  # seconds
BINS = 80
COLUMNS = 6  # epochs of Langevin samples that fit the width
LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (GREY, ":"))


def view_votes(
    features: np.ndarray,
    votes: dict[str, np.ndarray],
    view_frames: int,
    true: str,
    target: str,
    title: str,
    trigger: tuple[float, float] | None = None,
) -> Figure:
    """Draw an utterance, what each of its views says, and what they decide (MVJ Eq. 7).

    Arguments
    ---------
    features : np.ndarray
        Normalised features (T, F), a frame every 10 ms.
    votes : dict[str, np.ndarray]
        For every class, since Eq. 7 decides among all: its logits (views,), by the view's start.
    view_frames : int
        Frames of a view; there are T - `view_frames` + 1 views.
    true, target : str
        The classes whose curves stand out, beside the one that Eq. 7 decides for.
    title : str
        Heading of the figure.
    trigger : tuple of float, optional
        Seconds from which and until which the trigger sounds; shaded.

    Raises
    ------
    ValueError
        If the number of views does not fit, or `true` or `target` has no votes.
    """
    count = len(features) - view_frames + 1
    if count < 1 or not {true, target} <= votes.keys():
        raise ValueError(f"{count} views with votes for {', '.join(votes)}")
    if any(np.shape(logits) != (count,) for logits in votes.values()):
        raise ValueError(f"votes not of shape ({count},)")
    scores = {name: float(np.logaddexp.reduce(logits)) for name, logits in votes.items()}
    decided = max(scores, key=scores.__getitem__)
    colours = {decided: GREEN, true: BLUE, target: ORANGE}
    best = int(np.argmax(votes[decided])), float(np.max(votes[decided]))
    figure = new(5.8, title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 5))
    image = _image(upper, features, _limits([features]))
    figure.colorbar(image, ax=upper, label="deviations of\ntraining features", pad=0.01)
    upper.set_ylabel("mel channel")
    frame = Rectangle((best[0] * FRAME, 0), view_frames * FRAME, features.shape[1], clip_on=False)
    upper.add_patch(frame).set(fill=False, edgecolor=colours[decided], linewidth=2.5, zorder=3)
    _draw_votes(lower, votes, scores, colours, {true: "true class", target: "target class"})
    label = f"highest view of {decided}, framed above"
    dot = {"color": colours[decided], "marker": "o", "linestyle": "", "markersize": 7}
    lower.plot(best[0] * FRAME, best[1], label=label, **dot)
    # The score that decides is the highest thing drawn: there is room above it.
    place, text = (len(features) * FRAME, scores[decided]), f"Eq. 7 decides: {decided} "
    lower.annotate(text, place, (0, 5), textcoords="offset points", ha="right", color=dot["color"])
    lower.margins(y=0.12)
    if trigger is not None:
        upper.axvspan(*trigger, color="white", alpha=0.2, linewidth=0)
        upper.vlines(trigger, 0, features.shape[1], colors="white", linestyles="--")
        lower.axvspan(*trigger, color=GREY, alpha=0.2, linewidth=0, label="trigger sounds")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def energy_histograms(energies: dict[str, np.ndarray], title: str) -> Figure:
    """Draw how the energies of several kinds of inputs are distributed, in common bins.

    Arguments
    ---------
    energies : dict[str, np.ndarray]
        Energies (N,) by kind of input, such as clean, triggered and noise.
    title : str
        Heading of the figure.

    Raises
    ------
    ValueError
        If a kind has no input, or an energy is not finite.
    """
    if not energies or not all(len(x) and np.isfinite(x).all() for x in energies.values()):
        raise ValueError("energies are missing or not finite")
    edges = np.histogram_bin_edges(np.concatenate(list(energies.values())), BINS)
    figure = new(3.2, title)
    axis = figure.subplots()
    for number, (name, values) in enumerate(energies.items()):
        colour, line = LINES[number % len(LINES)]
        share = 100 * np.histogram(values, edges)[0] / len(values)
        label = f"{name}: n = {len(values)}, median {np.median(values):.1f}"
        axis.stairs(share, edges, color=colour, linestyle=line, linewidth=1.8, label=label)
    axis.set(
        xlabel="energy $E(x) = -\\log\\,\\sum_{\\tau, y}\\,\\exp f(x^\\tau)_y$  (lower: likelier)"
    )
    axis.set(ylabel="share of inputs [%]", ylim=(0, None))
    axis.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def langevin_samples(
    samples: dict[int, np.ndarray],
    title: str,
    classes: Sequence[str] | None = None,
) -> Figure:
    """Draw samples of an energy-based model as it learns: a row each, epochs from left to right.

    Arguments
    ---------
    samples : dict[int, np.ndarray]
        Normalised features (S, frames, mels) by epoch. Of more than 6 epochs, 6 evenly chosen ones
        are shown, the first and the last among them.
    title : str
        Heading of the figure.
    classes : sequence of str, optional
        The class that each of the S samples was asked to be.

    Raises
    ------
    ValueError
        If there is no sample, the shapes differ, or there are not S classes.
    """
    shapes = {np.shape(drawn) for drawn in samples.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 3 or not all(shape):
        raise ValueError(f"samples of {len(samples)} epochs are missing or differ in shape")
    names = [f"sample {i + 1}" for i in range(shape[0])] if classes is None else classes
    if len(names) != shape[0]:
        raise ValueError(f"{shape[0]} samples of {len(names)} classes")
    epochs = _spread(sorted(samples), COLUMNS)
    figure = new(1.2 + 1.05 * shape[0], title)
    axes = figure.subplots(shape[0], len(epochs), sharex=True, sharey=True, squeeze=False)
    limits = _limits([samples[epoch] for epoch in epochs])
    for column, epoch in zip(axes.T, epochs, strict=True):
        column[0].set_title(f"epoch {epoch}", fontsize=10)
        for axis, sample in zip(column, samples[epoch], strict=True):
            image = _image(axis, sample, limits)
            axis.tick_params(labelsize=8)
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize=9)
    figure.supxlabel("time [s]", fontsize=10)
    figure.supylabel("mel channel", fontsize=10)
    bar = {"pad": 0.01, "aspect": 12 * len(axes)}  # as wide for many rows as for few
    figure.colorbar(image, ax=axes, label="deviations of training features", **bar)
    return figure


def _draw_votes(
    axis: Axes,
    votes: dict[str, np.ndarray],
    scores: dict[str, float],
    colours: dict[str, str],
    roles: dict[str, str],
) -> None:
    """Logits of the views by their start; the score of a class that stands out as a dashed line."""
    for name, colour in colours.items():
        # The class comes last: matplotlib leaves a label out that begins with an underscore.
        label = f"{roles.get(name, 'decided class')} {name}; dashed: Eq. 7, {scores[name]:.1f}"
        axis.plot(*_timed(votes[name]), color=colour, linewidth=1.8, label=label)
        axis.axhline(scores[name], color=colour, linestyle="--", linewidth=1.2)
    others = [_timed(logits) for name, logits in votes.items() if name not in colours]
    lines = LineCollection([np.transpose(line) for line in others], colors="#BBBBBB", zorder=1)
    axis.add_collection(lines).set(linewidth=0.7, label="other classes")
    axis.set(xlabel="time; of a view, where it starts [s]")
    axis.set_ylabel("logit $f(x^\\tau)_y$ of a view\n$= \\log p(x^\\tau, y)$ + constant")
    axis.grid(alpha=0.25)


def _timed(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return FRAME * np.arange(len(logits)), logits


def _image(axis: Axes, features: np.ndarray, limits: tuple[float, float]) -> AxesImage:
    """Features (T, F) with time to the right and the lowest mel channel at the bottom."""
    frames, mels = features.shape
    return axis.imshow(
        features.T,
        origin="lower",
        aspect="auto",
        extent=(0, frames * FRAME, 0, mels),
        cmap="cividis",
        vmin=limits[0],
        vmax=limits[1],
    )


def _limits(shown: Iterable[np.ndarray]) -> tuple[float, float]:
    """Ends of a colour scale that a few extreme points do not stretch."""
    low, high = np.percentile(np.concatenate([np.ravel(x) for x in shown]), (0.5, 99.5))
    return float(low), float(high)


def _spread(epochs: list[int], count: int) -> list[int]:
    """At most `count` of the epochs, evenly chosen, the first and the last among them."""
    places = np.linspace(0, len(epochs) - 1, min(count, len(epochs)))
    return [epochs[round(place)] for place in places]
