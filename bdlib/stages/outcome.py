"""What a record tells of a defense, and what is measured of it beside the classifier."""

from dataclasses import replace
from typing import Any

import pandas as pd

from bdlib.evaluation import metrics
from bdlib.files import read_json
from bdlib.manifest import TEST, TRIGGERED
from bdlib.seals import unsealed
from bdlib.stages import neurons
from bdlib.stages.defend import Defended
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.recipe import Recipe
from bdlib.stages.record import REPAIRED
from bdlib.stages.score import Scores
from bdlib.stages.train import Trained

LEAST_BLIND = ("oracle", "validation", "fixed")
"""Ways in which settings are chosen; of two defenses, the first of these counts."""


def about(recipe: Recipe, defended: Defended) -> dict[str, Any]:
    """What a record tells of a defense; of two, one after the other, both names and stage of the last."""
    defense, given, first = defended.defense, recipe.defense.plain(), defended.first
    settings = {k: v for k, v in given.items() if k not in ("defense", "selection")}
    own = {
        "name": recipe.defense.path.stem,
        "stage": defense.stage,
        "selection": defense.selection,
        "clean_budget": defended.clean_budget,
        **({"budget": defended.budget} if defended.budget else {}),
        "settings": settings | {k: getattr(defense, k, v) for k, v in settings.items()},
    }
    if first is None:
        return own
    before = about(replace(recipe, defense=recipe.after, after=None), first)
    chosen = {part["selection"] for part in (before, own)}
    return own | {
        "name": f"{before['name']}+{own['name']}",
        "selection": next(each for each in LEAST_BLIND if each in chosen),
        "after": before,
    }


def parts(defended: Defended) -> dict[str, Any]:
    """What the numbers rest on beside training and scores, see `record.record`."""
    first, own = defended.first, defended.parts
    if first is None:
        return {**own}
    path = first.trained.shown / "repair.json"
    repair = {"repair": unsealed(path, read_json(path, REPAIRED))} if path.exists() else {}
    return {**first.parts, **repair, **own}


def measure(defended: Defended, scores: Scores, poisoned: Poisoned) -> dict[str, Any]:
    """Metrics of the defense itself, beside those of every classifier; of two that judge classes, the last."""
    defense, measured = defended.defense, {}
    for part in filter(None, (defended.first, defended)):
        if poisoned.attack and part.kept is not None:
            measured |= _filtering(part, poisoned)
    if poisoned.attack and defense.thresholds:
        good, bad = scores.read(TEST), scores.read(TRIGGERED)
        measured |= metrics.screening(good, bad, defense.thresholds)
        own = (poisoned.splits[TEST], good, bad, poisoned.truth())
        measured |= metrics.passed(*own, defense.thresholds)
    for part in filter(None, (defended.first, defended)):
        if part.defense.stage == "repair":
            measured |= _repaired_or_not(part.trained) | _parameters_left(part.trained)
            measured |= _classes_told(part, poisoned)
            measured |= neurons.measure(part.trained)
    return measured


def _filtering(defended: Defended, poisoned: Poisoned) -> dict[str, Any]:
    """How well a filter found the poison."""
    rows, truth, scores = poisoned.splits["train"], poisoned.truth(), defended.defense.class_scores
    measured = metrics.filtering(pd.Index(rows["ID"]), defended.kept, truth)
    measured |= metrics.suspecting(pd.Series(defended.suspicion, dtype=float), truth)
    measured |= metrics.separation(rows, defended.kept, truth)
    return measured | (metrics.classes(scores, truth) if scores is not None else {})


def _repaired_or_not(trained: Trained) -> dict[str, Any]:
    """Whether a repair changed anything, on how many clips a class, and the rates that it tried.

    A repair that clean validation clips forbid leaves the undefended classifier: it is refused, and
    its numbers are those of no repair.
    """
    about = read_json(trained.shown / "repair.json", REPAIRED)
    told = {key: about[key] for key in ("clips_a_class", "tried")}
    judged = {"suspicion": about["suspicion"]} if about["suspicion"] else {}
    return {"repaired": {"value": int(about["repaired"]), **told, **judged}}


def _classes_told(defended: Defended, poisoned: Poisoned) -> dict[str, Any]:
    """Whether a repair that judges classes told the target class."""
    suspicion = read_json(defended.trained.shown / "repair.json", REPAIRED)["suspicion"]
    if not suspicion or not poisoned.attack:
        return {}
    limit = defended.defense.calls_above
    return metrics.classes({name: s / limit for name, s in suspicion.items()}, poisoned.truth())


def _parameters_left(trained: Trained) -> dict[str, Any]:
    """How many parameters a repair left, if it took some out."""
    left, total = (
        sum(p.numel() for p in net.parameters())
        for net in (trained.classifier, trained.undefended.classifier)
    )
    share = {"value": left / total, "count": left, "total": total}
    return {"parameters_left": share} if left < total else {}
