"""Stage 6: any defense to a defended classifier. The only place that asks for a defense's type."""

import contextlib
import copy
import json
import shutil
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
from bdlib.files import COMMON, alone, atomic, digest, read_json
from bdlib.models.classifier import SpeechClassifier
from bdlib.records.provenance import MADE, made
from bdlib.seals import unsealed, write_sealed
from bdlib.stages import fitting, neurons
from bdlib.stages.blind import Blinded, Defender
from bdlib.stages.compute import run_options
from bdlib.stages.document import Document
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.recipe import Recipe
from bdlib.stages.record import REPAIRED
from bdlib.stages.train import Trained, train
from bdlib.training.checkpoints import BROKEN, read_weights, unread

RATE = "guard_sample_rate"
"""Option of the guards that hear clips at a sampling rate, which is that of the clips unless it is given."""
ENCODER = "encoder"
"""Option of the filters that ask a pretrained encoder: of speakers where labels are, unless it is given."""


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
    suspicion : Mapping[str, float]
        Of each training clip by its ID, where a filter gave it.
    parts : Mapping[str, Any]
        What else the numbers rest on, see `record.record`: of a filter its run and the trainings
        that it looked at.
    first : Defended | None
        What another defense left, from which this one started.
    """

    trained: Trained
    defense: FilterDefense | RepairDefense | InferenceDefense
    clean_budget: int
    budget: str | None = None
    kept: pd.Index | None = None
    suspicion: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    first: "Defended | None" = None


def defend(recipe: Recipe, poisoned: Poisoned, earlier: Defended | None = None) -> Defended:
    """Turn the defense of a recipe into a defended classifier; what stands is not made twice.

    Arguments
    ---------
    recipe : Recipe
        With a defense, and perhaps one that comes first (`after`): a filter before a repair, a
        filter or a repair before a guard.
    poisoned : Poisoned
        The data.
    earlier : Defended | None
        What another defense left of the same classifier, which is then at hand.

    Raises
    ------
    InputError
        If a filter removes everything or a whole class, a setting is out of range, or two defenses
        cannot follow each other.
    """
    document = recipe.defense
    defense = document.part("defense", object)
    first = earlier.first if earlier else _first(recipe, poisoned, defense)
    before = earlier.trained.undefended if earlier else first and first.trained
    batch_size = recipe.settings["train"]["batch_size"]
    defender = Defender(recipe.seed, batch_size, run_options(recipe.run_options))
    if isinstance(defense, FilterDefense):
        ours = document.path.parent == COMMON / "defenses"  # whose `encoder` is a default
        speakers = recipe.settings["corpus"].get("label") == "speaker"
        if ours and speakers and _placed(document, ENCODER, "speakers"):
            defense = document.part("defense", FilterDefense)
        defended = _filtered(recipe, poisoned, defense, defender)
    elif isinstance(defense, RepairDefense):
        defended = _repaired(recipe, poisoned, defense, defender, before)
    elif isinstance(defense, InferenceDefense):
        if _placed(document, RATE, poisoned.corpus.audio.sample_rate):
            defense = document.part("defense", InferenceDefense)
        defended = _guarded(recipe, poisoned, defense, defender, before)
    else:
        raise InputError(f"{document.path}: {type(defense).__name__} is no defense of base.py")
    return replace(_counted(defended, poisoned, first), first=first)


def _placed(document: Document, option: str, value: Any) -> bool:
    """Give a defense what is known of the corpus, if it has such an option and nobody gave it."""
    return option not in document.overrides and document.place(option, value)


def _first(recipe: Recipe, poisoned: Poisoned, defense: Any) -> Defended | None:
    """What the defense leaves that comes before one, if there is one."""
    if recipe.after is None:
        return None
    first = recipe.after.part("defense", object)
    if isinstance(defense, FilterDefense):
        raise InputError(f"{recipe.defense.path.stem}: a filter comes first; make it `after`")
    if isinstance(first, InferenceDefense):
        raise InputError(
            f"`after` is {recipe.after.path.stem}: a guard comes last; choose a filter or a repair"
        )
    if isinstance(first, RepairDefense) and isinstance(defense, RepairDefense):
        raise InputError(f"`after` is {recipe.after.path.stem}: give one repair, or a guard")
    return defend(replace(recipe, defense=recipe.after, after=None), poisoned)


def _counted(defended: Defended, poisoned: Poisoned, first: Defended | None) -> Defended:
    """With all clean clips counted: the larger of two budgets holds the smaller one."""
    validation, budget = len(poisoned.splits["valid"]), defended.clean_budget
    chosen = defended.defense.selection == "validation"
    if first is not None:
        by_first = first.defense.selection == "validation"
        budget = max(budget, first.clean_budget - by_first * validation)
        chosen = chosen or by_first
    return replace(defended, clean_budget=budget + chosen * validation)


def _filtered(
    recipe: Recipe, poisoned: Poisoned, defense: FilterDefense, defender: Defender
) -> Defended:
    everything, blinded = poisoned.splits["train"], Blinded.of(poisoned)
    tag = recipe.defense.path.stem

    looked_at: list[Trained] = []
    away: list[float] = []  # seconds of trainings, which are told apart

    def trained_on(rows: pd.DataFrame) -> Trained:
        chosen = blinded.behind(everything, rows["ID"])
        return train(recipe, poisoned, chosen, tag if len(chosen) < len(everything) else "")

    def look(rows: pd.DataFrame) -> SpeechClassifier:
        begun = time.monotonic()
        looked_at.append(trained_on(rows))
        away.append(time.monotonic() - begun)
        return looked_at[-1].classifier

    blinded.reveal(defense, poisoned)
    view = defender.view(poisoned, blinded, look)
    started = time.monotonic()
    with stamped(view.folder):
        suspicion = defense.scores(view)
    took = {"filter_s": round(time.monotonic() - started - sum(away), 1)}
    parts = {"filter": made() | took, **origins(defense)}
    if looked_at:
        path = looked_at[-1].folder / "done.json"
        parts["looked_at"] = unsealed(path, read_json(path, MADE))
    rows = kept_rows(defense, suspicion, blinded.rows)
    trained = trained_on(rows)
    kept = blinded.behind(everything, rows["ID"])
    manifest.write(kept, trained.folder / "kept.csv")
    named = {blinded.names[alias]: value for alias, value in suspicion.items()}
    with atomic(trained.folder / "suspicion.json") as temporary:
        temporary.write_text(json.dumps(named, indent=0) + "\n")
    budget = defender.budget(poisoned, defense.clean_share)
    ids = pd.Index(kept["ID"])
    return Defended(trained, defense, len(budget), _told(budget), ids, named, parts)


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
    name = _name(recipe.defense, before, _told(budget))
    clean = defender.clean_data(poisoned, defense.clean_share)
    path = before.folder / "guarded" / name / "model.ckpt"
    about = path.with_name("repair.json")
    with alone(path.parent):
        if path.exists() and about.exists() and read_json(about).keys() >= REPAIRED.keys():
            print(f"stands: {path}")
        else:
            # All of a model which is there no more: what was measured on it is not of this one.
            about.unlink(missing_ok=True)
            for measured in ("scores", neurons.FOLDER):
                shutil.rmtree(path.with_name(measured), ignore_errors=True)
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
    name = _name(recipe.defense, before)
    after = replace(before, load=guarded.eval, defended=name, undefended=before)
    return Defended(after, calibrated, 0)


def _name(document: Document, before: Trained, budget: str | None = None) -> str:
    """Of the folder of a defended classifier: its defense, behind that which came before."""
    made_of = [document.plain(), budget] if budget else document.plain()
    own = f"{document.path.stem}-{digest(made_of, 8)}"
    return f"{before.defended}-{own}" if before.defended else own
