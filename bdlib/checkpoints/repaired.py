"""What repairs of a checkpoint came to: as a table, as JSON, and written to a folder."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bdlib.checkpoints import card
from bdlib.checkpoints.checkpoint import Checkpoint

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
    suspicion : dict[str, float]
        Of a repair that judges classes, how suspicious each is: of trigger inversion its anomaly index.
    """

    name: str
    correct: int = 0
    total: int = 0
    moved: float = math.nan
    seconds: float = 0.0
    why: str = ""
    suspicion: dict[str, float] = field(default_factory=dict)

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
        judged = [_easiest(tried) for tried in self.tried if tried.suspicion]
        return "\n".join([*(line.rstrip() for line in lines), *judged, end])

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
                **({"suspicion": _rounded(one.suspicion)} if one.suspicion else {}),
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
            *(_easiest(one) for one in self.tried if one.suspicion),
        ]
        return card.save(self.checkpoint, output, told, {"repair.json": self.to_dict()})


def _easiest(tried: Tried) -> str:
    """What trigger inversion says of the class that the smallest trigger reaches, for its size."""
    name, index = max(tried.suspicion.items(), key=lambda item: item[1])
    return f"{tried.name}: class {card.plain(name)} stands out most, anomaly index {index:.1f}"


def _rounded(suspicion: dict[str, float]) -> dict[str, float | None]:
    """As JSON can hold it."""
    return {
        name: round(index, 3) if math.isfinite(index) else None for name, index in suspicion.items()
    }


def _row(tried: Tried, chosen: str | None) -> list[str]:
    correct = f"{tried.correct} of {tried.total}" if tried.total else "-"
    far = f"{tried.moved:.2f}" if math.isfinite(tried.moved) else "-"
    what = "chosen" if tried.name == chosen else tried.why
    return [tried.name, correct, far, f"{tried.seconds:.0f}", what]
