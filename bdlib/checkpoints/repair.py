"""A checkpoint repaired with clean clips alone: every repair of the collection is tried, one chosen."""

import contextlib
import copy
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from bdlib.checkpoints import card
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.checkpoints.clean import Clips, clean_clips, parts_of
from bdlib.checkpoints.collection import of_stage
from bdlib.checkpoints.moved import answers, moved
from bdlib.checkpoints.repaired import BEFORE, Repaired, Tried
from bdlib.defenses.base import RepairDefense
from bdlib.defenses.repair.tuning import affordable
from bdlib.errors import InputError, within
from bdlib.files import seed_of, writable
from bdlib.stages.document import common

PARTS = {"train": 0.5, "valid": 0.2, "judge": 0.3}
"""Of the clean clips: what a repair learns from, what it stops by, and what is judged by here."""


def repair(
    checkpoint: Checkpoint,
    data: str | Path,
    output: str | Path | None = None,
    repairs: Sequence[str] | None = None,
    max_drop: float = 0.05,
    seconds: float | None = None,
    seed: int = 0,
) -> Repaired:
    """Repair a checkpoint with a folder of clean clips.

    Half of the clips of each class are what repairs learn from, a fifth what they stop by. The rest
    judges: of the repairs whose accuracy on it is at most `max_drop` and one paired standard error
    below that before, the one that `moved` most is chosen.

    Arguments
    ---------
    checkpoint : Checkpoint
        It is not changed.
    data : str | Path
        Clean clips, ``data/<class>/**/*.wav``.
    output : str | Path | None
        A new folder for the repaired one; None writes none.
    repairs : Sequence[str] | None
        Some of `of_stage("repair")`; None tries all.
    max_drop : float
        Accuracy that a repair may give up, as a share of one.
    seconds : float | None
        What is heard of each clip, see `clean_clips`.
    seed : int
        Of all that is drawn.

    Raises
    ------
    InputError
        If the clips do not go with the checkpoint, a repair is unknown, or `output` is there.
    """
    within("max_drop", max_drop, 0, 1)
    known = of_stage("repair")
    names = known if repairs is None else repairs
    if unknown := sorted(set(names) - set(known)):
        raise InputError(f"`repairs` {unknown[0]}: no such repair; there are: {' '.join(known)}")
    if checkpoint.kind == "onnx":
        raise InputError(f"{checkpoint.path}: ONNX is read for answers alone; give weights")
    if output is not None:
        output = card.new_folder(checkpoint, output)
        writable(output, "output")
    nets: dict[str, torch.nn.Module] = {}
    tried = []
    with clean_clips(data, checkpoint, seconds) as clips, torch.random.fork_rng(devices=[]):
        if lacking := clips.lacking:
            raise InputError(
                f"{clips.root}: no clips of {lacking[0]}, one of {len(lacking)} classes of the "
                "checkpoint that are not there; a repair forgets what it is not shown"
            )
        parts = parts_of(clips.rows, PARTS, seed)
        said, labels = _answers(checkpoint, clips, parts, seed)
        right = (said.argmax(1) == labels).float()
        before = Tried(BEFORE, int(right.sum()), len(right), 0.0)
        for name in tqdm(names, "repairs tried", unit="repair", leave=False, disable=None):
            repaired, told = _try(checkpoint, name, clips, parts, max_drop, seed)
            if repaired is not None:
                nets[name] = repaired.net
                now, _ = _answers(repaired, clips, parts, seed)
                kept = (now.argmax(1) == labels).float()
                far = moved(said, now)
                told = replace(told, correct=int(kept.sum()), total=len(kept), moved=far)
                told = replace(told, why=_against(told, right, kept, max_drop))
            tried.append(told)
    allowed = [one for one in tried if not one.why]
    best = max(allowed, key=lambda one: one.moved, default=None)
    chosen = None if best is None else best.name
    after = replace(checkpoint, net=nets[chosen]) if chosen else checkpoint
    result = Repaired(after, before, tuple(tried), chosen)
    if output is not None and chosen:
        result.save(output)
    return result


def _try(
    checkpoint: Checkpoint,
    name: str,
    clips: Clips,
    parts: dict[str, Any],
    max_drop: float,
    seed: int,
) -> tuple[Checkpoint | None, Tried]:
    """A repaired copy, or None and why there is none."""
    document = common("defenses", name)
    document.place("max_drop", max_drop)  # of those that stop by the accuracy
    defense = document.part("defense", RepairDefense)
    started, clean = time.monotonic(), clips.budget(parts, seed)
    torch.manual_seed(seed_of("repair", name, seed))  # whatever was tried before
    try:
        with _aside():
            net = defense.repair(copy.deepcopy(checkpoint.net), clean).eval()
    except InputError as error:
        return None, Tried(name, why=str(error))
    except Exception as error:  # of a net from somewhere: the other repairs shall have their turn
        what = " ".join(str(error).split())[:100]
        return None, Tried(name, why=f"failed with {type(error).__name__}: {what}")
    suspicion = dict(zip(checkpoint.classes, clean.suspicion, strict=False))
    told = Tried(name, seconds=time.monotonic() - started, suspicion=suspicion)
    if clean.tried and not any(one.kept for one in clean.tried):
        return None, replace(told, why="gave back the net as it was: no rate keeps the accuracy")
    return replace(checkpoint, net=net), told


def _against(told: Tried, right: Tensor, kept: Tensor, max_drop: float) -> str:
    """Why a repaired net is out of the question; empty if it is not. `right`, `kept`: (N,) 0 or 1."""
    if not math.isfinite(told.moved):
        return "answers with no finite numbers"
    if told.moved == 0:
        return "left every answer as it was"
    if not affordable(right, kept, max_drop):
        return f"costs {100 * float((right - kept).mean()):.1f} points of accuracy"
    return ""


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """What repairs say goes to stderr: stdout is the answer's."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _answers(
    checkpoint: Checkpoint, clips: Clips, parts: dict[str, Any], seed: int
) -> tuple[Tensor, Tensor]:
    """What a net says of the clips that judge, and their labels."""
    torch.manual_seed(seed_of("judged", seed))  # the same noise in all nets that draw any
    return answers(checkpoint.net, clips.batches(parts["judge"]))
