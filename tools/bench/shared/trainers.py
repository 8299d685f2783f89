"""Trainings of the recipes' yaml files on made-up clips, without a corpus and without its stages."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import speechbrain as sb
import torch

from bdlib.corpus import Batches
from bdlib.errors import InputError
from bdlib.pack import Pack
from bdlib.stages.compute import run_options
from bdlib.stages.document import Document
from bdlib.stages.fitting import TRAIN_KEYS
from bdlib.training.classifier_brain import ClassifierBrain, Training

ROOT = Path(__file__).resolve().parents[3]
HPARAMS = ROOT / "recipes" / "SpeechCommands" / "hparams"
RATE, CLASSES = 16000, 12


def noise(
    clips: int, batch_size: int, device: str = "cpu", seconds: float = 1.0, classes: int = CLASSES
) -> Batches:
    """Training batches of `clips` clips of noise at 16 kHz, in all classes, in memory."""
    generator = np.random.Generator(np.random.PCG64(0))
    length = round(seconds * RATE)
    samples = generator.integers(-3000, 3000, clips * length, dtype=np.int16)
    rows = pd.DataFrame({"ID": [str(i) for i in range(clips)]})
    rows["label"] = [str(i % classes) for i in range(clips)]
    made = Pack(samples, np.arange(clips + 1) * length, list(rows["ID"]), RATE, [], "noise")
    return Batches(made, rows, [*map(str, range(classes))], batch_size, seconds, 0, device)


def document(path: Path, **settings: Any) -> Document:
    """A recipe's yaml with settings in place of its own.

    Raises
    ------
    InputError
        If it has no such setting.
    """
    made = Document(path)
    for name, value in settings.items():
        if not made.place(name, value):
            raise InputError(f"{path}: no `{name}`")
    return made


def trainer(recipe: Document, train: Batches, folder: Path, **options: Any) -> ClassifierBrain:
    """The Brain of a recipe over training batches, in its first epoch and ready for a step.

    Arguments
    ---------
    recipe : Document
        Model and training.
    train : Batches
        What it trains on, and where.
    folder : Path
        Of what a training writes.
    options : Any
        SpeechBrain's run options; by default those of the programs.
    """
    built = recipe.build()
    model, settings = built["model"], built["train"]
    training = Training(
        schedule=model["schedule"](settings["lr"]),
        loss=model["loss"],
        keep=model.get("keep", "best"),
        **{name: settings[name] for name in TRAIN_KEYS},
    )
    torch.manual_seed(0)
    net = model["classifier"](n_classes=len(train.counts)).to(train.device)
    net.fit_front_end(train)
    given = {"device": str(train.device), "noprogressbar": True, **options}
    kind = model.get("brain", ClassifierBrain)
    brain = kind(net, training, train, folder, 0, run_options(given))
    brain.on_fit_start()
    brain.counter.current = 1
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    brain.modules.train()
    return brain
