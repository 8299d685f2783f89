"""A poisoned corpus as files: a manifest a split, `attack.json`, and the truth."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bdlib import manifest
from bdlib.attacks.poisoner import Poisoner
from bdlib.errors import InputError
from bdlib.files import alone, atomic, digest, read_json
from bdlib.manifest import COLUMNS, TEST, TRIGGERED
from bdlib.names import plain_name
from bdlib.seals import unsealed, write_sealed

KEYS = {
    **{"name": str, "trigger": dict, "labels": dict, "rate": float, "of": str, "seed": int},
    **{"poisoned": int, "eligible": int},
}
"""Of `attack.json`, with their types."""


def ensure(
    poisoner: Poisoner,
    name: str,
    splits: Mapping[str, pd.DataFrame],
    about: Mapping[str, Any],
    rate: int,
    parent: Path,
    ranks: pd.Series | None = None,
) -> Path:
    """Poison manifests, unless that was done with the same attack; the folder.

    Arguments
    ---------
    poisoner : Poisoner
        The attack.
    name : str
        What it is called.
    splits : Mapping[str, pd.DataFrame]
        The clean corpus.
    about : Mapping[str, Any]
        Its `manifest.json`.
    rate : int
        Hz, at which triggers are put in.
    parent : Path
        Where the folder goes.
    ranks : pd.Series | None
        See `Poisoner.poison`.
    """
    heard = poisoner.heard(rate)
    made_of = [about["digest"], about["fingerprint"], poisoner.to_dict(), heard]
    key = digest(made_of if ranks is None else [*made_of, ranks.round(6).to_dict()], 8)
    folder = parent / f"{plain_name(name, 'the name of the attack')}-{key}"
    with alone(parent):
        if not (folder / "attack.json").exists():
            with atomic(folder) as temporary:
                temporary.mkdir()
                poisoned, train_truth = poisoner.poison(splits["train"], ranks)
                taken_out = ~splits["train"]["ID"].isin(poisoned["ID"])
                spare = pd.concat([splits["valid"], splits["train"][taken_out]])
                triggered, test_truth = poisoner.trigger_test(splits[TEST], spare)
                parts = {
                    # An attribute, such as the speaker, may tell what the label was before.
                    "train": poisoned[list(COLUMNS)],
                    "valid": poisoner.benign(splits["valid"]),
                    TEST: poisoner.benign(splits[TEST]),
                    TRIGGERED: triggered,
                }
                for split, rows in parts.items():
                    manifest.write(rows, temporary / f"{split}.csv")
                manifest.write_truth(pd.concat([train_truth, test_truth]), temporary / "truth.csv")
                deleted = len(splits["train"]) - len(poisoned)
                description = {
                    "schema": 1,
                    "name": name,
                    **poisoner.to_dict(),
                    "heard": heard,
                    "dataset_digest": about["digest"],
                    "poisoned": len(train_truth),
                    "eligible": len(test_truth),
                    **({"deleted": deleted} if deleted else {}),
                    # Of clean labels nothing else tells which clips a surrogate chose.
                    **({} if ranks is None else {"chosen": digest(sorted(train_truth.index))}),
                }
                write_sealed(temporary / "attack.json", description, temporary.glob("*.csv"))
    return folder


def read(folder: Path, beside: Collection[str] = ()) -> tuple[dict[str, Any], Poisoner]:
    """What `attack.json` says, and the attack it describes.

    Arguments
    ---------
    folder : Path
        Of the attack.
    beside : Collection[str]
        Names of those of its tables that are read now.

    Raises
    ------
    InputError
        If it is missing or broken, or a table is not as it was written.
    """
    path = folder / "attack.json"
    attack = read_json(path, KEYS)
    try:
        plain_name(attack["name"], "name")
        poisoner = Poisoner.from_dict(attack)
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: {error}; delete it, and the next run poisons again") from error
    return unsealed(path, attack, [folder / name for name in beside]), poisoner
