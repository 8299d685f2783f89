"""Stage 1: corpus folder to validated manifests."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bdlib.errors import InputError
from bdlib.files import alone, at_home, folder_digest
from bdlib.stages.corpus import Corpus, corpus_key, manifest_folder
from bdlib.stages.pack import Audio
from bdlib.stages.recipe import CORPUS, Recipe


@dataclass(frozen=True)
class Prepared:
    """What a recipe's `prepare` returns.

    Arguments
    ---------
    splits : Mapping[str, pd.DataFrame]
        Rows for `train`, `valid` and `test`.
    scale : str
        `full` if every utterance of the published corpus is there, else `subset`; `mini` for the
        synthetic stand-in.
    variant : str
        Which task of the corpus, for example the `12` classes of Speech Commands.
    notes : tuple[str, ...]
        Lines for the reader, such as what was missing.
    """

    splits: Mapping[str, pd.DataFrame]
    scale: str
    variant: str
    notes: tuple[str, ...] = ()


Prepare = Callable[..., Prepared]
"""A recipe's own function: the corpus folder, and the settings that are not ours."""


def prepare(recipe: Recipe, list_rows: Prepare) -> Corpus:
    """Prepare the corpus of a recipe, unless its manifests stand and are of the same files.

    Arguments
    ---------
    recipe : Recipe
        Names the corpus folder, and how its clips become waveforms.
    list_rows : Prepare
        The recipe's own `prepare`.

    Raises
    ------
    InputError
        If the folder is not there, or is not the corpus.
    """
    settings = recipe.settings["corpus"]
    name = settings["name"]
    root = corpus_folder(recipe.settings["run"]["data_folder"], name, recipe.output)
    sound = {key: settings[key] for key in ("sample_rate", "seconds", "pad_seconds")}
    audio = Audio(root, folder_digest(root), **sound)
    own = {key: value for key, value in settings.items() if key not in CORPUS}
    key = corpus_key(name, own, audio)
    folder = manifest_folder(recipe.output, name, key)
    with alone(folder.parent):
        if (folder / "manifest.json").exists():
            return Corpus.load(folder, key, audio)
        try:
            inspect.signature(list_rows).bind(root, **own)
        except TypeError as error:
            raise InputError(f"corpus {name}: {error}; correct the yaml") from error
        listed = list_rows(root, **own)
        about = (listed.scale, listed.variant, listed.notes)
        return Corpus.of(name, key, listed.splits, audio, *about).save(recipe.output)


def corpus_folder(data_folder: str | None, dataset: str, output: Path) -> Path:
    """The folder that `data_folder` names; `mini` is made on first use.

    Raises
    ------
    InputError
        If it is not given or not there.
    """
    if data_folder is None:
        raise InputError("give `data_folder`, the corpus folder; mini makes a synthetic corpus")
    if data_folder == "mini":
        from bdlib import mini  # imports what makes speech

        return mini.make(dataset, output / "mini" / dataset)
    folder = at_home(data_folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; `data_folder` must hold the {dataset} corpus")
    return folder.resolve()
