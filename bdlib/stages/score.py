"""Stage 5: what a classifier answers to the test sets, as files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bdlib.evaluation import scores
from bdlib.files import digest, read_json, write_json
from bdlib.manifest import TEST
from bdlib.records.provenance import MADE, made, newest
from bdlib.stages.corpus import Poisoned
from bdlib.stages.train import Trained


@dataclass(frozen=True)
class Scores:
    """The score files of a classifier.

    Arguments
    ---------
    files : Mapping[str, Path]
        By test set: `test` and, under attack, `test_triggered`.
    """

    files: Mapping[str, Path]

    def read(self, split: str) -> pd.DataFrame:
        """See `bdlib.evaluation.scores.read`."""
        return scores.read(self.files[split])


def score(trained: Trained, poisoned: Poisoned) -> Scores:
    """Score the clean and the triggered test set, unless that was done; then no model is loaded."""
    files = {split: score_file(trained, poisoned, split) for split in poisoned.tests}
    for split, path in files.items():
        if not (path.exists() and _made(path).exists()):
            scores.score(trained.classifier, trained.batches(split), poisoned.classes, path)
            write_json(_made(path), made())
    return Scores(files)


def provenance(trained: Trained, poisoned: Poisoned) -> dict[str, Any]:
    """`source` and `versions` of the scoring; of several the newest."""
    paths = [_made(score_file(trained, poisoned, split)) for split in poisoned.tests]
    return newest(read_json(path, MADE) for path in paths)


def score_file(trained: Trained, poisoned: Poisoned, split: str) -> Path:
    """Scores of a test set, named after what it is: another test set gets a file of its own."""
    name = "clean" if split == TEST else "triggered"
    key = digest([poisoned.packs[split].digest, list(poisoned.splits[split]["ID"])], 8)
    return trained.shown / "scores" / f"{name}-{key}.jsonl"


def _made(path: Path) -> Path:
    return path.with_suffix(".made.json")
