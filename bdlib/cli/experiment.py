"""One experiment on the disk: each stage is made when asked for, and skipped where it stands."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import speechbrain as sb
import torch
from speechbrain.utils.distributed import infer_device, run_on_main

from bdlib import manifest, sampling
from bdlib.cli import poison, prepare
from bdlib.cli.command import Command
from bdlib.cli.run import Run
from bdlib.corpus import Batches
from bdlib.defenses.base import CleanData
from bdlib.errors import InputError
from bdlib.files import digest
from bdlib.models.classifier import SpeechClassifier
from bdlib.pack import Pack
from bdlib.training.classifier_brain import ClassifierBrain, Training

# SpeechBrain's run options that change what a training computes.
COMPUTE = (
    *("precision", "auto_mix_prec", "bfloat16_mix_prec", "grad_accumulation_factor"),
    *("optimizer_step_limit", "remove_vector_weight_decay", "skip_nonfinite_grads"),
)
NO_RUN = ("debug", "debug_persistently", "test_only", "data_parallel_backend")
TRAIN_KEYS = (
    "number_of_epochs",
    "batch_size",
    "optimizer",
    "patience",
    "warmup_epochs",
    "max_grad_norm",
)


class Experiment:
    """A recipe, an attack and a defense, and the folders of what they made.

    Arguments
    ---------
    asked : Command
        The command line.
    prepare_corpus : prepare.Prepare
        The recipe's own `prepare`.
    """

    def __init__(self, asked: Command, prepare_corpus: prepare.Prepare) -> None:
        self.asked = asked
        self.settings = asked.recipe.plain()
        self.run, self.corpus = self.settings["run"], self.settings["corpus"]
        self.seed, self.output = self.run["seed"], Path(self.run["output_folder"])
        for name in NO_RUN:
            if asked.run_opts[name]:
                raise InputError(f"--{name}: not with these recipes; try --number_of_epochs=1")
        self.device = _device(asked.run_opts["device"])
        self.run_opts = {**asked.run_opts, "device": self.device}
        if self.device.startswith("cuda"):
            for name in {"precision", "eval_precision"} - asked.run_opts["overridden_args"]:
                self.run_opts[name] = "bf16"
        self.name = asked.recipe.path.stem
        corpus = [prepare_corpus]
        run_on_main(self._data, args=corpus, post_func=self._data, post_args=corpus)

    def _data(self, prepare_corpus: prepare.Prepare) -> None:
        """Stages 1 to 3."""
        root = prepare.corpus_folder(self.run["data_folder"], self.corpus["name"], self.output)
        self.clean = prepare.ensure(prepare_corpus, self.corpus, root, self.output)
        self.poisoned = poison.ensure(self.asked, self.clean, self.output)
        self.splits = ["train", "valid", poison.CLEAN]
        self.splits += [poison.TRIGGERED] if self.poisoned.attack else []
        self.packs = {
            split: poison.packed(self.poisoned, split, self.corpus, self.output)
            for split in self.splits
        }
        self.classes = tuple(self.clean.about["classes"])

    @property
    def attack_name(self) -> str:
        """Name of the attack, or `clean`."""
        return self.poisoned.attack["name"] if self.poisoned.attack else "clean"

    def batches(
        self,
        split: str,
        rows: pd.DataFrame | None = None,
        train: bool = False,
        pack: Pack | None = None,
    ) -> Batches:
        """Batches of a split, or of some of its rows; `pack` holds them under other names."""
        shard = (0, 1)
        if train and torch.distributed.is_initialized():
            shard = (torch.distributed.get_rank(), torch.distributed.get_world_size())
        return Batches(
            pack or self.packs[split],
            self.poisoned.rows(split) if rows is None else rows,
            self.classes,
            self.settings["train"]["batch_size"],
            self.corpus["seconds"],
            self.seed if train else None,
            self.device,
            shard,
        )

    def clean_data(self, share: float) -> CleanData:
        """The clean budget: a share of every class of the training set, and the validation set.

        Raises
        ------
        InputError
            If the share is not within [0, 1].
        """
        if not 0 <= share <= 1:
            raise InputError(f"--clean_share={share}: give a share of the training set, 0 to 1")
        rows = sampling.share(self.poisoned.benign("train"), share, self.seed)
        folder = self.output / "budget" / digest([list(rows["ID"]), self.clean.about["digest"]])
        budget = poison.Poisoned(folder, self.clean, None)

        def train(batch_size: int) -> Batches:
            manifest.write(rows, folder / "train.csv")
            pack = poison.packed(budget, "train", self.corpus, self.output)
            return Batches(
                pack,
                rows,
                self.classes,
                min(batch_size, len(rows)),
                self.corpus["seconds"],
                self.seed,
                self.device,
            )

        return CleanData(train, lambda: self.batches("valid"), len(rows), self.seed)

    def new_classifier(self) -> tuple[SpeechClassifier, Training, Callable[..., ClassifierBrain]]:
        """An untrained classifier, drawn by the training seed, how to train it, and by what."""
        if not 0 < self.settings["train"]["lr"] < math.inf:  # below 0 it would climb the loss
            raise InputError(f"--lr={self.settings['train']['lr']}: give a positive number")
        sb.utils.seed.seed_everything(self.seed)
        built = self.asked.recipe.build()
        model, train = built["model"], built["train"]
        training = Training(
            schedule=model["schedule"](train["lr"]),
            loss=model["loss"],
            keep=model.get("keep", "best"),
            **{name: train[name] for name in TRAIN_KEYS},
        )
        brain = model.get("brain", ClassifierBrain)
        return model["classifier"](n_classes=len(self.classes)), training, brain

    @property
    def training_defense(self) -> dict[str, Any] | None:
        """The defense that the model's own training is, for the record; None for most models."""
        name = self.settings["model"].get("defense")
        about = {"stage": "training", "selection": "fixed", "clean_budget": 0}
        return {"name": name, **about} if name else None

    def train(self, rows: pd.DataFrame, tag: str = "") -> Run:
        """Stage 4: train on rows of the training split, or load what was trained on them before."""
        train = manifest.blind(rows)
        key = digest(
            [
                digest(train.to_dict("list")),
                self.packs["train"].digest,
                self.packs["valid"].digest,
                self.settings["model"],
                self.settings["train"],
                self.corpus["seconds"],
                self.seed,
                [self.run_opts[name] for name in COMPUTE],
            ],
            8,
        )
        name = "-".join(filter(None, (self.name, self.attack_name, tag, f"s{self.seed}", key)))
        run = Run(self, self.output / "train" / name)
        run.train(train)
        return run


def _device(name: str | None) -> str:
    """The device asked for, or the best there is.

    Raises
    ------
    InputError
        If it is not there.
    """
    name = name or infer_device()
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        what = str(error).partition("\n")[0]
        raise InputError(
            f"--device={name}: not here ({what}); leave it out, or give cpu"
        ) from error
    return name
