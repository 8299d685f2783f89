"""Figures of an attack, of a training, and of what a classifier confuses.

Every function takes plain data, draws without a display and returns a figure 8 inches wide, which
`save` writes. Colours are those of Okabe and Ito and of matplotlib's cividis and Blues, which
colour-blind readers tell apart.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from bdlib.files import atomic, digest

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
WIDTH = 8.0  # inches
LETTERS = 90  # of a heading, in a line
DATA = "Data"  # key in a png
FLOOR = -80.0  # dB below the loudest point, the darkest colour of a spectrogram


def new(height: float, title: str = "") -> Figure:
    """An empty figure of the common width and `height` in inches; an empty title is left out."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    if title:
        figure.suptitle(textwrap.fill(title, LETTERS), fontsize=11)
    return figure


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn when it is asked for.

    Arguments
    ---------
    function : Callable[..., Figure]
        Draws it from the data and the title.
    data : tuple[Any, ...]
        All that it shows.
    title : str
        Its heading.
    """

    function: Callable[..., Figure]
    data: tuple[Any, ...]
    title: str

    @cached_property
    def figure(self) -> Figure:
        """The figure, drawn."""
        return self.function(*self.data, title=self.title)

    @cached_property
    def digest(self) -> str:
        """Of all that it shows, by which one notices that its records have changed."""
        return shown([self.function.__name__, self.title, *self.data])


def shown(data: Any) -> str:
    """Digest of what a figure shows: numbers to six digits, which no machine computes otherwise."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):  # first, because most are
            return f"{value:.6g}"
        if is_dataclass(value):
            value = {field.name: getattr(value, field.name) for field in fields(value)}
        if isinstance(value, Mapping):
            return [[plain(key), plain(item)] for key, item in value.items()]
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    return digest(plain(data))


def save(figure: Figure, path: str | Path, data: str = "") -> None:
    """Write a figure as a png, whole or not at all, with the digest of its data in it."""
    with atomic(path) as temporary:
        # Without the name of the library's version the same data give the same bytes.
        own = {DATA: data} if data else {}
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None, **own})


def made_of(path: str | Path) -> str | None:
    """The digest of its data that a png has in it."""
    with Image.open(path) as image:
        return image.info.get(DATA)


def attack_figure(clean: np.ndarray, triggered: np.ndarray, rate: int, title: str) -> Figure:
    """Draw a clip before and after the trigger, and what the trigger added.

    Arguments
    ---------
    clean, triggered : np.ndarray
        Waveforms (T,) in [-1, 1], of one length.
    rate : int
        Sampling rate in Hz.
    title : str
        Heading of the figure.

    Raises
    ------
    ValueError
        If the waveforms differ in length or are empty.
    """
    clean, triggered = np.asarray(clean, dtype=float), np.asarray(triggered, dtype=float)
    if clean.shape != triggered.shape or clean.ndim != 1 or not len(clean):
        raise ValueError(f"waveforms of shapes {clean.shape} and {triggered.shape}")
    waves = {
        "clean": (clean, BLUE),
        "with trigger": (triggered, ORANGE),
        "difference (own scale)": (triggered - clean, GREEN),
    }
    spectra = [_spectrogram(wave, rate) for wave, _ in waves.values()]
    top = max(spectrum.max() for spectrum in spectra[:2])
    figure = new(4.4, title)
    axes = figure.subplots(2, 3, sharex=True)
    seconds = np.arange(len(clean)) / rate
    limit = 1.05 * max(np.abs(clean).max(), np.abs(triggered).max(), 1e-4)
    for column, ((name, (wave, colour)), spectrum) in enumerate(
        zip(waves.items(), spectra, strict=True)
    ):
        upper, lower = axes[:, column]
        own = 1.05 * max(np.abs(wave).max(), 1e-4)
        upper.plot(seconds, wave, color=colour, linewidth=0.6)
        upper.set_title(name, fontsize=10)
        upper.set(ylim=(-own, own) if column == 2 else (-limit, limit))
        upper.grid(alpha=0.25)
        image = lower.imshow(
            spectrum - top,
            origin="lower",
            aspect="auto",
            extent=(0, len(clean) / rate, 0, rate / 2000),
            cmap="cividis",
            vmin=FLOOR,
            vmax=0,
        )
        lower.set_xlabel("time [s]")
    axes[0, 0].set_ylabel("amplitude")
    axes[1, 0].set_ylabel("frequency [kHz]")
    figure.colorbar(image, ax=axes[1, :], label="level [dB re. loudest]", pad=0.01)
    return figure


