"""Stage 6: any defense to a defended classifier. The only place that asks for a defense's type."""

import contextlib
import copy
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bdlib import manifest
from bdlib.defenses.base import FilterDefense, InferenceDefense, RepairDefense
from bdlib.defenses.repair.shrink import resize
from bdlib.errors import InputError
from bdlib.evaluation import metrics
from bdlib.files import alone, atomic, digest, read_json
from bdlib.manifest import TEST, TRIGGERED
from bdlib.models.classifier import SpeechClassifier
from bdlib.records.provenance import MADE, made
from bdlib.seals import unsealed, write_sealed
from bdlib.stages import fitting, neurons
from bdlib.stages.blind import Blinded, Defender
from bdlib.stages.compute import run_options
from bdlib.stages.corpus import Poisoned
from bdlib.stages.recipe import Document, Recipe
from bdlib.stages.record import REPAIRED
from bdlib.stages.score import Scores
from bdlib.stages.train import Trained, train
from bdlib.training.checkpoints import BROKEN, read_weights, unread


@dataclass(frozen=True)
class Defended:
    """What a defense leaves behind.

    Arguments
    ---------
    trained : Trained
        The defended classifier.
    defense : FilterDefense | RepairDefense | InferenceDefense
        With the settings it chose.
    clean_budget : int
        Clean clips that it was given, validation clips that it chose by among them.
    budget : str | None
        Digest of the names of those that are not of the validation set, where there are any.
    kept : pd.Index | None
        IDs it was trained on, where a filter chose them.
    parts : Mapping[str, Any]
        What else the numbers rest on, see `record.record`: of a filter its run and the trainings
        that it looked at.
    """

    trained: Trained
    defense: FilterDefense | RepairDefense | InferenceDefense
    clean_budget: int
    budget: str | None = None
    kept: pd.Index | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)


def defend(recipe: Recipe, poisoned: Poisoned, before: Trained | None = None) -> Defended:
    """Turn the defense of a recipe into a defended classifier; what stands is not made twice.

    Arguments
    ---------
    recipe : Recipe
        With a defense.
    poisoned : Poisoned
        The data.
    before : Trained | None
        The undefended classifier of this recipe, if another defense has it at hand.

    Raises
    ------
    InputError
        If a filter removes everything or a whole class, or a setting is out of range.
    """
    document = recipe.defense
    defense = document.part("defense", object)
    batch_size = recipe.settings["train"]["batch_size"]
    defender = Defender(recipe.seed, batch_size, run_options(recipe.run_options))
    if isinstance(defense, FilterDefense):
        defended = _filtered(recipe, poisoned, defense, defender)
    elif isinstance(defense, RepairDefense):
        defended = _repaired(recipe, poisoned, defense, defender, before)
    elif isinstance(defense, InferenceDefense):
        defended = _guarded(recipe, poisoned, defense, defender, before)
    else:
        raise InputError(f"{document.path}: {type(defense).__name__} is no defense of base.py")
    chosen_by = len(poisoned.splits["valid"]) if defended.defense.selection == "validation" else 0
    return replace(defended, clean_budget=defended.clean_budget + chosen_by)


def _filtered(
    recipe: Recipe, poisoned: Poisoned, defense: FilterDefense, defender: Defender
) -> Defended:
    everything, blinded = poisoned.splits["train"], Blinded.of(poisoned)
    tag = recipe.defense.path.stem

    looked_at: list[Trained] = []

    def trained_on(rows: pd.DataFrame) -> Trained:
        chosen = blinded.behind(everything, rows["ID"])
        return train(recipe, poisoned, chosen, tag if len(chosen) < len(everything) else "")

    def look(rows: pd.DataFrame) -> SpeechClassifier:
        looked_at.append(trained_on(rows))
        return looked_at[-1].classifier

    blinded.reveal(defense, poisoned)
    view = defender.view(poisoned, blinded, look)
    with stamped(view.folder):
        suspicion = defense.scores(view)
    parts = {"filter": made(), **origins(defense)}
    if looked_at:
        path = looked_at[-1].folder / "done.json"
        parts["looked_at"] = unsealed(path, read_json(path, MADE))
    rows = kept_rows(defense, suspicion, blinded.rows)
    trained = trained_on(rows)
    kept = blinded.behind(everything, rows["ID"])
    manifest.write(kept, trained.folder / "kept.csv")
    with atomic(trained.folder / "suspicion.json") as temporary:
        named = {blinded.names[alias]: value for alias, value in suspicion.items()}
        temporary.write_text(json.dumps(named, indent=0) + "\n")
    budget = defender.budget(poisoned, defense.clean_share)
    return Defended(trained, defense, len(budget), _told(budget), pd.Index(kept["ID"]), parts)


def _told(budget: pd.DataFrame) -> str | None:
    """A clean budget as a digest; None for none."""
    return digest(list(budget["ID"])) if len(budget) else None


@contextlib.contextmanager
def stamped(folder: Path) -> Iterator[None]:
    """Say of what filters train in a folder, within the block, by what code it was."""
    before = set(folder.glob("*/done.json"))
    yield
    for path in set(folder.glob("*/done.json")) - before:
        write_sealed(path.with_name("made.json"), made())


def origins(defense: FilterDefense) -> dict[str, Any]:
    """The training of a filter's own network as a part of a record, where that is known."""
    path = defense.trained_in and defense.trained_in / "made.json"
    known = path and path.exists()
    return {"autoencoder": unsealed(path, read_json(path, MADE))} if known else {}


