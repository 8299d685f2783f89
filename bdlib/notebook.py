"""The walk without a command line, for a person in a notebook; `bdlib` exports these names.

What is made goes below one output folder, as the recipes' runs do, and is not made twice.
"""

import copy
import hashlib
import re
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bdlib import manifest, sampling
from bdlib.attacks import surrogate as learning
from bdlib.attacks.poisoner import Poisoner
from bdlib.defenses.base import FilterDefense, InferenceDefense, RepairDefense
from bdlib.defenses.checks import positive
from bdlib.errors import InputError
from bdlib.evaluation import metrics, scores
from bdlib.files import alone, digest, folder_digest
from bdlib.making import NEW
from bdlib.manifest import TEST, TRIGGERED
from bdlib.models.classifier import SpeechClassifier
from bdlib.stages import corpus as stages
from bdlib.stages import fitting
from bdlib.stages.blind import Blinded, Defender, unnamed
from bdlib.stages.compute import exact_float32, run_options
from bdlib.stages.corpus import CLEAN, Poisoned, corpus_key
from bdlib.stages.defend import kept_rows
from bdlib.stages.document import TYPE
from bdlib.stages.pack import Audio
from bdlib.stages.train import check_classes
from bdlib.training import classifier_brain, log
from bdlib.training.classifier_brain import Training
from bdlib.training.schedule import OneCycle

SHARES = {"train": 0.7, "valid": 0.15, TEST: 0.15}
BATCH = 64  # clips that are scored at once
HELP = {
    SpeechClassifier: "give a classifier of bdlib.models, or any torch module by bdlib.wrap",
    Poisoned: "give what `Corpus.poison` returns; its attack may be None",
    FilterDefense: "give a filter, made, such as SpectralSignatures()",
    RepairDefense: "give a repair, made, such as GradientNorm()",
    InferenceDefense: "give a guard, made, such as StripVita()",
}


class Corpus(stages.Corpus):
    """A clean corpus, made from a folder; see the base class."""

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        seconds: float,
        sample_rate: int = 16000,
        pad_seconds: float | None = None,
        seed: int = 0,
    ) -> "Corpus":
        """A corpus with a folder a class, ``folder/<class>/**/*.wav``, split by lot 70 / 15 / 15.

        Arguments
        ---------
        folder : str | Path
            Nothing is written into it.
        seconds, sample_rate, pad_seconds : float, int, float | None
            See `Audio`.
        seed : int
            Of the split.

        Raises
        ------
        InputError
            If the folder is missing, or a class has no audio or too little to split.
        """
        root = Path(folder).expanduser().resolve()
        splits = sampling.split(manifest.from_folder(root), SHARES, seed)
        audio = Audio(root, folder_digest(root), sample_rate, seconds, pad_seconds)
        key = corpus_key(root.name, {"split_seed": seed}, audio)
        return cls.of(root.name, key, splits, audio)

    def poison(
        self,
        attack: Poisoner | None,
        output: str | Path,
        surrogate: SpeechClassifier | None = None,
        name: str | None = None,
    ) -> Poisoned:
        """Poison the corpus and pack its waveforms; what stands is not made twice.

        Arguments
        ---------
        attack : Poisoner | None
            None packs the clean corpus.
        output : str | Path
            Gets `manifest/`, `poison/`, `pack/` and, by `train`, `train/`.
        surrogate : SpeechClassifier | None
            Trained on the clean corpus; needed by a learned trigger and by hard clean labels.
        name : str | None
            What to call the attack; by default after the class of its trigger.

        Raises
        ------
        InputError
            If the attack does not fit the corpus, or a clip cannot carry the trigger.
        """
        output = Path(output)
        with alone(output / "manifest"):
            corpus = self if self.folder else self.save(output)
        if attack is None:
            return Poisoned.load(corpus.folder, corpus, output)
        attack.labels.check(corpus.classes)
        ranks = None
        if attack.trigger.learned or attack.labels.hard:
            attack, ranks = corpus._on_surrogate(attack, output, surrogate)
        name = name or type(attack.trigger).__name__.lower()
        return corpus.poisoned(attack, name, output, ranks)

    def _on_surrogate(
        self, attack: Poisoner, output: Path, surrogate: SpeechClassifier | None
    ) -> tuple[Poisoner, pd.Series | None]:
        """The attack with what a surrogate adds: a learned trigger, and which clips are poisoned."""
        if surrogate is None:
            raise InputError(
                "attack: it is made on a classifier; train one on corpus.poison(None, ...) and "
                "give it as `surrogate`"
            )
        clean, rows = Poisoned.load(self.folder, self, output), self.splits["train"]
        if attack.trigger.learned:
            target = learning.target_of(attack)
            others = rows[rows["label"] != target]
            clips = clean.batches("train", others, min(BATCH, len(others)), seed=attack.seed)
            attack = learning.fitted(attack, surrogate, clips, self.classes.index(target))
        if not attack.ranks:
            return attack, None
        candidates = clean.batches("train", rows[attack.labels.candidates(rows)])
        if attack.labels.hard:
            return attack, learning.sureness(surrogate, candidates)
        return attack, pd.Series(attack.trigger.strangeness(surrogate, candidates), dtype=float)


