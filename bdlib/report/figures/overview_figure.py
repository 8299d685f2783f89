"""What each model and defense makes of the attack that most of the papers share, in one picture."""

from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.transforms import Bbox

from bdlib.files import digest
from bdlib.report.figures.figure import BLUE, GREEN, GREY, ORANGE, Picture, new
from bdlib.report.groups import Records, let_through, unpoisoned
from bdlib.report.labels import defense_label, in_readme, system_label
from bdlib.report.published import Published
from bdlib.report.results import Section, corpora, sections

ATTACK = "clap, scale 0.1"
FEWEST = 4  # systems that are worth a picture
KINDS = {
    None: ("undefended", GREY),
    "filter": ("filter of the training data", BLUE),
    "training": ("other training", GREEN),
    "repair": ("repair of the weights", ORANGE),
    "inference": ("guard at test time", "#CC79A7"),
}
SIZE = 10  # points
SIDES = {-1: "right", 0: "center", 1: "left"}
MARKERS = "osD^v"  # by the state of the data
DISTANCES = (9, 20, 34, 50, 70, 95, 120, 150, 180, 210)  # points
ANGLES = np.radians((0, 180, 90, 270, 35, 145, 325, 215))


Point = tuple[float, float, str | None]
"""Clean accuracy and attack success rate in percent, and the stage of the defense."""
States = list[tuple[str, dict[str, Point]]]
"""The points of one attack by their labels, for each state of the data by its name."""


def draw(records: Records, published: list[Published]) -> dict[str, Picture]:
    """Clean accuracy against attack success rate, a point a model and defense.

    Arguments
    ---------
    records : list of dict
        Records of schema 1. Left out is what was tried with an eye on the test set.
    published : list of Published
        Not used: published numbers are of other data.

    Returns
    -------
    dict[str, Picture]
        By the stem of a file, one for each data set that met a clap on one class.
    """
    attacked = [r for r in records if r["attack"] and not unpoisoned(r)]
    chosen = [r for r in attacked if in_readme(r["defense"]) and "classes" not in r]
    drawn = {}
    for corpus, groups in corpora(chosen).items():
        by_policy: dict[str, list[Section]] = {}
        for section in sections(groups):
            if section.trigger == ATTACK and section.groups[0].record["attack"]["of"] == "source":
                by_policy.setdefault(section.policy, []).append(section)
        measured = {
            policy: [(section.data, _systems(section)) for section in states]
            for policy, states in by_policy.items()
        }
        shown = {p: s for p, s in measured.items() if sum(len(found) for _, found in s) >= FEWEST}
        for policy, states in shown.items():
            mark = digest(policy, 6) if len(shown) > 1 else ""
            title = f"{' '.join(filter(None, corpus))}: {ATTACK}, {policy}"
            stem = "-".join(filter(None, ("overview", *corpus, mark)))
            drawn[stem] = Picture(overview, (states,), title)
    return drawn


def overview(states: States, title: str) -> Figure:
    """The picture of one attack."""
    figure = new(5.2, title)
    axis = figure.subplots()
    points, labels = [], []
    for (_, systems), marker in zip(states, MARKERS, strict=False):
        for label, (x, y, stage) in systems.items():
            _, colour = KINDS[stage]
            axis.plot(x, y, marker, color=colour, markersize=8, markeredgecolor="white")
            points.append((x, y))
            labels.append((label, colour))
    low, high = (end(x for x, _ in points) for end in (min, max))
    room = max(0.12 * (high - low), 1.0)
    axis.set(xlim=(low - room, min(high + 1.5 * room, 101)), ylim=(-6, 106))
    axis.set_xlabel("clean accuracy [%]  (right is better)", fontsize=11)
    axis.set_ylabel("attack success rate [%]  (low is better)", fontsize=11)
    axis.grid(alpha=0.25)
    _legend(figure, axis, states)
    write_labels(figure, axis, points, labels)
    return figure


def _systems(section: Section) -> dict[str, Point]:
    """Points by a short label; of two that only their settings tell apart, what was run first."""
    systems: dict[str, Point] = {}
    for group in sorted(section.groups, key=lambda group: group.record["time"]):
        estimates = [let_through(group, m) for m in ("clean_accuracy", "attack_success_rate")]
        if not all(estimates):
            continue
        defense, model = group.record["defense"], group.record["model"]["name"]
        stage = (defense or {}).get("stage")
        label = model if stage in (None, "training") else defense_label(defense)
        if stage not in (None, "training", "filter"):
            label = system_label(model, label, stage)
        point = (*(100 * estimated.mean for estimated in estimates), stage)
        systems.setdefault(label, point)
    return systems


def _legend(figure: Figure, axis: Axes, states: States) -> None:
    stages = [stage for _, systems in states for _, _, stage in systems.values()]
    for stage, (name, colour) in KINDS.items():
        if stage in stages:
            axis.plot([], [], "o", color=colour, markersize=8, label=name)
    for (data, _), marker in zip(states, MARKERS, strict=False):
        if len(states) > 1:
            axis.plot([], [], marker, color="none", markeredgecolor="black", label=data)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=SIZE)


def write_labels(
    figure: Figure, axis: Axes, points: list[tuple[float, float]], labels: list[tuple[str, str]]
) -> None:
    """Write each label and its colour beside its point, or where there is room, with a line to the point."""
    figure.draw_without_rendering()  # settles the layout, so that places on the page are known
    renderer, dot = FigureCanvasAgg(figure).get_renderer(), figure.dpi / 72
    page, centres = axis.get_window_extent(), axis.transData.transform(points)
    taken = [Bbox.from_bounds(x - 6 * dot, y - 6 * dot, 12 * dot, 12 * dot) for x, y in centres]
    for (text, colour), point, centre in zip(labels, points, centres, strict=True):
        width, height, _ = renderer.get_text_width_height_descent(
            text, FontProperties(size=SIZE), False
        )
        for distance, angle in product(DISTANCES, ANGLES):
            offset = distance * np.array([np.cos(angle), np.sin(angle)]).round(3)
            side = SIDES[int(np.sign(offset[0]))]
            left = {"left": 0, "center": width / 2, "right": width}[side]
            corner = centre + offset * dot - (left, height / 2)
            box = Bbox.from_bounds(*corner, width, height).padded(dot)
            inside = page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1)
            if inside and not any(box.overlaps(other) for other in taken):
                break
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 4}
        axis.annotate(
            text, point, offset, textcoords="offset points", fontsize=SIZE, color=colour, ha=side,
            va="center", arrowprops=line if distance > DISTANCES[0] else None,
        )  # fmt: skip
        taken.append(box)
