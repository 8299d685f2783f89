"""What noise at test time does to the backdoor of a view model (MVJ section 4.4), from records."""

import json
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bdlib.files import digest
from bdlib.report.figures.figure import BLUE, GREEN, GREY, ORANGE, Picture, new
from bdlib.report.groups import Records, estimate, group_records
from bdlib.report.published import Published
from bdlib.report.stems import noise_stem

METRICS = {
    "triggered_accuracy": "accuracy, triggered set [%]",
    "attack_success_rate": "attack success rate [%]",
}
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", GREY)
MARKERS = "os^Dv*PX"  # eight, so that colour and marker together tell 56 models apart
ATTACK = ("name", "trigger", "rate", "of", "source", "target")  # what two seeds share

# metric: [(noise, mean, low, high), ...], the last three as shares of one.
Curve = dict[str, list[tuple[float, float, float, float]]]


def draw(records: Records, published: list[Published]) -> dict[str, Picture]:
    """Curves of every data set and attack that was measured with noise.

    Arguments
    ---------
    records : list of dict
        Records of schema 1, in the order of their files; what does not belong is left out.
    published : list of Published
        Not used: the paper draws its curves and gives no numbers.

    Returns
    -------
    dict[str, Picture]
        By the stem of a file.
    """
    return {
        f"noise-{stem}": Picture(noise_curves, (curves,), stem.replace("-", " "))
        for stem, curves in tasks_with_noise(records).items()
    }


def tasks_with_noise(records: Records) -> dict[str, dict[str, Curve]]:
    """The curves that `draw` draws, by data set and attack.

    Arguments
    ---------
    records : list of dict
        Records of schema 1, in the order of their files; what does not belong is left out.

    Returns
    -------
    dict[str, dict[str, Curve]]
        ``{stem: noise_points}``. A stem such as ``SpeechCommands-12-full-clap`` ends in a digest
        where two attacks, or two states of the data, would have the same.
    """
    tasks: dict[str, Records] = {}
    for record in records:
        tasks.setdefault(_task(record), []).append(record)
    drawn = {task: curves for task in sorted(tasks) if (curves := noise_points(tasks[task]))}
    stems = {task: noise_stem(tasks[task][0]) for task in drawn}
    shared = {stem for stem in stems.values() if list(stems.values()).count(stem) > 1}
    return {
        stems[task] + (f"-{digest(task, 6)}" if stems[task] in shared else ""): curves
        for task, curves in drawn.items()
    }


def noise_points(records: Records) -> dict[str, Curve]:
    """Metrics of one attack on one data set by model and noise.

    A point is the mean over the runs of one noise level; `low` and `high` bound it by the 95 %
    t-interval over seeds, are those of two, and equal it where there is one. The point without noise
    is over the same trainings (model, seeds) without `feature_noise`.

    Arguments
    ---------
    records : list of dict
        Records of schema 1. Those of other defenses, or with a Langevin step, are left out.

    Returns
    -------
    dict[str, Curve]
        ``{model: {metric: [(noise, mean, low, high), ...]}}``, the points by rising noise; noise in
        deviations of the training features, the rest as shares of one. Models without noise, and
        metrics without a value, are missing.

    Raises
    ------
    ValueError
        If the records are of several attacks or data sets.
    """
    measured = [record for record in records if record["status"] == "ok"]
    if len({_task(record) for record in measured}) > 1:
        raise ValueError("records of several attacks or data sets")
    levels = [(record, _noise(record)) for record in measured]
    noisy = {_training(record) for record, noise in levels if noise}
    chosen = [
        # One defense at several levels, 0 among them, so that they group by level alone.
        {**record, "defense": {"stage": "inference", "settings": noise}}
        for record, noise in levels
        if noise is not None and _training(record) in noisy
    ]
    curves: dict[str, Curve] = {}
    names = _names(chosen)
    for group in group_records(chosen):
        noise = group.record["defense"]["settings"]
        curve = curves.setdefault(names[_model(group.record)], {})
        for metric in METRICS:
            if estimated := estimate(group, metric):
                low, high = (
                    (estimated.low, estimated.high)
                    if estimated.of_seeds
                    else (estimated.mean, estimated.mean)
                )
                curve.setdefault(metric, []).append((noise, estimated.mean, low, high))
    for curve in curves.values():
        for points in curve.values():
            points.sort()
    return {model: curve for model, curve in curves.items() if curve}


def noise_curves(curves: dict[str, Curve], title: str) -> Figure:
    """Draw accuracy on the triggered set and attack success rate against noise, by model.

    Arguments
    ---------
    curves : dict[str, Curve]
        `noise_points`.
    title : str
        Heading of the figure.

    Raises
    ------
    ValueError
        If there is no point.
    """
    if not any(points for curve in curves.values() for points in curve.values()):
        raise ValueError("no point to draw")
    figure = new(3.4, title)
    for axis, (metric, label) in zip(figure.subplots(1, 2), METRICS.items(), strict=True):
        for number, (name, curve) in enumerate(curves.items()):
            points = np.reshape(curve.get(metric, []), (-1, 4)).T * [[1], [100], [100], [100]]
            noise, mean, low, high = points[0], points[1], *points[2:].clip(0, 100)
            bars = np.where(high > low, [mean - low, high - mean], np.nan)  # nan: no bar
            style = {
                "color": COLOURS[number % len(COLOURS)],
                "marker": MARKERS[number % len(MARKERS)],
                "label": name,
            }
            axis.errorbar(noise, mean, bars, capsize=3, linewidth=1.4, markersize=5, **style)
        axis.set(ylabel=label, ylim=(-3, 103), xlabel="noise σ [deviations of training features]")
        axis.grid(alpha=0.25)
    names = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(
        names.values(), names, loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    return figure


def _noise(record: dict[str, Any]) -> float | None:
    """Deviation of the noise, 0 for a model as it was trained, None for any other defense."""
    defense = record["defense"]
    if defense is None or defense["stage"] == "training":
        return 0.0
    settings = defense.get("settings", {})
    if defense["name"] != "feature_noise" or settings.get("step_size") != 0:
        return None
    return float(settings["noise"])


def _model(record: dict[str, Any]) -> tuple[str, str, str]:
    """Name, yaml and settings."""
    model = record["model"]
    return model["name"], model["yaml"], json.dumps(model.get("settings"), sort_keys=True)


def _names(records: Records) -> dict[tuple[str, str, str], str]:
    """What to call each model: its name, with yaml and digest of settings where these differ."""
    names = {}
    for model in sorted(models := {_model(record) for record in records}):
        name, yaml, settings = model
        twins = [twin for twin in models if twin[0] == name]
        marks = [yaml] * (len({twin[1] for twin in twins}) > 1)
        marks += [digest(settings, 6)] * (len({twin[2] for twin in twins if twin[1] == yaml}) > 1)
        names[model] = name + (f" ({', '.join(marks)})" if marks else "")
    return names


def _training(record: dict[str, Any]) -> tuple:
    attack = record["attack"] or {}
    return *_model(record), attack.get("seed"), record["seed"]


def _task(record: dict[str, Any]) -> str:
    """What the runs of one figure share, as text that sorts."""
    dataset, attack = record["dataset"], record["attack"] or {}
    own = [attack.get(key) for key in ATTACK] + [attack.get("labels", {}).get("type")]
    corpus = [dataset[key] for key in ("name", "variant", "scale", "digest")]
    return json.dumps([*corpus, *own], sort_keys=True)
