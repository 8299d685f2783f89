"""Stage 1: corpus folder to validated manifests, with printed counts."""

import hashlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from bdlib import manifest, mini
from bdlib.cli import command
from bdlib.errors import InputError
from bdlib.files import alone, atomic, digest, file_digest, read_json, write_json

SPLITS = ("train", "valid", "test")
ABOUT = (
    *("name", "variant", "scale", "digest", "classes", "counts", "classes_of", "notes"),
    "fingerprint",
)


@dataclass(frozen=True)
class Prepared:
    """What a recipe's `prepare` returns.

    Arguments
    ---------
    splits : dict[str, pd.DataFrame]
        Rows for `train`, `valid` and `test`.
    scale : str
        `full` if every utterance of the published corpus is there, else `subset`; `mini` for the
        synthetic stand-in.
    variant : str
        Which task of the corpus, for example the `12` classes of Speech Commands.
    notes : tuple[str, ...]
        Lines for the reader, such as what was missing.
    """

    splits: dict[str, pd.DataFrame]
    scale: str
    variant: str
    notes: tuple[str, ...] = ()


Prepare = Callable[..., Prepared]


@dataclass(frozen=True)
class Manifests:
    """The manifests of a corpus on the disk.

    Arguments
    ---------
    folder : Path
        Holds `train.csv`, `valid.csv`, `test.csv` and `manifest.json`.
    root : Path
        The corpus folder, ``$data_root`` of the manifests.
    about : dict[str, Any]
        name, variant, scale, digest, classes, counts, notes.
    """

    folder: Path
    root: Path
    about: dict[str, Any]

    def rows(self, split: str) -> pd.DataFrame:
        """Rows of a split, validated."""
        return manifest.read(self.folder / f"{split}.csv", self.about["classes"])


def corpus_folder(data_folder: str | None, dataset: str, output_folder: Path) -> Path:
    """The folder that `data_folder` names; `mini` is made on first use.

    Raises
    ------
    InputError
        If it is not given or not there.
    """
    if data_folder is None:
        raise InputError("give --data_folder=FOLDER, or --data_folder=mini for a synthetic corpus")
    if data_folder == "mini":
        return mini.make(dataset, output_folder / "mini" / dataset)
    folder = Path(data_folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --data_folder must hold the {dataset} corpus")
    return folder.resolve()


def ensure(prepare: Prepare, corpus: dict[str, Any], root: Path, output: Path) -> Manifests:
    """Prepare a corpus, unless the manifests are there and made from the same files and settings.

    Arguments
    ---------
    prepare : Prepare
        The recipe's own function, called with `root` and the settings that are not ours.
    corpus : dict[str, Any]
        The yaml's corpus section.
    root : Path
        The corpus folder.
    output : Path
        The output folder.
    """
    own = ("name", "sample_rate", "seconds", "pad_seconds")
    settings = {key: value for key, value in corpus.items() if key not in own}
    fingerprint = _fingerprint(root)
    key = digest([corpus["name"], settings, fingerprint], 8)
    folder = output / "manifest" / f"{corpus['name']}-{key}"
    with alone(folder.parent):
        if not (folder / "manifest.json").exists():
            try:
                inspect.signature(prepare).bind(root, **settings)
            except TypeError as error:
                raise InputError(f"corpus {corpus['name']}: {error}; correct the yaml") from error
            prepared = prepare(root, **settings)
            with atomic(folder) as temporary:
                temporary.mkdir()
                for split in SPLITS:
                    manifest.write(prepared.splits[split], temporary / f"{split}.csv")
                about = _about(corpus["name"], prepared, temporary) | {"fingerprint": fingerprint}
                write_json(temporary / "manifest.json", about)
    return Manifests(folder, root, read_json(folder / "manifest.json", ABOUT))


def _about(name: str, prepared: Prepared, folder: Path) -> dict[str, Any]:
    splits = prepared.splits
    classes = sorted(set(splits["train"]["label"]))
    for split, rows in splits.items():
        manifest.validate(rows, f"{name} {split}", classes)
    return {
        "name": name,
        "variant": prepared.variant,
        "scale": prepared.scale,
        "digest": file_digest(*(folder / f"{split}.csv" for split in SPLITS)),
        "classes": classes,
        "counts": {split: len(rows) for split, rows in splits.items()},
        "classes_of": {
            split: rows["label"].value_counts().to_dict() for split, rows in splits.items()
        },
        "notes": list(prepared.notes),
    }


def _fingerprint(root: Path) -> str:
    """Digest of the names, sizes and times of all files, so that a changed corpus is noticed."""
    total = hashlib.sha256()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        for name in sorted(files):
            path = Path(folder) / name
            stat = path.stat()
            total.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return total.hexdigest()


def show(manifests: Manifests) -> None:
    """Print counts per split and class, the scale, and the notes."""
    about = manifests.about
    table = Table(title=f"{about['name']} {about['variant']} ({about['scale']})")
    table.add_column("class")
    for split in SPLITS:
        table.add_column(split, justify="right")
    for name in about["classes"]:
        table.add_row(name, *(str(about["classes_of"][split].get(name, 0)) for split in SPLITS))
    table.add_section()
    table.add_row("all", *(str(about["counts"][split]) for split in SPLITS))
    Console().print(table)
    for note in about["notes"]:
        print(f"note: {note}")
    print(f"manifests in {manifests.folder}")


def main(prepare: Prepare) -> None:
    """``prepare.py``: make and print the manifests of a recipe's corpus."""

    def run() -> None:
        asked = command.read(sys.argv[1:], command.parser("Corpus folder to manifests (stage 1)."))
        settings = asked.recipe.plain()
        output = Path(settings["run"]["output_folder"])
        corpus = settings["corpus"]
        root = corpus_folder(settings["run"]["data_folder"], corpus["name"], output)
        show(ensure(prepare, corpus, root, output))

    command.guarded(run)
