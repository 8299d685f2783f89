"""What a run is asked to do: a recipe's yaml, its attack, labels and defenses, and how to compute."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bdlib.errors import InputError
from bdlib.files import COMMON, at_home
from bdlib.stages.document import Document, merged, one_line

RUN, TRAIN = COMMON / "run.yaml", COMMON / "train.yaml"
CORPUS = {"name", "sample_rate", "seconds", "pad_seconds"}
POISON = {"attack", "labels", "source", "target", "rate", "of", "poison_seed"}
MODEL = {"classifier", "loss", "schedule"}


@dataclass(frozen=True)
class Recipe:
    """All that a run is asked to do: yaml files, overrides, and how to compute.

    Arguments
    ---------
    document : Document
        The recipe's yaml: sections run, corpus, poison, model, train.
    attack, labels, defense : Document | None
        Yaml files of `recipes/common`; attack and labels are None for a clean corpus, labels also
        for an attack with a policy of its own, defense for none.
    after : Document | None
        A defense that comes before `defense`, which starts from what it leaves; None for none.
    run_options : Mapping[str, Any]
        SpeechBrain's run options (device, precision, ...) that differ from its defaults.
    command : str
        The command, for the record; without the places of files, which differ from machine to machine.
    """

    document: Document
    attack: Document | None = None
    labels: Document | None = None
    defense: Document | None = None
    after: Document | None = None
    run_options: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The sections of the recipe as plain data; a share of 0 that is held out is not told.

        So what was trained before there was this setting is found again.
        """
        settings = self.document.plain()
        if isinstance(settings.get("train"), dict) and settings["train"].get("held_out") == 0:
            del settings["train"]["held_out"]
        return settings

    @property
    def options(self) -> dict[str, list[str]]:
        """By the name of an argument of the library, the options that feed it."""
        parts = (self.document, self.attack, self.labels, self.defense, self.after)
        documents = filter(None, parts)
        pairs = [
            (argument, name)
            for document in documents
            for argument, names in document.options.items()
            for name in names
        ]
        # The stages build the label policy of these (`stages.poison.poisoner`).
        policy = [("target_class", "target"), ("classes", "labels")]
        return merged(
            [*pairs, *policy, ("after", "after"), *((name, name) for name in self.run_options)]
        )

    @property
    def name(self) -> str:
        """That of the yaml: of the model and how it is trained."""
        return self.document.path.stem

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.settings["run"]["seed"]

    @property
    def output(self) -> Path:
        """The folder for everything a run makes."""
        return at_home(self.settings["run"]["output_folder"])

    @property
    def results(self) -> Path:
        """The folder of records."""
        return at_home(self.settings["run"]["results_folder"])


def check(recipe: Document) -> None:
    """Refuse a recipe whose sections or keys are not those of the recipes here.

    The keys of `corpus` are the arguments of the recipe's `prepare`, those of `model` its own;
    only what every recipe has is asked of them.
    """
    settings = recipe.written
    closed = {
        "run": set(Document(RUN).plain()),
        "train": set(Document(TRAIN).plain()),
        "poison": POISON,
    }
    needed = closed | {"corpus": CORPUS, "model": MODEL}
    unknown = [key for key in settings if key not in needed]
    for section, keys in needed.items():
        given = settings.get(section)
        if not isinstance(given, dict) or keys - set(given):
            missing = f"key {min(keys - set(given))} in " if isinstance(given, dict) else ""
            raise InputError(f"{recipe.path}: no {missing}section {section}; add it")
        if section in closed:
            unknown += [f"{section}: {key}" for key in given if key not in keys]
    if unknown:
        raise InputError(f"{recipe.path}: unknown key {unknown[0]}; correct or remove it")


def parse(overrides: str) -> dict[str, Any]:
    """The overrides that SpeechBrain's argument parser collected, as a dict."""
    try:
        values, texts = (YAML(typ=kind).load(overrides) or {} for kind in ("safe", "base"))
        if not isinstance(values, dict) or not all(
            isinstance(key, str) and key in texts for key in values
        ):
            raise ValueError(f"{values!r} is no option")
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"options: {one_line(error)}; write each once, as key=value") from error
    # A speaker called 0011 is not the number 11.
    return {k: texts[k] if re.fullmatch(r"0\d+", str(texts[k])) else v for k, v in values.items()}
