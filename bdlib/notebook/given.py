"""What these functions ask of their arguments."""

import contextlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from bdlib.attacks.poisoner import Poisoner
from bdlib.defenses.base import FilterDefense, InferenceDefense, RepairDefense
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier
from bdlib.stages.poisoned import Poisoned

BATCH = 64
"""Clips that are scored at once."""
LARGEST_SEED = 2**63 - 1
HELP = {
    SpeechClassifier: "give a classifier of bdlib.models, or any torch module by bdlib.wrap",
    Poisoner: "give an attack, such as Poisoner(Insert(Clap()), OneToOne('no', 'yes'), rate=0.1)",
    str | Path: "give a path",
    Poisoned: "give what `Corpus.poison` returns; its attack may be None",
    FilterDefense: "give a filter, made, such as SpectralSignatures()",
    RepairDefense: "give a repair, made, such as GradientNorm()",
    InferenceDefense: "give a guard, made, such as StripVita()",
}


def asked(**given: tuple[Any, type]) -> None:
    """Refuse an argument that is of another kind than its name says."""
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            is_class = isinstance(value, type)
            what = f"the class {value.__name__}" if is_class else f"a {type(value).__name__}"
            raise InputError(f"`{name}` is {what}: {HELP[kind]}")


def device_of(net: SpeechClassifier) -> str:
    """Where a classifier lies, as torch names it."""
    return str(next((value.device for value in chain(net.parameters(), net.buffers())), "cpu"))


@contextlib.contextmanager
def own_draws(device: str) -> Iterator[None]:
    """Whatever is drawn inside leaves the caller's random numbers as they were."""
    on_gpu = torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        yield


@contextlib.contextmanager
def modes_kept(net: torch.nn.Module) -> Iterator[None]:
    """What is set to train or to evaluate inside is set back."""
    modes = {part: part.training for part in net.modules()}
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@torch.no_grad()
def answering(net: SpeechClassifier, poisoned: Poisoned) -> None:
    """Refuse a classifier that does not take the clips of a corpus, or has not an output for each class."""
    audio, device = poisoned.corpus.audio, device_of(net)
    clip = torch.zeros(1, round(audio.seconds * audio.sample_rate), device=device)
    try:
        with modes_kept(net), own_draws(device):
            count = net.eval()(clip, torch.ones(1, device=device)).shape[1]
    except InputError:
        raise
    except Exception as error:  # whatever a module of somebody's own may raise
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(
            f"`net` does not take clips of {audio.seconds:g} s at {audio.sample_rate} Hz ({why})"
        ) from error
    if count != len(poisoned.classes):
        raise InputError(
            f"`net` has {count} outputs, and the corpus {len(poisoned.classes)} classes "
            f"({' '.join(poisoned.classes)}): give a classifier of as many"
        )


def of_corpus(net: SpeechClassifier, poisoned: Poisoned) -> None:
    """Refuse a trained classifier of other classes than a corpus, or in another order."""
    answering(net, poisoned)
    if net.classes and tuple(net.classes) != tuple(poisoned.classes):
        raise InputError(
            f"`net` tells {' '.join(net.classes)}, and the corpus has {' '.join(poisoned.classes)}: "
            "give a classifier of these classes, in this order"
        )
