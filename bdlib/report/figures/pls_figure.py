"""What a filter that judges classes finds over many attacks (VAE-PLS, Figures 2 to 4, 6 and 7)."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from bdlib.files import digest
from bdlib.report.attacks_table import GOOD, at_usual_rate, pooled
from bdlib.report.figures.figure import BLUE, GREEN, GREY, ORANGE, Picture, new, shown
from bdlib.report.groups import Records
from bdlib.report.published import Published


def draw(records: Records, published: list[Published]) -> dict[str, Picture]:
    """Draw all that the records allow, a set of figures for each filter and corpus.

    Arguments
    ---------
    records : list of dict
        Records of schema 1, of which those of `pls.py` count: those with `classes`.
    published : list of Published
        Not used: the paper's curves are not given in numbers.

    Returns
    -------
    dict[str, Picture]
        By the stem of a file, made of corpus, filter and a digest of the filter's settings.
    """
    sets: dict[str, Records] = {}
    for record in records:
        if record["status"] == "ok" and "classes" in record:
            sets.setdefault(stem(record), []).append(record)
    drawn = {}
    for what, judged in sorted(sets.items()):
        attacks = [record for record in judged if record["attack"]]
        draws = [record for record in judged if not record["attack"]]
        parts = {
            "roc": (roc, attacks and draws, (attacks and at_usual_rate(attacks), draws)),
            "rand": (rand_maps, attacks, (attacks,)),
            "fraction": (fractions, len({r["attack"]["rate"] for r in attacks}) > 1, (attacks,)),
            "classes": (class_scores, attacks, (attacks,)),
        }
        for name, (figure_of, possible, data) in parts.items():
            if possible:
                title = what.replace("-", " ")
                drawn[f"pls-{name}-{what}"] = Picture(figure_of, data, title)
    return drawn


def roc(attacks: Records, draws: Records, title: str) -> Figure:
    """Targets against benign classes, over all attacks and clean draws (Figure 4)."""
    figure = new(3.6, title)
    axis = figure.subplots()
    names = sorted({record["attack"]["name"] for record in attacks})
    chosen = {"all attacks": attacks}
    chosen |= {n: [r for r in attacks if r["attack"]["name"] == n] for n in names}
    for (name, some), colour in zip(chosen.items(), (BLUE, ORANGE, GREEN, GREY), strict=False):
        scores, targets = pooled(some, draws)
        area = roc_auc_score(targets, scores)
        false, true, _ = roc_curve(targets, scores)
        label = f"{name}: AUC {area:.3f}, {len(some)} attacks"
        axis.plot(100 * false, 100 * true, color=colour, linewidth=1.4, label=label)
    axis.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1)
    axis.set(
        xlabel=f"benign classes flagged [%] ({len(draws)} clean draws among them)",
        ylabel="target classes found [%]",
    )
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def rand_maps(attacks: Records, title: str) -> Figure:
    """Adjusted Rand index by source and target, a map a trigger (Figure 6).

    A cross marks a target class that did not score highest, or is not called poisoned.
    """
    attacks = at_usual_rate(attacks)
    triggers = sorted({record["attack"]["name"] for record in attacks})
    names = sorted({name for record in attacks for name in record["classes"]})
    figure = new(0.8 + 4.0 * -(-len(triggers) // 2), title)
    axes = np.atleast_1d(figure.subplots(-(-len(triggers) // 2), min(2, len(triggers)))).ravel()
    for axis in axes[len(triggers) :]:
        axis.set_axis_off()
    for trigger, axis in zip(triggers, axes, strict=False):
        some = [record for record in attacks if record["attack"]["name"] == trigger]
        image = _rand_map(axis, some, names)
        indices = [record["metrics"]["adjusted_rand_index"]["value"] for record in some]
        good = 100 * np.mean(np.array(indices) >= GOOD)
        axis.set_title(f"{trigger}: {good:.0f} % of {len(some)} at {GOOD} or more", fontsize=10)
    figure.colorbar(image, ax=list(axes), label="adjusted Rand index", pad=0.01)
    return figure


def _rand_map(axis: Axes, attacks: Records, names: list[str]) -> Any:
    place = {name: number for number, name in enumerate(names)}
    grid = np.full((len(names), len(names)), np.nan)
    for record in attacks:
        row, column = (place[record["attack"][key]] for key in ("source", "target"))
        grid[row, column] = record["metrics"]["adjusted_rand_index"]["value"]
        if not record["metrics"]["target_class_found"]["value"]:
            axis.plot(column, row, "x", color=ORANGE, markersize=6)
    image = axis.imshow(grid, cmap="cividis", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(xlabel="target class", ylabel="source class")
    return image


def fractions(attacks: Records, title: str) -> Figure:
    """Adjusted Rand index against the share of the source class that is poisoned (Figure 7).

    Of the attacks that were measured at several shares; hollow where the class was missed.
    """
    series: dict[str, Records] = {}
    for record in attacks:
        own = record["attack"]
        series.setdefault(f"{own['name']}, {own['source']} to {own['target']}", []).append(record)
    figure = new(3.2, title)
    axis = figure.subplots()
    several = {n: some for n, some in series.items() if len({_rate(r) for r in some}) > 1}
    for (name, some), colour in zip(several.items(), (BLUE, ORANGE, GREEN, GREY), strict=False):
        some = sorted(some, key=_rate)
        indices = [record["metrics"]["adjusted_rand_index"]["value"] for record in some]
        rates = [100 * _rate(record) for record in some]
        axis.plot(rates, indices, color=colour, linewidth=1.4, label=name)
        for x, y, record in zip(rates, indices, some, strict=True):
            called = record["metrics"]["target_class_found"]["value"]
            axis.plot(x, y, "o", color=colour, markerfacecolor=colour if called else "none")
            count = str(record["attack"]["poisoned"])
            axis.annotate(count, (x, y), (0, 6), textcoords="offset points", fontsize=8)
    axis.set(xlabel="poisoned share of the source class [%] (clips above)", ylim=(-0.1, 1.12))
    axis.set(ylabel="adjusted Rand index")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=9)
    return figure


def class_scores(attacks: Records, title: str) -> Figure:
    """Scores of target and benign classes of the attack the encoder was trained on (Figure 2).

    Where no record is of that attack, of the first one.
    """
    alike = [record for record in attacks if of_encoder(record)]
    record = (alike or attacks)[0]
    own = record["attack"]
    what = f"{own['name']}, {own['rate']:.0%} of {own['source']} to {own['target']} (orange)"
    figure = new(2.8, f"{title}: {what}")
    axis = figure.subplots()
    names = list(record["scores"])
    colours = [ORANGE if name == own["target"] else GREEN for name in names]
    axis.bar(names, list(record["scores"].values()), color=colours)
    axis.set(ylabel="score of the class")
    axis.tick_params(axis="x", rotation=45)
    axis.grid(alpha=0.25, axis="y")
    return figure


def scatter(points: np.ndarray, poisoned: np.ndarray, suspected: np.ndarray, title: str) -> Figure:
    """Clips of a target class from aside, by the filter and by the truth (Figure 3).

    The abscissa joins the means of the filter's two clusters, which the first principal components
    need not show; the ordinate is the widest direction across it.

    Arguments
    ---------
    points : np.ndarray
        (n, k), whitened.
    poisoned, suspected : np.ndarray
        (n,) bool.
    title : str
        Heading of the figure.
    """
    figure = new(3.6, title)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    seen = _aside(points, suspected)
    for axis, (name, second) in zip(
        axes, {"clusters": suspected, "truth": poisoned}.items(), strict=True
    ):
        for label, members, colour in (("clean", ~second, GREEN), ("poisoned", second, ORANGE)):
            axis.scatter(*seen[members].T, s=9, color=colour, label=f"{label} ({members.sum()})")
        axis.set(title=name, xlabel="from cluster to cluster")
        axis.legend(frameon=False, fontsize=8)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("widest direction across")
    return figure


def _aside(points: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Points (n, k) in the plane of `scatter` (n, 2); the first two axes if there is one cluster."""
    if second.all() or not second.any():
        return points[:, :2]
    line = points[second].mean(0) - points[~second].mean(0)
    line /= np.linalg.norm(line)
    along = points @ line
    across = points - along[:, None] * line
    widest = np.linalg.svd(across - across.mean(0), full_matrices=False)[2][0]
    return np.stack([along, across @ widest], 1)


def _rate(record: dict[str, Any]) -> float:
    return record["attack"]["rate"]


def scattered(records: Records) -> dict[str, str]:
    """Digests of what `pls.py` has drawn clips of, by the stem of a file."""
    judged = [record for record in records if record["status"] == "ok" and "classes" in record]
    return {
        f"pls-scatter-{stem(record)}": shown([record["id"], record["scores"], record["metrics"]])
        for record in judged
        if record["attack"] and of_encoder(record)
    }


def of_encoder(record: dict[str, Any]) -> bool:
    """Whether a record is of the attack that its encoder was trained on."""
    trained_on = record["model"].get("trained_on") or {}
    keys = ("name", "labels", "rate")
    return all(trained_on.get(key) == record["attack"].get(key) for key in keys)


def stem(record: dict[str, Any]) -> str:
    """What the figures of a filter on a corpus are named after."""
    data, defense = record["dataset"], record["defense"]
    mark = digest([defense.get("settings"), record["model"].get("trained_on")], 6)
    return "-".join([data["name"], str(data["variant"]), data["scale"], defense["name"], mark])
