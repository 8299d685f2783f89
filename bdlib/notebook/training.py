"""Training of any classifier on a corpus of a person's own."""

import copy
import hashlib
import inspect
import re
import time
from collections.abc import Callable
from functools import partial
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bdlib.defenses.checks import counts, positive
from bdlib.files import alone, digest
from bdlib.making import NEW
from bdlib.models.classifier import SpeechClassifier
from bdlib.notebook.given import answering, asked
from bdlib.stages import fitting
from bdlib.stages.blind import unnamed
from bdlib.stages.compute import determining, run_options
from bdlib.stages.corpus import CLEAN, Poisoned
from bdlib.stages.document import TYPE
from bdlib.stages.train import check_classes
from bdlib.training import classifier_brain, log
from bdlib.training.classifier_brain import Training
from bdlib.training.schedule import OneCycle

PLAIN = bool, int, float, str, tuple, list, dict, type(None)
"""Kinds of attributes of a module that are settings; those in underscores are torch's."""
FOREIGN = "torch", "builtins", "abc"
"""Packages whose code is that of a version, which nobody edits between two trainings."""


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
        If a number is out of range, or the training diverges.
    """
    asked(net=(net, SpeechClassifier), poisoned=(poisoned, Poisoned))
    counts("epochs", epochs)
    counts("batch_size", batch_size)
    positive("lr", lr)
    options, rows = run_options({"device": device}), poisoned.splits["train"]
    answering(net, poisoned)
    adam = partial(torch.optim.Adam, lr=lr, fused=True)
    training = Training(epochs, batch_size, adam, epochs, 0, 5.0, OneCycle(lr), loss)
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "loss": _named(loss)}
    packs = [poisoned.packs[split].digest for split in ("train", "valid")]
    heard = [rows.to_dict("list"), packs, poisoned.corpus.audio.seconds]
    key = digest([*heard, settings, seed, determining(options), _made_of(net)], 8)
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
        net = classifier_brain.fit(net, training, *batches, folder, seed, options)
        seconds = time.monotonic() - started
        fitting.finish(folder, net, len(rows), seconds, options["device"])
    return net.to(options["device"])


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


def _named(loss: Callable[[Tensor, Tensor], Tensor]) -> str:
    """A loss by its name and what it is made of, the same in every process: no address in memory."""
    if isinstance(loss, partial):
        return f"{_named(loss.func)} {loss.args} {sorted(loss.keywords.items())}"
    made_of: Any = getattr(loss, "__dict__", {})
    if isinstance(loss, nn.Module):
        made_of = _made_of(loss)
    elif getattr(loss, "__code__", None):
        made_of = _does(loss)
    name = getattr(loss, "__qualname__", type(loss).__qualname__)
    return f"{loss.__module__}.{name} {digest(_placeless(made_of), 6)}"


def _made_of(net: nn.Module) -> str:
    """Digest of what a module computes with: tensors, kept in a checkpoint or not, settings, and code."""
    total = hashlib.sha256(str(net).encode())
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        total.update(f"{name} {value.requires_grad}".encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    for name, part in net.named_modules():
        settings = {
            key: value
            for key, value in vars(part).items()
            if isinstance(value, PLAIN) and key[0] != "_"
        }
        settings.pop("training", None)  # it is set before anything is computed
        own = [k for k in type(part).__mro__ if k.__module__.partition(".")[0] not in FOREIGN]
        code = [(key, _does(value)) for kind in own for key, value in vars(kind).items()]
        code.append(("script", getattr(part, "code", "")))
        total.update(_placeless((name, sorted(settings.items()), code)).encode())
    return total.hexdigest()


def _does(function: Any) -> Any:
    """The code of a function and of those within it; without its lines and files."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return _told_code(code) if code else ""


def _told_code(code: CodeType) -> tuple[Any, ...]:
    constants = [
        _told_code(value) if isinstance(value, CodeType)
        else sorted(map(repr, value)) if isinstance(value, frozenset)  # in any order in a process
        else value
        for value in code.co_consts
    ]  # fmt: skip
    return code.co_code, code.co_names, constants


def _placeless(what: Any) -> str:
    """Its text, without addresses in memory and the files that it comes from."""
    return re.sub(r" at 0x[0-9a-f]+(, file [^>]*)?", "", str(what))
