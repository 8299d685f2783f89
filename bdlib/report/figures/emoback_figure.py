"""EmoBack's figures from records, in the form of the paper, and what it states in text beside them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bdlib.files import digest
from bdlib.report.figures import emoback_points as points
from bdlib.report.figures.emoback_points import METRICS, Case
from bdlib.report.figures.figure import BLUE, GREEN, GREY, ORANGE, Picture, new
from bdlib.report.groups import Estimate, Records
from bdlib.report.published import Published

COLOURS = {"clean_accuracy": BLUE, "attack_success_rate": ORANGE}
LINES = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", GREY, "black")
MARKERS = "os^Dv*PX"


def draw(records: Records, published: list[Published]) -> dict[str, Picture]:
    """The figures of every data set on which an attribute was the trigger, by the stem of a file.

    Arguments
    ---------
    records : list of dict
        Records of schema 1; what does not belong is left out.
    published : list of Published
        Numbers of the paper.
    """
    tasks: dict[tuple[str, ...], Records] = {}
    for record in points.natural(records):
        dataset = record["dataset"]
        key = (dataset["name"], dataset["variant"] or "", dataset["scale"], dataset["digest"])
        tasks.setdefault(key, []).append(record)
    drawn: dict[str, Picture] = {}
    for key, chosen in sorted(tasks.items()):
        twins = sum(other[:3] == key[:3] for other in tasks)
        stem = "-".join(filter(None, key[:3])) + (f"-{digest(key, 6)}" if twins > 1 else "")
        title = f"{key[0]} {key[1]} ({key[2]})"
        stated = points.stated(published, f"{key[0]} {key[1]}".strip())
        for kind, points_of_kind, figure_of, *more in (
            ("attack", points.attacked(chosen), attack_bars, stated),
            ("pruning", points.pruned(chosen), pruning_maps),
            ("strip", points.screened(chosen), screening_curves),
            ("entropy", points.entropies(chosen), entropy_histograms),
            ("preprocessing", points.preprocessed(chosen), preprocessing_curves),
        ):
            if points_of_kind:
                picture = Picture(figure_of, (points_of_kind, *more), title)
                drawn[f"emoback-{kind}-{stem}"] = picture
    return drawn


def attack_bars(
    by_case: dict[Case, dict[str, Estimate]], stated: dict[Case, float], title: str
) -> Figure:
    """Figure 2: bars by emotion at the highest rate, and marks for the others and for the paper's."""
    models, targets = (_kinds(by_case, name) for name in ("model", "target"))
    rates, values = _kinds(by_case, "rate")[::-1], _kinds(by_case, "value")
    tests = points.gender_tests(by_case)
    said = [f"{METRICS[m]} t {t:.2f}, p {p:.2f}" for m, (t, p) in tests.items()]
    compared = f"\nmale against female targets: {'; '.join(said)}" if said else ""
    figure = new(1.4 + 1.9 * len(models), f"{title}: an attribute as trigger{compared}")
    axes = figure.subplots(len(models), len(targets), sharex=True, sharey=True, squeeze=False)
    for model, row in zip(models, axes, strict=True):
        for target, axis in zip(targets, row, strict=True):
            for side, metric in zip((-0.2, 0.2), METRICS, strict=True):
                for rank, rate in enumerate(rates):
                    cases = [Case(model, value, target, rate) for value in values]
                    _bars(axis, [by_case.get(case) for case in cases], metric, side, rank, rate)
            for rate, mark in zip(rates, "x+", strict=False):
                cases = [Case(model.removesuffix("_small"), v, target, rate) for v in values]
                places = [i for i, case in enumerate(cases) if case in stated]
                heights = [100 * stated[cases[i]] for i in places]
                label = f"ASR of the paper, {100 * rate:g} %" if stated else None
                style = {"color": "black", "marker": mark, "zorder": 4, "label": label}
                axis.scatter([i + 0.2 for i in places], heights, **style)
            axis.set_title(f"{model}, target {target}", fontsize=9)
            axis.set_xticks(range(len(values)), values, rotation=20, fontsize=8)
            axis.set(ylim=(0, 105), xlim=(-0.6, max(len(values), 3) - 0.4))
            axis.grid(alpha=0.25, axis="y")
    figure.supylabel("share of test clips [%]", fontsize=9)
    _legend(figure, axes[0, 0], 3)
    return figure


def _bars(
    axis: Axes, cases: list, metric: str, side: float, rank: int, rate: float
) -> None:  # fmt: skip
    """The highest rate as bars with intervals over seeds, others as hollow marks on them."""
    places = [i for i, case in enumerate(cases) if case]
    known = [cases[i][metric] for i in places]
    heights = np.array([100 * one.mean for one in known])
    label = f"both, {100 * rate:g} %" if rank else f"{METRICS[metric]}, {100 * rate:g} %"
    at = np.array(places) + side
    if rank:
        mark = {"marker": MARKERS[rank], "facecolor": "white", "edgecolor": "black", "s": 22}
        axis.scatter(at, heights, **mark, zorder=3, label=label)
        return
    axis.bar(at, heights, 0.36, color=COLOURS[metric], label=label)
    seeds = [one.of_seeds for one in known]
    low, high = (
        np.array([100 * getattr(one, end) for one in known]).clip(0, 100) for end in ("low", "high")
    )
    spread = np.where(seeds, [heights - low, high - heights], np.nan)
    axis.errorbar(at, heights, spread, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)