def training_curves(train_log: list[dict[str, Any]]) -> Figure:
    """Draw loss, accuracy and learning rate by epoch.

    Arguments
    ---------
    train_log : list of dict
        One row an epoch with `epoch`, `train_loss`, `valid_loss`, `valid_accuracy` (share of one)
        and `lr`. The epoch with the lowest validation loss is marked.

    Raises
    ------
    ValueError
        If there is no epoch.
    """
    if not train_log:
        raise ValueError("no epoch to draw")
    rows = {key: [row[key] for row in train_log] for key in train_log[0]}
    epochs = rows["epoch"]
    best = epochs[int(np.argmin(rows["valid_loss"]))]
    figure = new(2.6)
    loss, accuracy, lr = figure.subplots(1, 3)
    loss.plot(epochs, rows["train_loss"], color=BLUE, marker="o", label="training")
    loss.plot(epochs, rows["valid_loss"], color=ORANGE, marker="s", label="validation")
    loss.set(ylabel="loss", ylim=(0, 1.08 * max(rows["train_loss"] + rows["valid_loss"])))
    shares = 100 * np.asarray(rows["valid_accuracy"])
    accuracy.plot(epochs, shares, color=ORANGE, marker="s", label="validation")
    accuracy.set(ylabel="accuracy [%]", ylim=(max(0, shares.min() - 5), 101))
    lr.plot(epochs, rows["lr"], color=GREY, marker=".", label="learning rate")
    lr.set(ylabel="learning rate", ylim=(0, 1.08 * max(rows["lr"])))
    lr.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    for axis in (loss, accuracy, lr):
        for line in axis.lines:
            line.set(linewidth=1.4, markersize=3.5)
        axis.axvline(best, color=GREY, linestyle=":", linewidth=1, label=f"best (epoch {best})")
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axis.grid(alpha=0.25)
    loss.legend(frameon=False, fontsize=8)
    return figure


def confusion_matrix(
    true: Sequence[str],
    predicted: Sequence[str],
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Draw which class is taken for which.

    Arguments
    ---------
    true, predicted : sequence of str
        Class names, one pair an utterance.
    classes : sequence of str
        All class names, in the order of the axes.
    title : str
        Heading of the figure.

    Raises
    ------
    ValueError
        If the sequences differ in length or hold a name that is no class.
    """
    index = {name: i for i, name in enumerate(classes)}
    unknown = sorted({*true, *predicted} - index.keys())
    if unknown:
        raise ValueError(f"no such class: {', '.join(unknown)}")
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    for a, b in zip(true, predicted, strict=True):
        counts[index[a], index[b]] += 1
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new(min(WIDTH, 2.2 + 0.36 * len(classes)), title)
    axis = figure.subplots()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    totals = [f"{name} ({n})" for name, n in zip(classes, counts.sum(axis=1), strict=True)]
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(classes)), totals)
    axis.set(xlabel="predicted class", ylabel="true class (utterances)")
    _write_cells(axis, counts, share)
    figure.colorbar(image, ax=axis, label="share of the true class [%]", pad=0.01)
    return figure


def _write_cells(axis: Axes, counts: np.ndarray, share: np.ndarray) -> None:
    """Write the count into each cell that has one."""
    size = 9 if len(counts) <= 15 else 6
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[row, column] > 50 else "black"
        text = str(counts[row, column])
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _spectrogram(wave: np.ndarray, rate: int) -> np.ndarray:
    """Log power (F, N) in dB, 25 ms Hann windows each 10 ms; frame n is centred on n * 10 ms."""
    length, hop = round(0.025 * rate), round(0.01 * rate)
    padded = np.pad(wave, length // 2, mode="constant")
    padded = np.pad(padded, (0, max(0, length - len(padded))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    size = 1 << (length - 1).bit_length()
    power = np.abs(np.fft.rfft(frames * np.hanning(length), size)) ** 2
    return 10 * np.log10(power.T + 1e-10)
