"""What a classifier said of each utterance, as a file: metrics need no model after this."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bdlib.errors import InputError, fits
from bdlib.files import atomic, seed_of

if TYPE_CHECKING:  # torch takes seconds to import, and reading scores needs none
    from bdlib.corpus import Batch
    from bdlib.models.classifier import SpeechClassifier

COLUMNS = ("ID", "predicted", "logits")
KINDS = {"ID": str, "predicted": str, "logits": list[float], "suspicion": float}


def answers(
    classifier: "SpeechClassifier", batches: Iterable["Batch"], classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Classify every utterance: ID, predicted, logits and, of a classifier that judges clips, suspicion.

    The classifier is put in evaluation mode. SpeechBrain's pooling of x-vectors draws noise in it, too:
    from a seed, so that a training that was just done answers as one that was loaded.
    """
    import torch

    classifier.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("scores"))
        for batch in batches:
            logits = classifier(batch.wavs, batch.lens).cpu()
            judged = classifier.suspicion(batch.wavs, batch.lens)
            for row, (name, line) in enumerate(zip(batch.ids, logits.tolist(), strict=True)):
                best = classes[max(range(len(line)), key=line.__getitem__)]
                entry = {"ID": name, "predicted": best, "logits": [round(x, 5) for x in line]}
                yield entry | ({"suspicion": float(judged[row])} if judged is not None else {})


def score(
    classifier: "SpeechClassifier",
    batches: Iterable["Batch"],
    classes: Sequence[str],
    path: str | Path,
) -> pd.DataFrame:
    """Write one JSON line for each of the `answers`.

    Returns
    -------
    pd.DataFrame
        What `read` gives: index ID, columns `predicted` (class name), `logits` (C floats) and, where
        there is one, `suspicion`.
    """
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for entry in answers(classifier, batches, classes):
            file.write(json.dumps(entry) + "\n")
    return read(path)


def read(path: str | Path) -> pd.DataFrame:
    """Read a score file: index ID, columns `predicted` and `logits`, and `suspicion` if it is there.

    Raises
    ------
    InputError
        If it is missing, or a line is broken.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); run the score stage"
        ) from error
    entries = []
    columns = [*COLUMNS, *(["suspicion"] if lines and b'"suspicion": ' in lines[0] else [])]
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if not all(fits(entry[column], KINDS[column]) for column in columns):
                raise ValueError("of another type")
            entries.append([entry[column] for column in columns])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}, row {number}: broken; delete the file and run the score stage"
            ) from error
    table = pd.DataFrame(entries, columns=columns).set_index("ID")
    if table.index.has_duplicates:
        raise InputError(
            f"{path}: {table.index[table.index.duplicated()][0]!a} is there twice; delete the file "
            "and run the score stage"
        )
    return table
