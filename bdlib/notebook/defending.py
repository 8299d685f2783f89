"""Filters, repairs and guards on a classifier and a corpus of a person's own."""

import copy
from dataclasses import replace

import pandas as pd

from bdlib.defenses.base import FilterDefense, InferenceDefense, RepairDefense
from bdlib.errors import InputError
from bdlib.models.classifier import Guarded, SpeechClassifier
from bdlib.notebook.given import BATCH, asked, device_of, modes_kept, of_corpus, own_draws
from bdlib.stages.blind import Blinded, Defender
from bdlib.stages.compute import run_options
from bdlib.stages.defend import kept_rows
from bdlib.stages.poisoned import Poisoned


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
        If it removes everything or a whole class, or wants to train a classifier of its own, or the
        classifier is of other classes.
    """
    asked(
        defense=(defense, FilterDefense), net=(net, SpeechClassifier), poisoned=(poisoned, Poisoned)
    )
    of_corpus(net, poisoned)
    blinded, everything = Blinded.of(poisoned), poisoned.splits["train"]
    blinded.reveal(defense, poisoned)

    def trained(rows: pd.DataFrame) -> SpeechClassifier:
        if len(rows) < len(everything):
            raise InputError(f"{type(defense).__name__}: trains again; use defend.py of a recipe")
        return net

    view = _defender(net, seed).view(poisoned, blinded, trained)
    with modes_kept(net):
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

    Raises
    ------
    InputError
        If the classifier is of other classes.
    """
    asked(
        defense=(defense, RepairDefense), net=(net, SpeechClassifier), poisoned=(poisoned, Poisoned)
    )
    of_corpus(net, poisoned)
    clean = _defender(net, seed).clean_data(poisoned, defense.clean_share)
    with own_draws(device_of(net)):
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
        If the guard is for clips of another sampling rate, or the classifier is of other classes, or
        has a guard already.
    """
    asked(
        defense=(defense, InferenceDefense),
        net=(net, SpeechClassifier),
        poisoned=(poisoned, Poisoned),
    )
    of_corpus(net, poisoned)
    if isinstance(net, Guarded):
        raise InputError("`net` has a guard already: give the classifier behind it")
    defender, rate = _defender(net, seed), poisoned.corpus.audio.sample_rate
    if getattr(defense, "sample_rate", rate) != rate:
        raise InputError(
            f"`sample_rate` of the guard is {defense.sample_rate}: the clips have {rate}"
        )
    with modes_kept(net):
        calibrated = defense.calibrate(net, lambda: defender.validation(poisoned), seed)
    guarded = calibrated.guard(net, seed)
    guarded.thresholds = dict(calibrated.thresholds)  # `measure` tells the rates at these
    return guarded


def _defender(net: SpeechClassifier, seed: int) -> Defender:
    return Defender(seed, BATCH, run_options({"device": device_of(net)}))
