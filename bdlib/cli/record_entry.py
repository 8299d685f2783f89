"""What the record of a run holds."""

import math
from typing import TYPE_CHECKING, Any

from bdlib.files import digest, read_json
from bdlib.records import record
from bdlib.records.provenance import source, versions

if TYPE_CHECKING:
    from bdlib.cli.run import Run

DONE = (
    *("train_s", "wall_s", "peak_memory_mb", "parameters", "epochs", "rollbacks", "clips"),
    *("device", "source", "versions"),
)
REPAIRED = ("repair_s", "source", "versions")
"""Keys of the files that a training and a repair leave."""


def record_entry(
    run: "Run", measured: dict[str, Any], defense: dict[str, Any] | None
) -> dict[str, Any]:
    """The line of a run: what was done to which data, by what, and what came of it.

    Arguments
    ---------
    run : Run
        Trained, and defended where there is a defense.
    measured : dict
        Metrics.
    defense : dict | None
        Its name, stage, selection, clean budget and settings.
    """
    experiment = run.experiment
    about, done = experiment.clean.about, read_json(run.folder / "done.json", DONE)
    attack, repair, made = experiment.poisoned.attack, run.shown / "repair.json", done
    if repair.exists():
        made = read_json(repair, REPAIRED)
    elif run.undefended is not None:  # a guard, which may be newer than the training
        made = {"source": source(), "versions": versions()}
    return {
        "schema": record.SCHEMA,
        "id": digest(
            [run.folder.name, about["digest"], attack, defense, experiment.run["experiment"]]
        ),
        **made["source"],
        "command": experiment.asked.line,
        "status": "ok",
        "dataset": {key: about[key] for key in ("name", "variant", "scale", "digest", "counts")},
        "model": {
            "name": experiment.name,
            "yaml": str(experiment.asked.recipe.path),
            **{key: done[key] for key in ("parameters", "epochs", "rollbacks", "clips")},
            "settings": _finite({n: experiment.settings[n] for n in ("model", "train")}),
        },
        "attack": attack and brief({**attack, **_source_and_target(attack)}),
        "defense": defense,
        "experiment": experiment.run["experiment"],
        "seed": experiment.seed,
        "metrics": measured,
        "runtime": {
            **{key: done[key] for key in ("wall_s", "train_s", "peak_memory_mb", "device")},
            **({"repair_s": made["repair_s"]} if repair.exists() else {}),
        },
        "versions": made["versions"],
    }


def brief(value: Any) -> Any:
    """An attack without the samples that it learned; their digest stands for them."""
    if isinstance(value, dict):
        return {key: brief(item) for key, item in value.items()}
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
