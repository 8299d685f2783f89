"""The leaderboard in one picture: what a defense leaves of an attack, and of the accuracy."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bdlib.report.figures.figure import GREY, Picture, new
from bdlib.report.figures.overview_figure import KINDS, SIZE, write_labels
from bdlib.report.leaderboard import HALVES, Board, Row

CONTROLS = {"perfect_filter_oracle", "random_filter"}
Point = tuple[str, str | None, float, float, float]
"""Of a defense its name and stage, then clean accuracy, ASR and ASR of its worst attack in percent."""


def draw(boards: list[Board]) -> dict[str, Picture]:
    """Clean accuracy against attack success rate, a point a defense, a panel a task.

    Arguments
    ---------
    boards : list of Board
        The last part is drawn, of the fewest seeds, which most defenses have. A defense that met other attacks than the
        undefended nets is left out.

    Returns
    -------
    dict[str, Picture]
        By the stem of a file, one for each half that has records; the confirmation half first.
    """
    drawn = {}
    for half in reversed(HALVES):
        panels = [(_title(b), _points(b)) for b in boards if b.half == half and b.data]
        if panels := [(name, points) for name, points in panels if points]:
            title = f"Defenses against the attacks of the {half} half"
            drawn[f"leaderboard-{half}"] = Picture(board_figure, (panels,), title)
    return drawn


def _title(board: Board) -> str:
    return ", ".join(filter(None, (board.dataset, board.parts[-1].title)))


def _points(board: Board) -> list[Point]:
    part = board.parts[-1]
    return [_point(row) for row in part.rows if row.worst and row.met == part.undefended]


def _point(row: Row) -> Point:
    shares = (row.accuracy.mean, row.success.mean, row.worst[0])
    return row.defense, row.stage, *(100 * share for share in shares)


def board_figure(panels: list[tuple[str, list[Point]]], title: str) -> Figure:
    """The picture: above each point a line to its worst attack; controls are hollow."""
    figure = new(5.4 * len(panels), title)
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axis, (name, points) in zip(axes, panels, strict=True):
        _panel(axis, name, points)
    stages = {stage for _, points in panels for _, stage, *_ in points}
    for stage, (name, colour) in KINDS.items():
        if stage in stages:
            axes[0].plot([], [], "o", color=colour, markersize=8, label=name)
    axes[0].plot([], [], "_", color="black", markersize=10, label="worst attack")
    axes[0].plot([], [], "o", color="white", markeredgecolor="black", label="control")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=SIZE)
    for axis, (_, points) in zip(axes, panels, strict=True):
        labels = [(name, KINDS[stage][1]) for name, stage, *_ in points]
        write_labels(figure, axis, [(x, y) for _, _, x, y, _ in points], labels)
    return figure


def _panel(axis: Axes, name: str, points: list[Point]) -> None:
    for defense, stage, x, y, worst in points:
        colour = KINDS[stage][1]
        axis.plot([x, x], [y, worst], color=colour, linewidth=1, alpha=0.6)
        axis.plot(x, worst, "_", color=colour, markersize=10)
        inside = "white" if defense in CONTROLS else colour
        axis.plot(x, y, "o", color=inside, markersize=8, markeredgecolor=colour)
    low, high = (end(x for _, _, x, *_ in points) for end in (min, max))
    room = max(0.15 * (high - low), 1.0)
    axis.set(xlim=(low - room, min(high + 1.5 * room, 101)), ylim=(-6, 106))
    axis.set_title(name, fontsize=11, color=GREY)
    axis.set_xlabel("clean accuracy [%]  (right is better)", fontsize=11)
    axis.set_ylabel("attack success rate [%]  (low is better)", fontsize=11)
    axis.grid(alpha=0.25)
