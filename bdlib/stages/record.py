"""Stage 8: numbers and where they come from to one line in the results."""

import math
from pathlib import Path
from typing import Any

from bdlib.files import digest, read_json
from bdlib.records import record as records
from bdlib.records.provenance import source, versions
from bdlib.stages.recipe import Recipe
from bdlib.stages.train import Trained

DONE = (
    *("train_s", "wall_s", "peak_memory_mb", "parameters", "epochs", "rollbacks", "clips"),
    *("device", "source", "versions"),
)
REPAIRED = ("repair_s", "source", "versions")
"""Keys of the files that a training and a repair leave."""


def record(
    recipe: Recipe,
    trained: Trained,
    measured: dict[str, Any],
    defense: dict[str, Any] | None = None,
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

    Returns
    -------
    Path
        The results file.
    """
    line = entry(recipe, trained, measured, defense or training_defense(recipe))
    path = Path(recipe.settings["run"]["results_folder"]) / f"{line['dataset']['name']}.jsonl"
    if path.exists() and any(old["id"] == line["id"] for old in records.read(path)):
        print(f"recorded before in {path}")
    else:
        records.append(path, line)
        print(f"recorded in {path}")
    return path


def training_defense(recipe: Recipe) -> dict[str, Any] | None:
    """The defense that the model's own training is; None for most models."""
    name = recipe.settings["model"].get("defense")
    about = {"stage": "training", "selection": "fixed", "clean_budget": 0}
    return {"name": name, **about} if name else None


def entry(
    recipe: Recipe, trained: Trained, measured: dict[str, Any], defense: dict[str, Any] | None
) -> dict[str, Any]:
    """The line of a run: what was done to which data, by what, and what came of it."""
    about, attack = trained.poisoned.corpus.about, trained.poisoned.attack
    done, repair = read_json(trained.folder / "done.json", DONE), trained.shown / "repair.json"
    made = done
    if repair.exists():
        made = read_json(repair, REPAIRED)
    elif trained.undefended is not None:  # a guard, which may be newer than the training
        made = {"source": source(), "versions": versions()}
    experiment = recipe.settings["run"]["experiment"]
    return {
        "schema": records.SCHEMA,
        "id": digest([trained.folder.name, about["digest"], attack, defense, experiment]),
        **made["source"],
        "command": recipe.command,
        "status": "ok",
        "dataset": {key: about[key] for key in ("name", "variant", "scale", "digest", "counts")},
        "model": {
            "name": recipe.name,
            "yaml": str(recipe.document.path),
            **{key: done[key] for key in ("parameters", "epochs", "rollbacks", "clips")},
            "settings": _finite({n: recipe.settings[n] for n in ("model", "train")}),
        },
        "attack": attack and brief({**attack, **_source_and_target(attack)}),
        "defense": defense,
        "experiment": experiment,
        "seed": recipe.seed,
        "metrics": measured,
        "runtime": {
            **{key: done[key] for key in ("wall_s", "train_s", "peak_memory_mb", "device")},
            **({"repair_s": made["repair_s"]} if repair.exists() else {}),
        },
        "versions": made["versions"],
    }


def brief(value: Any) -> Any:
    """An attack without the samples that it learned, and without the folders of its sounds.

    Digests stand for both.
    """
    if isinstance(value, list):
        return [brief(item) for item in value]
    if isinstance(value, dict):
        return {k: Path(v).name if k == "path" else brief(v) for k, v in value.items()}
    return f"sha256 {digest(value)}" if isinstance(value, str) and len(value) > 1000 else value


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
