"""Stages 2 and 3: a corpus and an attack to poisoned manifests, the truth, and packs."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

from bdlib.attacks.labels import LabelPolicy
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.trigger import Trigger
from bdlib.errors import InputError
from bdlib.stages.corpus import Corpus
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.recipe import Recipe


def poison(recipe: Recipe, corpus: Corpus) -> Poisoned:
    """Poison a saved corpus with the attack of a recipe, and pack it; what stands is not made twice.

    Raises
    ------
    InputError
        If the attack does not fit the corpus, or a clip cannot carry the trigger.
    """
    if recipe.attack is None:
        poisoned = Poisoned.load(corpus.folder, corpus, recipe.output)
    else:
        poisoned = _attacked(recipe, corpus)
    if share := recipe.settings["train"].get("held_out", 0):
        from bdlib.stages.blind import hold_out  # with torch

        return hold_out(poisoned, share, recipe.seed)
    return poisoned


def _attacked(recipe: Recipe, corpus: Corpus) -> Poisoned:
    attack, ranks = poisoner(recipe, corpus), None
    if attack.trigger.learned or attack.labels.hard:
        from bdlib.stages import surrogate  # which trains

        if attack.trigger.learned:
            attack = surrogate.learned(attack, recipe, corpus)
        if attack.labels.hard:
            ranks = surrogate.sureness(attack, recipe, corpus)
        elif attack.trigger.chooses:
            ranks = surrogate.strangeness(attack, recipe, corpus)
    name = Path(recipe.settings["poison"]["attack"]).stem
    return Poisoned.under(attack, name, corpus, recipe.output, ranks)


def poisoner(recipe: Recipe, corpus: Corpus) -> Poisoner:
    """The attack of a recipe on a corpus, before it has learned anything.

    Raises
    ------
    InputError
        If it names a class that the corpus does not have.
    """
    settings, trigger = recipe.settings["poison"], recipe.attack.part("trigger", Trigger)
    document = recipe.labels or recipe.attack  # which may have a policy of its own
    policy = document.part("policy", Callable)
    made = getattr(policy, "func", policy)
    if not (inspect.isclass(made) and issubclass(made, LabelPolicy)):
        raise InputError(f"{document.path}: policy is {made}, no label policy; correct it")
    # A class may be called 5, which yaml takes for a number.
    source, target = (
        None if settings[key] is None else str(settings[key]) for key in ("source", "target")
    )
    known = {"source": source, "target_class": target, "classes": corpus.classes}
    fields = dataclasses.fields(made)
    policy = policy(**{field.name: known[field.name] for field in fields if field.name in known})
    policy = policy.resolve(corpus.splits["train"], settings["poison_seed"])
    policy.check(corpus.classes)
    own = (settings["rate"], settings["of"], settings["poison_seed"])
    return Poisoner(trigger, policy, *own)
