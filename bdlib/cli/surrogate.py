"""A surrogate classifier, trained on the clean manifest, for attacks that are made on one.

What is made depends on the seed of the poison, and not on that of the training.
"""

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.trigger import from_dict
from bdlib.cli.command import Command
from bdlib.cli.experiment import Experiment
from bdlib.cli.prepare import Manifests, Prepared
from bdlib.cli.settings import Document, check
from bdlib.corpus import Batches
from bdlib.errors import InputError
from bdlib.files import digest, read_json, write_json


@dataclass(frozen=True)
class Surrogate:
    """A classifier that is trained when it is first asked for.

    Arguments
    ---------
    asked : Command
        The command line of its own, clean training.
    clean : Manifests
        What it is trained on.
    """

    asked: Command
    clean: Manifests

    def digest_with(self, *parts: Any) -> str:
        """Of all that determines the classifier, and of what is made on it."""
        settings = self.asked.recipe.plain()
        made_of = [settings[key] for key in ("corpus", "model", "train")]
        return digest([self.clean.about["digest"], settings["run"]["seed"], made_of, *parts], 8)

    @cached_property
    def experiment(self) -> Experiment:
        """Its training.

        Raises
        ------
        InputError
            In a distributed run, where one process cannot train while others wait.
        """
        if torch.distributed.is_initialized():
            raise InputError("attack: make it with poison.py first; then train on several devices")

        def prepared(root: Path, **settings: Any) -> Prepared:
            raise InputError(f"{root}: the corpus changed meanwhile; run again")

        return Experiment(self.asked, prepared)

    def clips(self, rows: pd.DataFrame, seed: int | None) -> Batches:
        """Clean training clips, drawn by a seed or in their order."""
        experiment = self.experiment
        size = min(experiment.settings["train"]["batch_size"], len(rows))
        pack, seconds = experiment.packs["train"], experiment.corpus["seconds"]
        return Batches(pack, rows, experiment.classes, size, seconds, seed, experiment.device)


def of(asked: Command, clean: Manifests, name: str | None, seed: int) -> Surrogate:
    """The surrogate of a command line: the recipe's model, or that of a yaml beside it."""
    recipe, overrides = asked.recipe.path, copy.deepcopy(asked.recipe.overrides)
    if name is not None:
        recipe = recipe.with_name(f"{name}.yaml")
        overrides = {key: overrides[key] for key in ("run", "corpus", "train") if key in overrides}
    overrides.setdefault("run", {})["seed"] = seed
    document = Document(recipe, overrides)
    check(document)
    return Surrogate(replace(asked, recipe=document, attack=None, labels=None, defense=None), clean)


def learned(poisoner: Poisoner, asked: Command, clean: Manifests, output: Path) -> Poisoner:
    """The attack with its trigger fitted on a surrogate, now or in an earlier run.

    Raises
    ------
    InputError
        If the policy has no single target class.
    """
    trigger, target = poisoner.trigger, getattr(poisoner.labels, "target_class", None)
    if target is None:
        raise InputError("attack: a learned trigger needs one target class; choose other --labels")
    surrogate = of(asked, clean, trigger.surrogate, poisoner.seed)
    key = surrogate.digest_with(trigger.to_dict(), target)
    path = output / "learned" / f"{type(trigger).__name__}-{key}.json"
    if not path.exists():
        rows = clean.rows("train")
        classifier = surrogate.experiment.train(rows).classifier
        clips = surrogate.clips(rows[rows["label"] != target], poisoner.seed)
        number = surrogate.experiment.classes.index(target)
        print(f"learning the trigger on {surrogate.experiment.name}")
        write_json(path, trigger.fit(classifier, clips, number, poisoner.seed).to_dict())
    return replace(poisoner, trigger=from_dict(read_json(path, ("type",))))


def sureness(poisoner: Poisoner, asked: Command, clean: Manifests, output: Path) -> pd.Series:
    """By ID, the log-probability that a surrogate gives the label of each candidate."""
    surrogate = of(asked, clean, None, poisoner.seed)
    key = surrogate.digest_with(poisoner.labels.to_dict())
    path = output / "learned" / f"sureness-{key}.json"
    if not path.exists():
        rows = clean.rows("train")
        classifier = surrogate.experiment.train(rows).classifier.eval()
        found: dict[str, float] = {}
        for batch in surrogate.clips(rows[poisoner.labels.candidates(rows)], None):
            with torch.no_grad():
                logs = classifier(batch.wavs, batch.lens).log_softmax(dim=1)
            own = logs.gather(1, batch.labels[:, None])[:, 0]
            found |= dict(zip(batch.ids, own.tolist(), strict=True))
        write_json(path, found)
    return pd.Series(read_json(path), dtype=float)
