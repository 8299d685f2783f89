"""Stage 5: what a classifier answers to the test sets, as files."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bdlib.errors import fits
from bdlib.evaluation import scores
from bdlib.files import alone, digest, read_json
from bdlib.manifest import TEST
from bdlib.records.provenance import MADE, made, newest
from bdlib.seals import unsealed, write_sealed
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.train import Trained

TOOK = {"score_s": float, "scored": int}
"""Seconds that the clips of a test set took to be scored, and how many they are."""


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
        """See `bdlib.evaluation.scores.read`; and the file is as it was written."""
        path = self.files[split]
        table = scores.read(path)
        _read_made(path, path)
        return table


def score(trained: Trained, poisoned: Poisoned) -> Scores:
    """Score the clean and the triggered test set, unless that was done; then no model is loaded."""
    files = {split: score_file(trained, poisoned, split) for split in poisoned.tests}
    with alone(trained.shown / "scores"):
        for split, path in files.items():
            if not (path.exists() and _made(path).exists()):
                classifier = trained.classifier
                _made(path).unlink(missing_ok=True)  # that of a file which is there no more
                started = time.monotonic()
                scores.score(classifier, trained.batches(split), poisoned.classes, path)
                took = {
                    "score_s": time.monotonic() - started,
                    "scored": len(poisoned.splits[split]),
                }
                write_sealed(_made(path), made() | took, [path])
    return Scores(files)


def provenance(trained: Trained, poisoned: Poisoned) -> dict[str, Any]:
    """`source` and `versions` of the scoring; of several test sets the newest, and `score_ms` a clip."""
    told = [_read_made(score_file(trained, poisoned, split)) for split in poisoned.tests]
    if not all(fits(part.get(key), kind) for part in told for key, kind in TOOK.items()):
        return newest(told)  # scored by a version that did not tell
    seconds, clips = (sum(part[key] for part in told) for key in TOOK)
    return {**newest(told), "score_ms": round(1000 * seconds / max(clips, 1), 2)}


def score_file(trained: Trained, poisoned: Poisoned, split: str) -> Path:
    """Scores of a test set, named after what it is: another test set gets a file of its own."""
    name = "clean" if split == TEST else "triggered"
    key = digest([poisoned.packs[split].digest, list(poisoned.splits[split]["ID"])], 8)
    return trained.shown / "scores" / f"{name}-{key}.jsonl"


def _made(path: Path) -> Path:
    return path.with_suffix(".made.json")


def _read_made(path: Path, *files: Path) -> dict[str, Any]:
    return unsealed(_made(path), read_json(_made(path), MADE), files)
