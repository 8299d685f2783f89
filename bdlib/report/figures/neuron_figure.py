"""Figure of the gradients of neuron groups before and after a repair (the observation of GN-FT)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bdlib.report.figures.figure import BLUE, GREEN, ORANGE, Picture, new
from bdlib.report.figures.panels import heading, panels
from bdlib.report.groups import Records
from bdlib.report.matrix import repaired, shown
from bdlib.report.published import Published
from bdlib.report.stems import neuron_stem

STYLES = {
    "backdoored": (ORANGE, "o", "backdoored: top 5 % by what the trigger changes"),
    "hybrid": (GREEN, "s", "hybrid"),
    "clean": (BLUE, "^", "clean: bottom half"),
}

Norms = dict[str, list[float | None]]
IN_A_ROW = 3
RATIO = "neuron_ratio_triggered"


def draw(records: Records, published: list[Published]) -> dict[str, Picture]:
    """Draw the repairs of every net and attack, of which the records have norms.

    Arguments
    ---------
    records : list of dict
        Records of schema 1. Of several seeds the lowest is drawn; a repair that changed nothing is not.
    published : list of Published
        Not used: the paper gives no numbers.

    Returns
    -------
    dict[str, Picture]
        By the stem of a file, made of corpus, attack and a digest of it.
    """
    told = [
        record
        for record in records
        if record["status"] == "ok"
        and repaired(record)
        and shown(record)
        and "norms" in record["metrics"].get(RATIO, {})
        and record["metrics"]["repaired"]["value"]
    ]
    drawn = {}
    for repairs in panels(told):
        first = next(iter(repairs.values()))
        norms = {name: record["metrics"][RATIO]["norms"] for name, record in repairs.items()}
        title = f"{heading(first)}, triggered clips"
        drawn[neuron_stem(first)] = Picture(repaired_neurons, (norms,), title)
    return drawn


def repaired_neurons(repairs: dict[str, dict[str, Norms]], title: str) -> Figure:
    """Draw the gradient norm of each group by layer before and after each repair, a panel a repair.

    Arguments
    ---------
    repairs : dict[str, dict[str, Norms]]
        ``{repair: {"before": norms, "after": norms}}``, see `neuron_gradients`.
    title : str
        Heading of the figure.
    """
    rows = -(-len(repairs) // IN_A_ROW)
    figure = new(1.1 + 2.0 * rows, title)
    columns = min(IN_A_ROW, len(repairs))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis in axes[len(repairs) :]:
        axis.set_axis_off()
    for (name, norms), axis in zip(repairs.items(), axes, strict=False):
        _curves(axis, norms["before"], ", before", linestyle=":", markerfacecolor="none")
        _curves(axis, norms["after"], ", after")
        axis.set_title(name, fontsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    for axis in axes[: len(repairs) : columns]:
        axis.set_ylabel("gradient norm of a neuron", fontsize=8)
    for axis in axes[max(0, len(repairs) - columns) : len(repairs)]:  # nothing is drawn below
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("convolution", fontsize=8)
    _legend(figure, axes[0], 2)
    return figure


def neuron_gradients(norms: dict[str, tuple[Norms, Norms]], title: str) -> Figure:
    """Draw the gradient norm of each group by layer: a row for each data, before and after.

    Arguments
    ---------
    norms : dict[str, tuple[Norms, Norms]]
        ``{data: (before, after)}``, each ``{group: [norm by layer]}`` with the groups of `STYLES`.
    title : str
        Heading of the figure.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    if not norms:
        raise ValueError("no norms to draw")
    figure = new(0.8 + 2.3 * len(norms), title)
    axes = figure.subplots(len(norms), 2, sharex=True, sharey="row", squeeze=False)
    for row, (data, both) in zip(axes, norms.items(), strict=True):
        for axis, when, groups in zip(row, ("before", "after"), both, strict=True):
            _curves(axis, groups)
            axis.set_title(f"{data}, {when} the repair", fontsize=10)
        row[0].set_ylabel("gradient norm of a neuron")
    for axis in axes[-1]:
        axis.set_xlabel("convolution")
    _legend(figure, axes[0, 0], 3)
    return figure


def _curves(axis: Axes, norms: Norms, told: str = "", **style: str) -> None:
    """A line a group, over the layers; `told` is added to its label."""
    for group, (colour, marker, label) in STYLES.items():
        values = np.array(norms[group], dtype=float)  # of None, none
        layers = range(1, len(values) + 1)
        look = {"color": colour, "marker": marker, "markersize": 4, **style}
        axis.plot(layers, values, label=f"{label}{told}", **look)
    axis.set_yscale("log")
    axis.grid(alpha=0.25)


def _legend(figure: Figure, axis: Axes, columns: int) -> None:
    """Below all panels, of the lines of one."""
    handles, labels = axis.get_legend_handles_labels()
    where = {"loc": "outside lower center", "ncols": columns}
    figure.legend(handles, labels, frameon=False, fontsize=8, **where)