def kept_rows(
    defense: FilterDefense, suspicion: Mapping[str, float], rows: pd.DataFrame
) -> pd.DataFrame:
    """The rows that a filter keeps.

    Raises
    ------
    InputError
        If it removes everything or a whole class.
    """
    kept = rows[rows["ID"].isin(set(defense.keep(suspicion)))].reset_index(drop=True)
    if emptied := sorted(set(rows["label"]) - set(kept["label"])):
        raise InputError(
            f"{type(defense).__name__}: nothing is left of {' '.join(emptied)}; let it remove less"
        )
    return kept


def _repaired(
    recipe: Recipe,
    poisoned: Poisoned,
    defense: RepairDefense,
    defender: Defender,
    before: Trained | None = None,
) -> Defended:
    before = before or train(recipe, poisoned)
    budget = defender.budget(poisoned, defense.clean_share)
    name = _name(recipe.defense, _told(budget))
    clean = defender.clean_data(poisoned, defense.clean_share)
    path = before.folder / "guarded" / name / "model.ckpt"
    about = path.with_name("repair.json")
    with alone(path.parent):
        if path.exists() and about.exists() and read_json(about).keys() >= REPAIRED.keys():
            print(f"stands: {path}")
        else:
            about.unlink(missing_ok=True)  # that of a model which is there no more
            started = time.monotonic()
            weights = defense.repair(copy.deepcopy(before.classifier), clean).state_dict()
            came_of_it = {
                "repair_s": round(time.monotonic() - started, 1),
                "repaired": not _same(before.classifier.state_dict(), weights),
                "clips_a_class": len(budget) // len(poisoned.classes),
                "tried": [asdict(each) for each in clean.tried],
                "suspicion": dict(zip(poisoned.classes, clean.suspicion, strict=False)),
            }
            # Into an open file, as torch puts a name into what it writes, and this one is passing.
            with atomic(path) as temporary, temporary.open("wb") as file:
                torch.save(weights, file)
            write_sealed(about, came_of_it | made(), [path])
    load = partial(_load, recipe, poisoned.classes, path, before.device)
    after = replace(before, load=load, defended=name, undefended=before)
    return Defended(after, defense, len(budget), _told(budget))


def _same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two classifiers have the same parameters and buffers, bit for bit."""
    return all(torch.equal(value, other[name]) for name, value in one.items())


def _load(recipe: Recipe, classes: tuple[str, ...], path: Path, device: str) -> SpeechClassifier:
    fresh, _, _ = fitting.untrained(recipe, classes)
    state = read_weights(path, sum(value.numel() for value in fresh.state_dict().values()))
    try:
        resize(fresh, state)
        fresh.load_state_dict(state)
    except BROKEN as error:
        raise unread(path, error) from error
    about = path.with_name("repair.json")
    unsealed(about, read_json(about, MADE), [path])
    return fresh.to(device).eval()


def _guarded(
    recipe: Recipe,
    poisoned: Poisoned,
    defense: InferenceDefense,
    defender: Defender,
    before: Trained | None = None,
) -> Defended:
    before = before or train(recipe, poisoned)
    seed = defender.seed
    calibrated = defense.calibrate(before.classifier, lambda: defender.validation(poisoned), seed)
    guarded = calibrated.guard(before.classifier, seed)
    after = replace(before, load=guarded.eval, defended=_name(recipe.defense), undefended=before)
    return Defended(after, calibrated, 0)


def _name(document: Document, budget: str | None = None) -> str:
    made_of = [document.plain(), budget] if budget else document.plain()
    return f"{document.path.stem}-{digest(made_of, 8)}"


def about(recipe: Recipe, defended: Defended) -> dict[str, Any]:
    """What a record tells of a defense."""
    defense, given = defended.defense, recipe.defense.plain()
    settings = {k: v for k, v in given.items() if k not in ("defense", "selection")}
    return {
        "name": recipe.defense.path.stem,
        "stage": defense.stage,
        "selection": defense.selection,
        "clean_budget": defended.clean_budget,
        **({"budget": defended.budget} if defended.budget else {}),
        "settings": settings | {k: getattr(defense, k, v) for k, v in settings.items()},
    }


def measure(defended: Defended, scores: Scores, poisoned: Poisoned) -> dict[str, Any]:
    """Metrics of the defense itself, beside those of every classifier."""
    defense, trained, measured = defended.defense, defended.trained, {}
    if poisoned.attack and defended.kept is not None:
        rows, truth = poisoned.splits["train"], poisoned.truth()
        measured |= metrics.filtering(pd.Index(rows["ID"]), defended.kept, truth)
        measured |= metrics.separation(rows, defended.kept, truth)
        if defense.class_scores is not None:
            measured |= metrics.classes(defense.class_scores, truth)
    if poisoned.attack and defense.thresholds:
        good, bad = scores.read(TEST), scores.read(TRIGGERED)
        measured |= metrics.screening(good, bad, defense.thresholds)
    if defense.stage == "repair":
        measured |= _repaired_or_not(trained) | _parameters_left(trained)
        measured |= neurons.measure(trained)
    return measured


def _repaired_or_not(trained: Trained) -> dict[str, Any]:
    """Whether a repair changed anything, on how many clips a class, and the rates that it tried.

    A repair that clean validation clips forbid leaves the undefended classifier: it is refused, and
    its numbers are those of no repair.
    """
    about = read_json(trained.shown / "repair.json", REPAIRED)
    told = {key: about[key] for key in ("clips_a_class", "tried")}
    judged = {"suspicion": about["suspicion"]} if about["suspicion"] else {}
    return {"repaired": {"value": int(about["repaired"]), **told, **judged}}


def _parameters_left(trained: Trained) -> dict[str, Any]:
    """How many parameters a repair left, if it took some out."""
    left, total = (
        sum(p.numel() for p in net.parameters())
        for net in (trained.classifier, trained.undefended.classifier)
    )
    share = {"value": left / total, "count": left, "total": total}
    return {"parameters_left": share} if left < total else {}
