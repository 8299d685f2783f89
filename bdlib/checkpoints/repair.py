"""A checkpoint repaired with clean clips alone: every repair of the collection is tried, one chosen."""

import contextlib
import copy
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bdlib.checkpoints import card
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.checkpoints.clean import Clips, clean_clips, parts_of
from bdlib.checkpoints.collection import of_stage
from bdlib.checkpoints.moved import answers, moved
from bdlib.defenses.base import RepairDefense
from bdlib.defenses.repair.tuning import affordable
from bdlib.errors import InputError, within
from bdlib.files import seed_of
from bdlib.stages.recipe import common

PARTS = {"train": 0.5, "valid": 0.2, "judge": 0.3}
"""Of the clean clips: what a repair learns from, what it stops by, and what is judged by here."""
BEFORE = "as it was"


@dataclass(frozen=True)
class Tried:
    """What clean clips that no repair has seen say of a net.

    Arguments
    ---------
    name : str
        Of the repair's yaml, or `BEFORE`.
    correct, total : int
        Of the clips that judge.
    moved : float
        How far its answers to them are from those of the net before, see `moved.moved`.
    seconds : float
        What the repair took.
    why : str
        Why it is out of the question; empty if it is not.
    """

    name: str
    correct: int = 0
    total: int = 0
    moved: float = math.nan
    seconds: float = 0.0
    why: str = ""

    @property
    def accuracy(self) -> float:
        """Share of correct clips."""
        return self.correct / self.total if self.total else math.nan


@dataclass(frozen=True)
class Repaired:
    """A repaired checkpoint, and what was tried.

    Arguments
    ---------
    checkpoint : Checkpoint
        Repaired; as it was, if no repair was chosen.
    before : Tried
        Of the undefended net.
    tried : tuple[Tried, ...]
        Of each repair.
    chosen : str | None
        One of them.
    """

    checkpoint: Checkpoint
    before: Tried
    tried: tuple[Tried, ...]
    chosen: str | None

    def rows(self) -> list[list[str]]:
        """What was tried as a table of text, the first row its head."""
        head = ["repair", "correct", "moved", "seconds", ""]
        return [head, *(_row(tried, self.chosen) for tried in (self.before, *self.tried))]

    def __str__(self) -> str:
        rows = self.rows()
        wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)) for row in rows
        ]
        end = (
            f"chosen: {self.chosen}" if self.chosen else "no repair was chosen; nothing is written"
        )
        return "\n".join([*(line.rstrip() for line in lines), end])

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        tried = [
            {
                "name": one.name,
                "correct": one.correct,
                "total": one.total,
                "moved": round(one.moved, 3) if math.isfinite(one.moved) else None,
                "seconds": round(one.seconds, 1),
                "refused": one.why or None,
            }
            for one in (self.before, *self.tried)
        ]
        return {"chosen": self.chosen, "tried": tried, "digest": self.checkpoint.digest}

    def save(self, output: str | Path) -> Path:
        """Write the repaired checkpoint with its card (`card.save`), and `repair.json`."""
        told = [
            f"Repaired by `{self.chosen}`, chosen among {len(self.tried)} repairs by clean clips alone: "
            "of those that keep the accuracy, the one whose answers to clean clips moved furthest from "
            "those before, as the net forgot most. That a backdoor is gone is not proved by it.",
            card.table(self.rows()),
        ]
        return card.save(self.checkpoint, output, told, {"repair.json": self.to_dict()})


def _row(tried: Tried, chosen: str | None) -> list[str]:
    correct = f"{tried.correct} of {tried.total}" if tried.total else "-"
    far = f"{tried.moved:.2f}" if math.isfinite(tried.moved) else "-"
    what = "chosen" if tried.name == chosen else tried.why
    return [tried.name, correct, far, f"{tried.seconds:.0f}", what]


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
    if output is not None and Path(output).exists():
        raise InputError(f"`output` is {output}: already there; give a new folder")
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
        for name in names:
            repaired, told = _try(checkpoint, name, clips, parts, seed)
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
    checkpoint: Checkpoint, name: str, clips: Clips, parts: dict[str, Any], seed: int
) -> tuple[Checkpoint | None, Tried]:
    """A repaired copy, or None and why there is none."""
    defense = common("defenses", name).part("defense", RepairDefense)
    started, clean = time.monotonic(), clips.budget(parts, seed)
    torch.manual_seed(seed_of("repair", name, seed))  # whatever was tried before
    try:
        with _aside():
            net = defense.repair(copy.deepcopy(checkpoint.net), clean).eval()
    except InputError as error:
        return None, Tried(name, why=str(error))
    told = Tried(name, seconds=time.monotonic() - started)
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
