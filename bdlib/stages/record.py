"""Stage 8: numbers and where they come from to one line in the results."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bdlib.files import digest, read_json
from bdlib.records import record as records
from bdlib.records.provenance import MADE, newest, place
from bdlib.seals import unsealed
from bdlib.stages.compute import determining, run_options, unusual
from bdlib.stages.corpus import Corpus
from bdlib.stages.recipe import Recipe
from bdlib.stages.score import provenance as scored_by
from bdlib.stages.train import Trained

DONE = {
    **dict.fromkeys(("train_s", "wall_s"), float),
    **dict.fromkeys(("peak_memory_mb", "parameters", "epochs", "rollbacks", "clips"), int),
    **{"device": str, **MADE},
}
REPAIRED = {
    **{"repair_s": float, "repaired": bool, "clips_a_class": int, "tried": list[dict]},
    **{"suspicion": dict[str, float]},
    **MADE,
}
"""Keys of the files that a training and a repair leave, with their types."""
OWN_TIME = {"repair": "repair_s", "filter": "filter_s", "scores": "score_ms"}
"""Time that a defense took itself, by its part of a record; trainings are told apart."""
RECORDED = "recorded "
"""Begins the line that tells that a run has its record; a sweep counts them in a log."""


def record(
    recipe: Recipe,
    trained: Trained,
    measured: dict[str, Any],
    defense: dict[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> Path:
    """Append one line to the results, unless this very run has one.

    Arguments
    ---------
    recipe : Recipe
        What was asked.
    trained : Trained
        What was measured.
    measured : dict
        Metrics.
    defense : dict | None
        Name, stage, selection, clean budget and settings of the defense; None takes the one that
        the model's own training is, if it is one.
    parts : Mapping[str, Any] | None
        `source` and `versions` of what the numbers rest on beside training, repair and scores.

    Returns
    -------
    Path
        The results file.
    """
    line = entry(recipe, trained, measured, defense or training_defense(recipe), parts or {})
    path = recipe.results / f"{line['dataset']['name']}.jsonl"
    there = records.read(path) if path.exists() else []  # refuses what would not be rendered
    new = records.append(path, line)
    print(f"{RECORDED}{'' if new else 'before '}in {path}")
    earlier = next((run for run in there if run["id"] == line["id"]), line)
    if other := _other_counts(earlier["metrics"], measured):
        print(
            f"note: its record {line['id']} has other numbers ({other}), of other code or another machine; "
            "delete that line and run this again, or give another `results_folder`"
        )
    return path


def _other_counts(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    """The counts that two measurements of one run do not share, in words; empty where they agree."""

    def count(measured: dict[str, Any], name: str) -> Any:
        return measured[name].get("count", measured[name].get("value"))

    return ", ".join(
        f"{name.replace('_', ' ')} {count(earlier, name)}, now {count(now, name)}"
        for name in now
        if name in earlier and isinstance(count(now, name), int)
        if count(earlier, name) != count(now, name)
    )


def training_defense(recipe: Recipe) -> dict[str, Any] | None:
    """The defense that the model's own training is; None for most models."""
    name = recipe.settings["model"].get("defense")
    about = {"stage": "training", "selection": "fixed", "clean_budget": 0}
    return {"name": name, **about} if name else None


def entry(
    recipe: Recipe,
    trained: Trained,
    measured: dict[str, Any],
    defense: dict[str, Any] | None,
    parts: Mapping[str, Any],
) -> dict[str, Any]:
    """The line of a run: what was done to which data, by what, and what came of it."""
    attack, path = trained.poisoned.attack, trained.folder / "done.json"
    done = unsealed(path, read_json(path, DONE))
    made = {"training": done, **parts, "scores": scored_by(trained, trained.poisoned)}
    if (path := trained.shown / "repair.json").exists():
        made["repair"] = unsealed(path, read_json(path, REPAIRED))
    data = dataset(trained.poisoned.corpus)
    return {
        "schema": records.SCHEMA,
        "id": identity(recipe, data, attack, defense),
        **provenance(made),
        **run_by(recipe),
        "status": "ok",
        "dataset": data,
        "model": {
            "name": recipe.name,
            "yaml": str(recipe.document.path),
            **{key: done[key] for key in ("parameters", "epochs", "rollbacks", "clips")},
            "settings": _finite(_settings(recipe)),
        },
        "attack": attack and brief({**attack, **_source_and_target(attack)}),
        "defense": defense,
        "experiment": recipe.settings["run"]["experiment"],
        "seed": recipe.seed,
        "metrics": measured,
        "runtime": {
            **{key: done[key] for key in ("wall_s", "train_s", "peak_memory_mb", "device")},
            **{key: made[part][key] for part, key in OWN_TIME.items() if key in made.get(part, ())},
        },
    }


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Of the model and its training, with the run options that are not the usual ones."""
    own = {name: recipe.settings[name] for name in ("model", "train")}
    options = unusual(run_options(recipe.run_options))
    return own | {"run": options} if options else own


def identity(
    recipe: Recipe,
    data: Mapping[str, Any],
    attack: Mapping[str, Any] | None,
    defense: Mapping[str, Any] | None,
) -> str:
    """The id of a run: a digest of all that determines it, and of nothing else.

    Not of where files lie and of when they were written, and not of what came of it.
    """
    settings = recipe.settings
    options = run_options(recipe.run_options)
    return digest(
        [
            [data["digest"], data["audio"], settings["corpus"]],
            [recipe.name, settings["model"], settings["train"], recipe.seed],
            determining(options),
            [named(attack), defense, settings["run"]["experiment"]],
        ]
    )


def dataset(corpus: Corpus) -> dict[str, Any]:
    """What a record tells of a data set."""
    told_of = ("name", "variant", "scale", "digest", "counts")
    return {key: corpus.about[key] for key in told_of} | {"audio": corpus.audio_digest()}


def run_by(recipe: Recipe) -> dict[str, str]:
    """The command of a record, and the folder to run it in."""
    return {"command": recipe.command, "recipe": place(recipe.document.path.resolve().parents[1])}


def provenance(made: Mapping[str, Any]) -> dict[str, Any]:
    """When and by what code the parts of a number were made, and above them what the last was.

    Arguments
    ---------
    made : Mapping[str, Any]
        `source` and `versions` by part: `training`, `filter`, `repair`, `scores`, ...
    """
    last = newest(made.values())
    parts = {
        name: part["source"]
        | ({"versions": part["versions"]} if part["versions"] != last["versions"] else {})
        for name, part in made.items()
    }
    dirty = [part["dirty"] for part in parts.values()]
    return {
        **last["source"],
        "dirty": any(dirty) if None not in dirty else None,
        "parts": parts,
        "versions": last["versions"],
    }


def brief(value: Any) -> Any:
    """An attack without the samples that it learned, and `named`; their digest stands for them."""
    if isinstance(value, dict):
        return {key: brief(item) for key, item in named(value).items()}
    return f"sha256 {digest(value)}" if isinstance(value, str) and len(value) > 1000 else value


def named(value: Any) -> Any:
    """An attack whose sound files are told by name and digest, wherever they lie."""
    if isinstance(value, list):
        return [named(item) for item in value]
    if isinstance(value, dict):
        return {k: Path(v).name if k == "path" else named(v) for k, v in value.items()}
    return value


def _source_and_target(attack: dict[str, Any]) -> dict[str, str | None]:
    labels = attack["labels"]
    return {"source": labels.get("source"), "target": labels.get("target_class")}


def _finite(value: Any) -> Any:
    """Settings that JSON can hold: it has no infinity, which `max_grad_norm` may be."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