class Measured(dict[str, Any]):
    """Metrics by name, each with `value` and, of a rate, `count` and `total`; prints as lines."""

    def __str__(self) -> str:
        return metrics.summary(self)


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
        that trained the same weights on the same data.

    Raises
    ------
    InputError
        If a number is out of range, or the training diverges.
    """
    _asked(net=(net, SpeechClassifier), poisoned=(poisoned, Poisoned))
    positive("lr", lr)
    options, rows = run_options({"device": device}), poisoned.splits["train"]
    adam = partial(torch.optim.Adam, lr=lr, fused=True)
    training = Training(epochs, batch_size, adam, epochs, 0, 5.0, OneCycle(lr), loss)
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "loss": _named(loss)}
    packs = [poisoned.packs[split].digest for split in ("train", "valid")]
    key = digest([rows.to_dict("list"), packs, settings, seed, str(net), _weights(net)], 8)
    name = f"{type(net).__name__}-{poisoned.trained_on}-s{seed}-{key}".lower()
    folder, net = poisoned.output / "train" / name, copy.deepcopy(net)
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


def measure(net: SpeechClassifier, poisoned: Poisoned) -> Measured:
    """Rates with their counts: accuracy, what the backdoor does, and what a filter or a guard found.

    Arguments
    ---------
    net : SpeechClassifier
        Trained, as it is or defended.
    poisoned : Poisoned
        The corpus, or what a filter left of it.
    """
    _asked(net=(net, SpeechClassifier), poisoned=(poisoned, Poisoned))
    exact_float32()  # a net from elsewhere may be on a GPU that nothing here has set yet
    tables = {
        split: pd.DataFrame(
            scores.answers(net, _batches(net, poisoned, split), poisoned.classes)
        ).set_index("ID")
        for split in poisoned.tests
    }
    test, clean = poisoned.splits[TEST], tables[TEST]
    measured = Measured(metrics.classification(test, clean))
    if not poisoned.attack:
        return measured
    truth = poisoned.truth()
    measured |= metrics.backdoor(test, clean, tables[TRIGGERED], truth)
    everyone = manifest.read(poisoned.folder / "train.csv")
    if len(kept := pd.Index(poisoned.splits["train"]["ID"])) < len(everyone):
        measured |= metrics.filtering(pd.Index(everyone["ID"]), kept, truth)
    if thresholds := getattr(net, "thresholds", None):
        measured |= metrics.screening(clean, tables[TRIGGERED], thresholds)
        measured |= metrics.passed(test, clean, tables[TRIGGERED], truth, thresholds)
    return measured


def filter(
    defense: FilterDefense, net: SpeechClassifier, poisoned: Poisoned, seed: int = 0
) -> Poisoned:
    """What a filter leaves of a corpus, to train on again.

    Arguments
    ---------
    defense : FilterDefense
        Looks at rows and waveforms under aliases, and at the classifier.
    net : SpeechClassifier
        Trained on the whole of it.
    poisoned : Poisoned
        The corpus.
    seed : int
        Of what the filter draws.

    Raises
    ------
    InputError
        If it removes everything or a whole class, or wants to train a classifier of its own.
    """
    _asked(
        defense=(defense, FilterDefense), net=(net, SpeechClassifier), poisoned=(poisoned, Poisoned)
    )
    blinded, everything = Blinded.of(poisoned), poisoned.splits["train"]
    blinded.reveal(defense, poisoned)

    def trained(rows: pd.DataFrame) -> SpeechClassifier:
        if len(rows) < len(everything):
            raise InputError(f"{type(defense).__name__}: trains again; use defend.py of a recipe")
        return net

    view = _defender(net, seed).view(poisoned, blinded, trained)
    kept = kept_rows(defense, defense.scores(view), blinded.rows)
    rows = blinded.behind(everything, kept["ID"])
    return replace(poisoned, splits={**poisoned.splits, "train": rows})


def repair(
    defense: RepairDefense, net: SpeechClassifier, poisoned: Poisoned, seed: int = 0
) -> SpeechClassifier:
    """A repaired copy of a trained classifier.

    Arguments
    ---------
    defense : RepairDefense
        Gets a clean budget, its `clean_share` of the training set, of clips that are as they were
        recorded, and the validation set.
    net : SpeechClassifier
        Trained; it is not changed.
    poisoned : Poisoned
        What it was trained on.
    seed : int
        Of what the repair draws.
    """
    _asked(
        defense=(defense, RepairDefense), net=(net, SpeechClassifier), poisoned=(poisoned, Poisoned)
    )
    clean = _defender(net, seed).clean_data(poisoned, defense.clean_share)
    return defense.repair(copy.deepcopy(net), clean).eval()


def guard(
    defense: InferenceDefense, net: SpeechClassifier, poisoned: Poisoned, seed: int = 0
) -> SpeechClassifier:
    """A trained classifier behind a guard that is calibrated on the clean validation set.

    Arguments
    ---------
    defense : InferenceDefense
        Changes clips before they are classified, or judges them.
    net : SpeechClassifier
        Trained; it is not changed.
    poisoned : Poisoned
        Its validation set is used.
    seed : int
        Of what the guard draws.

    Raises
    ------
    InputError
        If the guard is for clips of another sampling rate.
    """
    _asked(
        defense=(defense, InferenceDefense),
        net=(net, SpeechClassifier),
        poisoned=(poisoned, Poisoned),
    )
    defender, rate = _defender(net, seed), poisoned.corpus.audio.sample_rate
    if getattr(defense, "sample_rate", rate) != rate:
        raise InputError(
            f"`sample_rate` of the guard is {defense.sample_rate}: the clips have {rate}"
        )
    calibrated = defense.calibrate(net, lambda: defender.validation(poisoned), seed)
    guarded = calibrated.guard(net, seed)
    guarded.thresholds = calibrated.thresholds  # `measure` tells the rates at these
    return guarded


def _asked(**given: tuple[Any, type]) -> None:
    """Refuse an argument that is of another kind than its name says."""
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            is_class = isinstance(value, type)
            what = f"the class {value.__name__}" if is_class else f"a {type(value).__name__}"
            raise InputError(f"`{name}` is {what}: {HELP[kind]}")


def _batches(net: SpeechClassifier, poisoned: Poisoned, split: str) -> Collection:
    return poisoned.batches(split, None, BATCH, _device(net))


def _defender(net: SpeechClassifier, seed: int) -> Defender:
    return Defender(seed, BATCH, run_options({"device": _device(net)}))


def _device(net: SpeechClassifier) -> str:
    return str(next(net.parameters()).device)


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
        made_of = (str(loss), _weights(loss))
    elif code := getattr(loss, "__code__", None):
        made_of = (code.co_code, code.co_names, code.co_consts)
    name = getattr(loss, "__qualname__", type(loss).__qualname__)
    return f"{loss.__module__}.{name} {digest(re.sub(' at 0x[0-9a-f]+', '', str(made_of)), 6)}"


def _weights(net: nn.Module) -> str:
    """Digest of all parameters and buffers."""
    total = hashlib.sha256()
    for name, value in net.state_dict().items():
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
