"""A surrogate classifier, trained on the clean corpus, for attacks that are made on one.

What is made depends on the seed of the poison, and not on that of the training.
"""

import copy
import os
from dataclasses import replace
from typing import Any

import pandas as pd

from bdlib.attacks import surrogate as learning
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.trigger import from_dict
from bdlib.corpus import Batches
from bdlib.errors import InputError
from bdlib.files import digest, read_json
from bdlib.sampling import rank
from bdlib.seals import unsealed, write_sealed
from bdlib.stages.compute import determining, run_options
from bdlib.stages.corpus import Corpus
from bdlib.stages.document import Document
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.recipe import Recipe, check
from bdlib.stages.train import Trained, train


def learned(attack: Poisoner, recipe: Recipe, corpus: Corpus) -> Poisoner:
    """The attack with its trigger fitted on a surrogate, now or in an earlier run.

    Raises
    ------
    InputError
        If the policy has no single target class.
    """
    target = learning.target_of(attack)
    own = _recipe(recipe, attack.trigger.surrogate, attack.seed)
    key = _digest(own, corpus, attack.trigger.to_dict(), target)
    path = recipe.output / "learned" / f"{type(attack.trigger).__name__}-{key}.json"
    if not path.exists():
        rows, trained = corpus.splits["train"], _trained(own, corpus)
        clips = _clips(trained, rows[rows["label"] != target], attack.seed)
        print(f"learning the trigger on {own.name}")
        number = corpus.classes.index(target)
        fitted = learning.fitted(attack, trained.classifier, clips, number)
        write_sealed(path, fitted.trigger.to_dict())
    return replace(attack, trigger=from_dict(unsealed(path, read_json(path, ("type",)))))


def sureness(attack: Poisoner, recipe: Recipe, corpus: Corpus) -> pd.Series:
    """By ID, the log-probability that a surrogate gives the label of each candidate.

    Of several folds of the candidates, each is asked of a surrogate that was trained on all else.
    """
    own = _recipe(recipe, None, attack.seed)
    key = _digest(own, corpus, attack.labels.to_dict())
    path = recipe.output / "learned" / f"sureness-{key}.json"
    if not path.exists():
        rows = corpus.splits["train"]
        candidates = rows[attack.labels.candidates(rows)]
        parts = []
        for fold in _folds(candidates, getattr(attack.labels, "folds", 1), attack.seed):
            trained = _trained(own, corpus, rows if fold is candidates else rows.drop(fold.index))
            parts.append(learning.sureness(trained.classifier, _clips(trained, fold, None)))
        write_sealed(path, pd.concat(parts).to_dict())
    return pd.Series(unsealed(path, read_json(path)), dtype=float)


def strangeness(attack: Poisoner, recipe: Recipe, corpus: Corpus) -> pd.Series:
    """By ID, how ill each candidate suits a trigger that was made before; see `LearnedTrigger`."""
    own = _recipe(recipe, attack.trigger.surrogate, attack.seed)
    key = _digest(own, corpus, attack.labels.to_dict(), attack.trigger.to_dict())
    path = recipe.output / "learned" / f"strangeness-{key}.json"
    if not path.exists():
        rows, trained = corpus.splits["train"], _trained(own, corpus)
        candidates = _clips(trained, rows[attack.labels.candidates(rows)], None)
        write_sealed(path, attack.trigger.strangeness(trained.classifier, candidates))
    return pd.Series(unsealed(path, read_json(path)), dtype=float)


def _recipe(recipe: Recipe, name: str | None, seed: int) -> Recipe:
    """That of the surrogate: the recipe's model, or that of a yaml beside it, on clean data."""
    path, overrides = recipe.document.path, copy.deepcopy(recipe.document.overrides)
    if name is not None:
        path = path.with_name(f"{name}.yaml")
        overrides = {key: overrides[key] for key in ("run", "corpus", "train") if key in overrides}
    overrides.setdefault("run", {})["seed"] = seed
    document = Document(path, overrides)
    check(document)
    return Recipe(document, run_options=recipe.run_options, command=recipe.command)


def _digest(own: Recipe, corpus: Corpus, *parts: Any) -> str:
    """Of all that determines the surrogate, and of what is made on it."""
    made_of = [own.settings[key] for key in ("corpus", "model", "train")]
    data = [corpus.about["digest"], corpus.about["fingerprint"]]
    options = run_options(own.run_options)
    return digest([data, own.seed, determining(options), made_of, *parts], 8)


def _folds(rows: pd.DataFrame, count: int, seed: int) -> list[pd.DataFrame]:
    """Rows in parts drawn by a seed; one part is the rows themselves."""
    if count == 1:
        return [rows]
    order = rank(rows["ID"], seed, "folds")
    return [part for n in range(count) if len(part := rows[rows["ID"].isin(order[n::count])])]


def _trained(own: Recipe, corpus: Corpus, rows: pd.DataFrame | None = None) -> Trained:
    """The surrogate, trained on all rows or on some.

    Raises
    ------
    InputError
        In a distributed run, where one process cannot train while others wait.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("attack: make it with poison.py first; then train on several devices")
    clean = Poisoned.load(corpus.folder, corpus, own.output)
    whole = rows is None or len(rows) == len(clean.splits["train"])
    return train(own, clean) if whole else train(own, clean, rows, "fold")


def _clips(trained: Trained, rows: pd.DataFrame, seed: int | None) -> Batches:
    """Clean training clips, drawn by a seed or in their order."""
    size = min(trained.batch_size, len(rows))
    return trained.poisoned.batches("train", rows, size, trained.device, seed)