def pruning_maps(by_case: dict[Case, dict[str, Any]], title: str) -> Figure:
    """Figures 3 and 4: metrics by share of channels and share of layers, a row a case."""
    figure = new(0.9 + 2.6 * len(by_case), f"{title}: pruning without fine-tuning")
    axes = figure.subplots(len(by_case), 2, squeeze=False)
    for (case, entry), row in zip(by_case.items(), axes, strict=True):
        shares, rates = entry["conv_rates"], entry["pruning_rates"]
        for metric, axis in zip(METRICS, row, strict=True):
            level = 100 * np.array(entry[metric])
            image = axis.imshow(
                level, cmap="cividis", vmin=0, vmax=100, origin="lower", aspect="auto"
            )
            for (y, x), value in np.ndenumerate(level):
                colour = "black" if value > 60 else "white"
                axis.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=6, color=colour)
            axis.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], fontsize=8)
            names = ["last" if share < 0 else f"{share:g}" for share in shares]
            axis.set_yticks(range(len(shares)), names, fontsize=8)
            axis.set_title(f"{case}: {METRICS[metric]}", fontsize=8)
    figure.supxlabel("pruning rate: share of the channels of a layer", fontsize=9)
    figure.supylabel("share of the convolutions, from the last backwards", fontsize=9)
    figure.colorbar(image, ax=axes, label="share of test clips [%]", pad=0.01, aspect=30)
    return figure


def screening_curves(by_case: dict[Case, dict[str, Any]], title: str) -> Figure:
    """Figure 5: false acceptances against false rejections at the preset rates, a panel a model."""
    models = _kinds(by_case, "model")
    figure = new(4.2, f"{title}: STRIP-ViTA")
    axes = figure.subplots(1, len(models), sharex=True, sharey=True, squeeze=False)[0]
    for model, axis in zip(models, axes, strict=True):
        axis.axline((0, 100), slope=-1, color=GREY, linestyle=":", label="chance")
        for number, (case, entry) in enumerate(
            (c, e) for c, e in by_case.items() if c.model == model
        ):
            curve = [
                (100 * point["false_rejection_rate"], 100 * point["false_acceptance_rate"])
                for point in sorted(entry["curve"], key=lambda point: point["preset"])
            ]
            style = {"color": LINES[number % 8], "marker": MARKERS[number % 8], "markersize": 4}
            about = f"{case.value}, {case.target}, {100 * case.rate:g} %"
            label = f"{about} (AUC {entry['value']:.2f})"
            axis.plot(*zip(*curve, strict=True), **style, linewidth=1.4, label=label)
        axis.set(ylim=(-3, 103), xlabel="clean clips rejected: FRR [%]")
        axis.set_title(model, fontsize=10)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8, loc="lower left")
    axes[0].set_xlim(left=-1)
    axes[0].set_ylabel("triggered clips accepted: FAR [%]")
    return figure


def entropy_histograms(by_case: dict[Case, dict[str, Any]], title: str) -> Figure:
    """Figure 6: entropies under overlays of clean and of triggered clips, a panel a case."""
    rows = -(-len(by_case) // 2)
    figure = new(0.9 + 2.2 * rows, f"{title}: entropies of STRIP-ViTA")
    axes = figure.subplots(rows, min(2, len(by_case)), squeeze=False).flat
    for axis, (case, entry) in zip(axes, by_case.items(), strict=False):
        edges = -np.array(entry["edges"])[::-1]
        for name, colour in (("clean", BLUE), ("triggered", ORANGE)):
            counts = np.array(entry[name], float)[::-1]
            share = 100 * counts / counts.sum()
            axis.stairs(share, edges, fill=True, alpha=0.45, color=colour, label=name)
            axis.stairs(share, edges, color=colour, linewidth=1)
        axis.set_title(str(case), fontsize=9)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8)
    for axis in list(axes)[len(by_case) :]:
        axis.set_axis_off()
    figure.supxlabel("mean entropy under overlays [bits]", fontsize=9)
    figure.supylabel("share of clips [%]", fontsize=9)
    return figure


def preprocessing_curves(by_case: dict[Case, dict[str, list]], title: str) -> Figure:
    """Figure 7: metrics by strength, a row a case and a column a defense."""
    names = {
        "quantise": "step q",
        "median_filter": "window",
        "squeeze": "ratio (*: zeros inserted)",
    }
    figure = new(1.1 + 1.7 * len(by_case), f"{title}: preprocessing")
    axes = figure.subplots(len(by_case), 3, sharey=True, squeeze=False)
    for (case, curves), row in zip(by_case.items(), axes, strict=True):
        for (defense, label), axis in zip(names.items(), row, strict=True):
            curve = curves.get(defense, [])
            for mark, metric in zip(MARKERS, METRICS, strict=False):
                heights = [100 * means.get(metric, np.nan) for _, _, means in curve]
                style = {"color": COLOURS[metric], "marker": mark, "markersize": 4}
                axis.plot(range(len(curve)), heights, **style, label=METRICS[metric])
            axis.set_xticks(range(len(curve)), [name for _, name, _ in curve], fontsize=7)
            axis.set(ylim=(-3, 103))
            axis.set_xlabel(label, fontsize=8)
            axis.grid(alpha=0.25)
            told = f"{case}: {defense}" if axis is row[0] else defense
            axis.set_title(told if curve else f"{told}, not run", fontsize=8)
            if not curve:
                axis.set_axis_off()
    figure.supylabel("share of test clips [%]", fontsize=9)
    _legend(figure, axes[0, 0], 2)
    return figure


def _kinds(by_case: dict[Case, Any], field: str) -> list:
    return sorted({getattr(case, field) for case in by_case})


def _legend(figure: Figure, axis: Axes, columns: int) -> None:
    names = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(names.values(), names, loc="outside lower center", ncols=columns, frameon=False,
                  fontsize=8)  # fmt: skip
