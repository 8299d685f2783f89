"""Pictures of an autoencoder: its loss by terms, what it rebuilds, and what it makes up."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bdlib.report.figures.figure import BLUE, ORANGE, new

TERMS = {
    "reconstruction": "squared error a clip",
    "kl_f": "KL of f [nats]",
    "kl_z": "KL of z [nats]",
}


def autoencoder_curves(train_log: list[dict[str, Any]]) -> Figure:
    """Draw the three terms of the loss by epoch.

    Arguments
    ---------
    train_log : list of dict
        One row an epoch with `epoch`, and ``train_`` and ``valid_`` of each term.

    Raises
    ------
    ValueError
        If there is no epoch.
    """
    if not train_log:
        raise ValueError("no epoch to draw")
    epochs = [row["epoch"] for row in train_log]
    figure = new(2.6)
    for axis, (term, label) in zip(figure.subplots(1, 3), TERMS.items(), strict=True):
        for part, name, colour in (("train", "training", BLUE), ("valid", "watched", ORANGE)):
            values = [row[f"{part}_{term}"] for row in train_log]
            axis.plot(epochs, values, color=colour, linewidth=1.4, label=name)
        axis.set(xlabel="epoch", ylabel=label, ylim=(0, None))
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    return figure


def spectrograms(clips: np.ndarray, title: str) -> Figure:
    """Draw spectrograms, a column a clip.

    Arguments
    ---------
    clips : np.ndarray
        (clips, rows, T, F) in [-1, 1]: original above reconstruction, or samples alone.
    title : str
        Heading of the figure.
    """
    count, rows = clips.shape[:2]
    figure = new(0.6 + 1.7 * rows, title)
    axes = figure.subplots(rows, count, squeeze=False, sharex=True, sharey=True)
    for column, clip in enumerate(clips):
        for row, image in enumerate(clip):
            style = {"origin": "lower", "aspect": "auto", "cmap": "cividis"}
            axes[row, column].imshow(image.T, vmin=-1, vmax=1, **style)
        axes[-1, column].set_xlabel("frame")
    for row, name in enumerate(("clip", "rebuilt") if rows == 2 else ("sample",)):
        axes[row, 0].set_ylabel(f"{name}: mel")
    return figure
