"""Which encoder hears a corpus: the one asked for, or the one that tells its labels better."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from bdlib.defenses.opinions import Opinions
from bdlib.encoders import ENCODERS, Encoder
from bdlib.errors import InputError
from bdlib.scanning.heard import Heard, listen
from bdlib.scanning.own import Own
from bdlib.scanning.sources import Source

TRIED = 600  # clips on which `auto` compares encoders


def choose(
    source: Source, task: str, cache: str | Path | None, seed: int, quiet: bool
) -> tuple[Encoder, str]:
    """The encoder of a task, and why; `auto` takes the one that separates the labels better.

    Raises
    ------
    InputError
        For an unknown task, or if no encoder is installed.
    """
    if task in ENCODERS:
        encoder = ENCODERS[task]()
        encoder.file  # noqa: B018 - says what to install before anything is read
        return encoder, "asked for"
    if task == Own.name:
        return Own(source, seed, quiet), "trained on these clips, without labels"
    if task != "auto":
        raise InputError(f"`task` is {task}: give {', '.join(ENCODERS)}, {Own.name} or auto")
    there, missing = {}, []
    for name, made in ENCODERS.items():
        try:
            made().file  # noqa: B018
            there[name] = made()
        except InputError as error:
            missing.append(str(error))
    if not there:
        without = f"or give `task` {Own.name}, which is slower and weaker, and needs neither"
        raise InputError("; ".join([*missing, without]))
    if len(there) == 1:
        (name, encoder), *_ = there.items()
        return encoder, f"the only one here ({'; '.join(missing)})"
    each = max(4, TRIED // source.rows["label"].nunique())
    some = source.rows.groupby("label").sample(frac=1, random_state=0).groupby("label").head(each)
    if len(some) > 2 * TRIED:
        some = some[some["label"].isin(sorted(some["label"].unique())[: 2 * TRIED // 4])]
    part = replace(source, rows=some.sort_index().reset_index(drop=True))
    right = {
        name: agreement(listen(part, encoder, cache, quiet)) for name, encoder in there.items()
    }
    best = max(right, key=right.__getitem__)
    told = ", ".join(f"{name} {share:.0%}" for name, share in right.items())
    return there[best], f"labels told out of fold, by encoder: {told}"


def agreement(heard: Heard) -> float:
    """Share of clips whose label is told by clips of other folds and neighbours."""
    classes, given = np.unique(heard.labels, return_inverse=True)
    everything, kept = np.arange(len(given)), np.ones(len(given), bool)
    _, likely = Opinions(heard.embeddings, given, len(classes)).on(everything, kept)
    return float((likely == given).mean())
