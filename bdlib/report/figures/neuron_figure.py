"""Figure of the gradients of neuron groups before and after a repair (the observation of GN-FT)."""

from matplotlib.figure import Figure

from bdlib.report.figures.figure import BLUE, GREEN, ORANGE, new

STYLES = {
    "backdoored": (ORANGE, "o", "backdoored: top 5 % by what the trigger changes"),
    "hybrid": (GREEN, "s", "hybrid"),
    "clean": (BLUE, "^", "clean: bottom half"),
}

Norms = dict[str, list[float | None]]


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
            for group, (colour, marker, label) in STYLES.items():
                layers = range(1, len(groups[group]) + 1)
                axis.plot(
                    layers, groups[group], color=colour, marker=marker, markersize=4, label=label
                )
            axis.set_yscale("log")
            axis.grid(alpha=0.25)
            axis.set_title(f"{data}, {when} the repair", fontsize=10)
        row[0].set_ylabel("gradient norm of a neuron")
    for axis in axes[-1]:
        axis.set_xlabel("convolution")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
