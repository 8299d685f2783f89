"""Training of any classifier on a corpus of a person's own."""

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bdlib.attacks.trigger import plain
from bdlib.defenses.checks import counts, positive
from bdlib.errors import InputError, within
from bdlib.files import alone, digest
from bdlib.making import NEW
from bdlib.models.classifier import SpeechClassifier
from bdlib.notebook.given import LARGEST_SEED, asked, of_corpus, own_draws
from bdlib.notebook.known import made_of, named
from bdlib.stages import fitting
from bdlib.stages.blind import unnamed
from bdlib.stages.compute import determining, run_options
from bdlib.stages.document import TYPE
from bdlib.stages.poisoned import CLEAN, Poisoned
from bdlib.stages.train import check_classes
from bdlib.training import classifier_brain, log
from bdlib.training.classifier_brain import Training
from bdlib.training.schedule import OneCycle


def train(
    net: SpeechClassifier,
    poisoned: Poisoned,
    epochs: int,
    batch_size: int = 64,
    lr: float = 0.003,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    seed: int = 0,
    device: str | None = None,
) -> SpeechClassifier:
    """Train a copy of a classifier on the untrusted training set, with Adam and one cycle of the rate.

    Arguments
    ---------
    net : SpeechClassifier
        Untrained, or trained before; it is not changed.
    poisoned : Poisoned
        The data.
    epochs, batch_size, lr : int, int, float
        How long, clips a step, highest learning rate.
    loss : Callable[[Tensor, Tensor], Tensor]
        Logits (B, C) and class numbers (B,) to a scalar.
    seed : int
        Of order, crops and all else that is drawn.
    device : str | None
        None takes the best there is.

    Returns
    -------
    SpeechClassifier
        That of the epoch with the lowest validation loss, on the device; from an earlier call, if
        that trained the same net on the same data in the same way.

    Raises
    ------
    InputError
        If a number is out of range, the classifier is of other classes or has nothing to train, the loss is
        none, or the training diverges.
    """
    asked(net=(net, SpeechClassifier), poisoned=(poisoned, Poisoned))
    counts("epochs", epochs)
    counts("batch_size", batch_size)
    positive("lr", lr)
    within("seed", seed, 0, LARGEST_SEED, int)
    options = run_options({"device": None if device is None else str(device)})
    of_corpus(net, poisoned)
    _trainable(net, loss)
    epochs, batch_size, lr, seed = map(plain, (epochs, batch_size, lr, seed))
    rows = poisoned.splits["train"]
    adam = partial(torch.optim.Adam, lr=lr, fused=True)
    training = Training(epochs, batch_size, adam, epochs, 0, 5.0, OneCycle(lr), loss)
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "loss": named(loss)}
    packs = [poisoned.packs[split].digest for split in ("train", "valid")]
    heard = [rows.to_dict("list"), packs, poisoned.corpus.audio.seconds]
    key = digest([*heard, settings, seed, determining(options), made_of(net)], 8)
    name = f"{type(net).__name__}-{poisoned.trained_on}-s{seed}-{key}".lower()
    folder, net = poisoned.output / "train" / name, copy.deepcopy(net)
    net.classes = poisoned.classes
    check_classes(folder, poisoned.classes)
    with alone(folder):
        if (folder / "done.json").exists():
            return classifier_brain.load(net, folder).to(options["device"])
        fitting.describe(folder, _told(net, poisoned, settings), poisoned.classes)
        started = time.monotonic() - sum(line["seconds"] for line in log.read_log(folder))
        batches = (
            unnamed(poisoned, "train", rows, batch_size, options["device"], seed),
            unnamed(poisoned, "valid", None, batch_size, options["device"]),
        )
        with own_draws(options["device"]):
            net = classifier_brain.fit(net, training, *batches, folder, seed, options)
        seconds = time.monotonic() - started
        fitting.finish(folder, net, len(rows), seconds, options["device"])
    return net.to(options["device"])


def _trainable(net: SpeechClassifier, loss: Any) -> None:
    """Refuse a net without parameters that learn, and what is no loss."""
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise InputError("`net` has nothing to train: none of its parameters requires a gradient")
    if not callable(loss) or isinstance(loss, type):
        raise InputError(
            f"`loss` is {loss!r:.50}: give a function of logits (B, C) and class numbers (B,)"
        )


def _told(net: SpeechClassifier, poisoned: Poisoned, settings: dict[str, Any]) -> dict[str, Any]:
    """What a recipe's training tells of itself, by which `Checkpoint.open` makes the net again.

    There is no classifier of a net that is not of this library, or wraps a module.
    """
    made, audio, name = getattr(net, "made_with", None), poisoned.corpus.audio, poisoned.trained_on
    if made:  # the number of classes is that of the labels
        made = {key: value for key, value in made.items() if key != "n_classes"}
        made[TYPE] = made[TYPE].replace(NEW, "!name:")
    return {
        "corpus": {"sample_rate": audio.sample_rate, "seconds": float(audio.seconds)},
        "poison": {"attack": "none" if name == CLEAN else name},
        "model": {"classifier": made},
        "train": settings,
    }
