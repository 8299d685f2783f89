"""A defense measured at a grid of settings in one run and one record (EmoBack, Figures 3 and 4)."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from bdlib.evaluation import metrics
from bdlib.files import read_json
from bdlib.manifest import TEST, TRIGGERED
from bdlib.records.provenance import made
from bdlib.seals import unsealed, write_sealed
from bdlib.stages.blind import unnamed
from bdlib.stages.defend import Defended
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.score import score_file

ANSWERED = ("answers", "source", "versions")
"""Keys of the file of a grid."""


def score(defended: Defended, poisoned: Poisoned) -> None:
    """Stage 5: the class that every setting gives to every test clip, unless that was done.

    The undefended classifier is defended anew for every setting; most defenses have no grid.
    """
    if not defended.defense.grid:
        return
    before = defended.trained.undefended
    for split in poisoned.tests:
        path = _file(defended, poisoned, split)
        if not path.exists():
            valid, clips = (
                unnamed(poisoned, part, None, before.batch_size, before.device)
                for part in ("valid", split)
            )
            clean = list(valid)
            numbers = defended.defense.grid_answers(before.classifier, clean, clips).tolist()
            names = [[poisoned.classes[number] for number in row] for row in numbers]
            answers = dict(zip(poisoned.splits[split]["ID"], names, strict=True))
            write_sealed(path, made() | {"answers": answers})


def measure(defended: Defended, poisoned: Poisoned) -> dict[str, Any]:
    """Stage 7: what the defense says of its grid, from clean accuracy and ASR at every setting."""
    grid = defended.defense.grid
    if not grid:
        return {}
    answers = {split: _read(_file(defended, poisoned, split), grid) for split in poisoned.tests}
    truth = poisoned.truth() if poisoned.attack else None

    def measured(setting: Hashable) -> dict[str, Any]:
        test, clean = poisoned.splits[TEST], answers[TEST][setting]
        numbers = metrics.classification(test, clean)
        if truth is not None:
            numbers |= metrics.backdoor(test, clean, answers[TRIGGERED][setting], truth)
        return numbers

    return defended.defense.grid_metrics({setting: measured(setting) for setting in grid})


def provenance(defended: Defended, poisoned: Poisoned) -> dict[str, dict[str, Any]]:
    """The grid as a part of a record: `source` and `versions` of its answers, if there is one."""
    if not defended.defense.grid:
        return {}
    about = _told(_file(defended, poisoned, poisoned.tests[-1]))
    return {"surface": {key: about[key] for key in ("source", "versions")}}


def _file(defended: Defended, poisoned: Poisoned, split: str) -> Path:
    scored = score_file(defended.trained, poisoned, split)
    return scored.with_name(f"surface-{scored.stem}.json")


def _told(path: Path) -> dict[str, Any]:
    return unsealed(path, read_json(path, ANSWERED))


def _read(path: Path, grid: tuple[Hashable, ...]) -> dict[Hashable, pd.DataFrame]:
    """Predicted classes by ID, a table for each setting."""
    answers, settings = _told(path)["answers"], range(len(grid))
    table = pd.DataFrame.from_dict(answers, orient="index", columns=settings)
    return {
        setting: table[[number]].set_axis(["predicted"], axis=1)
        for number, setting in enumerate(grid)
    }
