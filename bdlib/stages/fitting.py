"""The part of stage 4 that needs torch: training, loading, and what a training leaves in its folder."""

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import speechbrain as sb
import torch
import yaml
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.distributed import run_on_main

from bdlib.errors import InputError
from bdlib.files import atomic
from bdlib.models.classifier import SpeechClassifier
from bdlib.records.provenance import device_name, made, peak_memory_mb
from bdlib.seals import write_sealed
from bdlib.stages.blind import unnamed
from bdlib.stages.document import UNBUILT
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.recipe import Recipe
from bdlib.training import classifier_brain, log
from bdlib.training.checkpoints import kept_files
from bdlib.training.classifier_brain import ClassifierBrain, Training

TRAIN_KEYS = (
    *("number_of_epochs", "batch_size", "optimizer", "patience", "warmup_epochs"),
    "max_grad_norm",
)
FEW = 8  # steps of an epoch, of which default epochs are too short a training


def untrained(
    recipe: Recipe, classes: tuple[str, ...]
) -> tuple[SpeechClassifier, Training, Callable[..., ClassifierBrain]]:
    """An untrained classifier, drawn by the training seed, how to train it, and by what.

    Raises
    ------
    InputError
        If a setting is out of range.
    """
    rate = recipe.settings["train"]["lr"]
    if not 0 < rate < math.inf:  # below 0 it would climb the loss
        raise InputError(f"`lr` is {rate}: give a positive number")
    sb.utils.seed.seed_everything(recipe.seed)
    built = recipe.document.build()
    model, settings = built["model"], built["train"]
    training = Training(
        schedule=model["schedule"](settings["lr"]),
        loss=model["loss"],
        keep=model.get("keep", "best"),
        **{name: settings[name] for name in TRAIN_KEYS},
    )
    brain = model.get("brain", ClassifierBrain)
    try:
        return model["classifier"](n_classes=len(classes)), training, brain
    except UNBUILT as error:
        if isinstance(error, InputError):
            raise
        what = " ".join(str(error).split())[:300]
        raise InputError(
            f"{recipe.document.path}: the classifier cannot be made ({what}); correct model"
        ) from error


def load(recipe: Recipe, classes: tuple[str, ...], folder: Path, device: str) -> SpeechClassifier:
    """The kept checkpoint of a training, on a device."""
    fresh, training, _ = untrained(recipe, classes)
    return classifier_brain.load(fresh, folder, training.keep).to(device)


def fit(
    recipe: Recipe, poisoned: Poisoned, rows: pd.DataFrame, folder: Path, options: dict[str, Any]
) -> SpeechClassifier:
    """Train an untrained classifier of a recipe on rows, into a folder; on the device.

    Arguments
    ---------
    recipe, poisoned, rows, folder : Recipe, Poisoned, pd.DataFrame, Path
        See `bdlib.stages.train.train`.
    options : dict[str, Any]
        All of SpeechBrain's run options.
    """
    size, device, shard = recipe.settings["train"]["batch_size"], options["device"], (0, 1)
    if torch.distributed.is_initialized():
        shard = (torch.distributed.get_rank(), torch.distributed.get_world_size())
    batches = (
        unnamed(poisoned, "train", rows, size, device, recipe.seed, shard),
        unnamed(poisoned, "valid", None, size, device),
    )
    if shard[0] == 0 and len(batches[0]) < FEW:
        print(f"note: an epoch is {len(batches[0])} steps; a smaller batch_size makes more of them")
    fresh, training, brain = untrained(recipe, poisoned.classes)
    run_on_main(describe, args=[folder, recipe.settings, poisoned.classes])
    before = sum(line["seconds"] for line in log.read_log(folder))
    started = time.monotonic() - before  # of an interrupted training, its finished epochs count
    classifier = classifier_brain.fit(
        fresh, training, *batches, folder, recipe.seed, options, brain
    )
    run_on_main(finish, args=[folder, classifier, len(rows), time.monotonic() - started, device])
    return classifier.to(device)


def describe(folder: Path, settings: dict[str, Any], classes: tuple[str, ...]) -> None:
    """Write the settings of a training and its class order into its folder."""
    with atomic(folder / "hyperparams.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(settings, sort_keys=False))
    write_labels(classes, folder / "label_encoder.txt")


def write_labels(classes: Iterable[str], path: Path) -> None:
    """A class order as SpeechBrain's label encoder writes it."""
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(classes)
    with atomic(path) as temporary:
        encoder.save(temporary)


def finish(
    folder: Path, classifier: SpeechClassifier, clips: int, wall_s: float, device: str
) -> None:
    """Write `done.json`, by which a training is known to be whole, with what it took."""
    epochs = log.read_log(folder)
    about = {
        "train_s": round(sum(line["seconds"] for line in epochs), 1),
        "wall_s": round(wall_s, 1),
        "peak_memory_mb": peak_memory_mb(device),
        "parameters": sum(p.numel() for p in classifier.parameters()),
        "epochs": len(epochs),
        "rollbacks": len(log.read_rollbacks(folder)),
        "clips": clips,
        "device": device_name(device),
        **made(),
    }
    write_sealed(folder / "done.json", about, kept_files(folder))
