"""The cells of an experiment file: which programs with which options make a table of a paper."""

import itertools
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from bdlib.cli.command import named, told
from bdlib.errors import InputError
from bdlib.files import at_home

SCRATCH = "exp/results"  # below the recipe
KEYS = {"experiment", "program", "seeds", "grid", "options", "scales"}
AT_SCALE = {"seeds", "options", "stand_ins", "counts"}


@dataclass(frozen=True)
class Cell:
    """One run of an experiment.

    Arguments
    ---------
    folder : Path
        The recipe it runs in.
    program : str
        `train`, `defend` or `pls`.
    yaml : str
        The recipe's yaml.
    options : tuple[str, ...]
        ``--key=value``, in a fixed order.
    """

    folder: Path
    program: str
    yaml: str
    options: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command."""
        return shlex.join(["python", f"{self.program}.py", self.yaml, *self.options])

    @property
    def told(self) -> str:
        """The command as a record tells it."""
        return told(self.line, self.folder.name)


def cells(
    path: Path,
    scale: str,
    data_folder: str | None = None,
    own: Mapping[str, str] = MappingProxyType({}),
    results_folder: str = SCRATCH,
) -> list[Cell]:
    """All cells of an experiment file at a scale, in a fixed order.

    The file holds `experiment` (its name), `program` (`pls`, or by default what a cell needs), `seeds`,
    `options` for every cell, and a `grid` of lists whose combinations are cells, or several such grids.
    A key ``model`` names the yaml of `hparams`; a key ``defense`` chooses `defend.py` (null is none); a
    key may join options with commas, ``"source,target": [["no", "on"], ["yes", up]]`` (unquoted, yaml
    takes the first three for true and false); a grid with a key
    ``seed`` has these in place of `seeds`. Under `scales` stands what differs at ``full``, ``subset``
    or ``mini``: `seeds`, `options`, `stand_ins` for models too large there, and `counts` of clips that
    the corpus must have. `own` are further options; they win over all of the file's. Folders are seen from
    here; the programs run in the recipe's.

    Raises
    ------
    InputError
        For a file that is missing, no mapping, or has an unknown key or no such scale.
    """
    (data, at), recipe = _read(path, scale), path.resolve().parents[1]
    options = {"experiment": data["experiment"], **data.get("options", {}), **at.get("options", {})}
    if scale == "mini":
        options |= {"data_folder": "mini"}
    elif data_folder is None:
        raise InputError(f"give --data_folder, the {recipe.name} corpus")
    else:
        options["data_folder"] = _seen_from(recipe, data_folder)
    if results_folder != SCRATCH:
        options["results_folder"] = _seen_from(recipe, results_folder)
    options |= own
    stand_ins = at.get("stand_ins", {})
    listed = []
    for seed in at.get("seeds", data.get("seeds", [0])):  # a whole table first, then the next seed
        for choice in _combinations(data["grid"]):
            model = stand_ins.get(choice["model"], choice["model"])
            chosen = {key: value for key, value in choice.items() if key != "model"}
            given = {**options, **chosen, "seed": chosen.get("seed", seed), **own}
            listed.append(_cell(recipe, data.get("program"), model, given))
    return list(dict.fromkeys(listed))


def _seen_from(recipe: Path, folder: str) -> str:
    """A folder for programs that run in the recipe's."""
    place = at_home(folder)
    return str(place) if place.is_absolute() else os.path.relpath(place, recipe)


def counts(path: Path, scale: str) -> dict[str, int] | None:
    """How many clips by split the corpus of an experiment must have at a scale; None if any."""
    return _read(path, scale)[1].get("counts")


def _read(path: Path, scale: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An experiment file, and of it what is for a scale."""
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
        unknown = set(data) - KEYS
    except (OSError, yaml.YAMLError, TypeError) as error:
        raise InputError(f"{path}: not an experiment file ({error})") from error
    at = data.get("scales", {}).get(scale)
    if unknown := sorted(unknown | (set(at or ()) - AT_SCALE)):
        raise InputError(f"{path}: unknown key {unknown[0]}; known are {sorted(KEYS | AT_SCALE)}")
    if at is None:
        raise InputError(f"{path}: no scale {scale}; there are {' '.join(data.get('scales', {}))}")
    return data, at


def _combinations(grids: Any) -> Iterator[dict[str, Any]]:
    """A mapping of lists, or a list of such mappings, to single choices."""
    for grid in grids if isinstance(grids, list) else [grids]:
        for values in itertools.product(*grid.values()):
            choice: dict[str, Any] = {}
            for names, value in zip(grid, values, strict=True):
                joined = names.split(",")
                choice |= dict(zip(joined, value if len(joined) > 1 else [value], strict=True))
            yield choice


def _cell(folder: Path, program: str | None, model: str, options: dict[str, Any]) -> Cell:
    options = {key: value for key, value in options.items() if value is not None}
    program = program or ("defend" if "defense" in options else "train")
    listed = named([f"--{key}={value}" for key, value in options.items()])
    return Cell(folder, program, f"hparams/{model}.yaml", (*listed, "--noprogressbar"))
