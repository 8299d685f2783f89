"""What filters make of one attack, as confusion matrices (VAE-PLS, Figure 5)."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bdlib.report.figures.figure import Picture, new
from bdlib.report.figures.panels import heading, panels
from bdlib.report.groups import Records
from bdlib.report.published import Published
from bdlib.report.stems import filter_stem

CELLS = (("filter_tn", "filter_fp"), ("filter_fn", "filter_tp"))  # clean above, poisoned below
IN_A_ROW = 4
CONTROLS = {"random_filter", "perfect_filter_oracle"}


def draw(records: Records, published: list[Published]) -> dict[str, Picture]:
    """Draw the filters of every attack that more than one of them judged, beside the controls.

    Arguments
    ---------
    records : list of dict
        Records of schema 1. Of several seeds the lowest is drawn.
    published : list of Published
        Not used: the paper gives no counts.

    Returns
    -------
    dict[str, Picture]
        By the stem of a file, made of corpus, attack and a digest of it.
    """
    filters = [
        record
        for record in records
        if record["status"] == "ok" and "filter_tp" in record["metrics"] and "classes" not in record
    ]
    drawn = {}
    for judged in panels(filters):
        if len(judged) > len(CONTROLS.intersection(judged)) + 1:
            metrics = {name: record["metrics"] for name, record in judged.items()}
            first = next(iter(judged.values()))
            drawn[filter_stem(first)] = Picture(confusions, (metrics,), heading(first))
    return drawn


def confusions(filters: dict[str, dict[str, Any]], title: str) -> Figure:
    """Draw clean and poisoned clips against kept and removed ones, a panel a filter.

    Arguments
    ---------
    filters : dict[str, dict[str, Any]]
        Metrics of each filter, with `filter_tp`, `filter_fp`, `filter_fn` and `filter_tn`.
    title : str
        Heading of the figure.
    """
    rows = -(-len(filters) // IN_A_ROW)
    figure = new(0.5 + 2.2 * rows, title)
    axes = np.atleast_1d(figure.subplots(rows, min(IN_A_ROW, len(filters)))).ravel()
    for axis in axes[len(filters) :]:
        axis.set_axis_off()
    for (name, metrics), axis in zip(filters.items(), axes, strict=False):
        _confusion(axis, np.array([[metrics[cell]["value"] for cell in row] for row in CELLS]))
        axis.set_title(name, fontsize=9)
    return figure


def _confusion(axis: Axes, counts: np.ndarray) -> None:
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{count:,}\n{100 * shares[row, column]:.1f} %"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks((0, 1), ("kept", "removed"), fontsize=8)
    axis.set_yticks((0, 1), ("clean", "poisoned"), fontsize=8)
