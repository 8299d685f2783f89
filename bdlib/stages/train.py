"""Stage 4: a classifier trained on untrusted rows, or loaded where it stands."""

import ast
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bdlib import manifest
from bdlib.errors import InputError, fits
from bdlib.files import alone, check_regular, digest
from bdlib.stages.compute import determining, run_options
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.recipe import Recipe

if TYPE_CHECKING:  # torch takes seconds to import
    from bdlib.corpus import Batches
    from bdlib.models.classifier import SpeechClassifier
    from bdlib.pack import Pack


@dataclass(frozen=True)
class Trained:
    """A trained classifier on the disk, as it is or defended.

    Arguments
    ---------
    folder : Path
        Of the training; holds `save/`, `label_encoder.txt`, `hyperparams.yaml`, `train_log.txt`,
        `done.json`, `scores/` and `figures/`.
    poisoned : Poisoned
        What it was trained on, all or some of its rows.
    load : Callable[[], SpeechClassifier]
        Gives the classifier, on the device.
    batch_size : int
        At which it is scored.
    device : str
        Where.
    seed : int
        Of the training.
    defended : str | None
        The name under which it stands with scores of its own, repaired or behind a guard.
    undefended : Trained | None
        What it was before that.
    """

    folder: Path
    poisoned: Poisoned
    load: Callable[[], "SpeechClassifier"]
    batch_size: int
    device: str
    seed: int
    defended: str | None = None
    undefended: "Trained | None" = None

    @cached_property
    def classifier(self) -> "SpeechClassifier":
        """The classifier; loaded when it is first needed."""
        return self.load()

    @property
    def shown(self) -> Path:
        """The folder of its scores and figures."""
        return self.folder / "guarded" / self.defended if self.defended else self.folder

    def batches(
        self, split: str, rows: pd.DataFrame | None = None, pack: "Pack | None" = None
    ) -> "Batches":
        """A split, or some of its rows, in their order; `pack` holds them under other names."""
        return self.poisoned.batches(split, rows, self.batch_size, self.device, pack=pack)


def train(
    recipe: Recipe, poisoned: Poisoned, rows: pd.DataFrame | None = None, tag: str = ""
) -> Trained:
    """Train on the untrusted training set; what was trained on the same before is loaded.

    An interrupted training goes on where it stopped.

    Arguments
    ---------
    recipe : Recipe
        The model and how it is trained.
    poisoned : Poisoned
        The data.
    rows : pd.DataFrame | None
        Some of its training rows, as a filter leaves; None takes all.
    tag : str
        What chose them, for the name of the folder.

    Raises
    ------
    InputError
        If a setting is out of range, or a checkpoint stands with other classes.
    """
    rows = manifest.blind(poisoned.splits["train"] if rows is None else rows)
    options = run_options(recipe.run_options)
    key = digest(
        [
            digest(rows.to_dict("list")),
            poisoned.packs["train"].digest,
            poisoned.packs["valid"].digest,
            recipe.settings["model"],
            recipe.settings["train"],
            poisoned.corpus.audio.seconds,
            recipe.seed,
            determining(options),
        ],
        8,
    )
    parts = (recipe.name, poisoned.trained_on, tag, f"s{recipe.seed}", key)
    folder = recipe.output / "train" / "-".join(filter(None, parts))
    check_classes(folder, poisoned.classes)
    load = partial(_load, recipe, poisoned.classes, folder, options["device"])
    # Of several processes of one distributed run the first waits for all.
    first = int(os.environ.get("RANK", 0)) == 0
    with alone(folder) if first else contextlib.nullcontext():
        if _stands(folder, first, options["device"]):
            print(f"stands: {folder}")
        else:
            from bdlib.stages import fitting  # with all that trains

            print(f"training {folder.name} on {len(rows)} clips")
            classifier = fitting.fit(recipe, poisoned, rows, folder, options)
            load = classifier.eval  # which gives the classifier itself
    batch_size = recipe.settings["train"]["batch_size"]
    return Trained(folder, poisoned, load, batch_size, options["device"], recipe.seed)


def _stands(folder: Path, first: bool, device: str) -> bool:
    """Whether a training is finished; the first of several processes, which had to wait, says so to all."""
    done = (folder / "done.json").exists()
    if "RANK" not in os.environ:
        return done
    import torch

    from bdlib.training import ranks

    return bool(ranks.averaged(torch.tensor(float(first and done)), device) > 0)


def _load(
    recipe: Recipe, classes: tuple[str, ...], folder: Path, device: str
) -> "SpeechClassifier":
    from bdlib.stages import fitting

    return fitting.load(recipe, classes, folder, device)


def check_classes(folder: Path, classes: tuple[str, ...]) -> None:
    """Refuse a checkpoint whose classes are not the manifest's, in the same order.

    Raises
    ------
    InputError
        If so, or if its label encoder, as SpeechBrain writes it, is broken or gone.
    """
    path = folder / "label_encoder.txt"
    if not (folder / "save").exists():  # the label encoder is written before it
        return
    known = label_order(path, f"delete {folder} and train again")
    if known != classes:
        raise InputError(
            f"{path}: the checkpoint's classes ({' '.join(known)}) are not the manifest's "
            f"({' '.join(classes)}); train again in another `output_folder`"
        )


def label_order(path: Path, remedy: str) -> tuple[str, ...]:
    """The classes of a label encoder as SpeechBrain writes it, in the order of their numbers.

    Raises
    ------
    InputError
        If it is broken; the line ends with the remedy.
    """
    check_regular(path)
    try:
        lines = path.read_text("utf-8").partition("\n=")[0].splitlines()
        pairs = [line.rpartition(" => ") for line in lines]
        numbers = {int(number): ast.literal_eval(label) for label, _, number in pairs}
        known = tuple(numbers[number] for number in range(len(lines)))
        if not known or not fits(known, list[str]):
            raise ValueError("no labels")
        return known
    except (
        ValueError,
        SyntaxError,
        TypeError,
        LookupError,
        OSError,
        MemoryError,
        RecursionError,
    ) as error:
        raise InputError(f"{path}: broken; {remedy}") from error
