"""Yaml from strangers: what a file may hold before anything is made of it.

HyperPyYAML calls whatever a yaml names. The files of our recipes, and of the one that a program was
started in, may name anything, as the code beside them may; others are built with classes of a few
packages and plain values only. Events are looked at, of which there
are as many as the file has words; nothing is resolved or constructed here.
"""

import inspect
import pydoc
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    ScalarEvent,
)

from bdlib.errors import InputError
from bdlib.files import COMMON, check_regular

OURS = (COMMON.parent,)
"""Folders whose yaml is trusted as code is: our recipes."""
LARGEST = 2**17  # bytes of a file
DEEPEST = 20  # collections in each other
MOST_INCLUDED = 64  # files, each as often as it is included
PARTS = ("attacks", "defenses", "encoders", "features", "models", "training")
SPEAKER_NETS = tuple(
    f"speechbrain.lobes.models.{net}" for net in ("ECAPA_TDNN", "ResNet", "Xvector")
)
PACKAGES = (*(f"bdlib.{part}" for part in PARTS), "torch.nn", "torch.optim", *SPEAKER_NETS)
FUNCTIONS = {
    "bdlib.defenses.filters.poison_likelihood.poison_likelihood",
    "bdlib.defenses.filters.two_populations.two_populations",
    "bdlib.training.jem_brain.plain_generative_loss",
}
"""Of `bdlib`, those that compute and write nothing; `torch.nn.functional` has only such."""
PLAIN = {None, "!", "!tuple", "!PLACEHOLDER"} | {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")
}
REFERENCE = re.compile(r"<\w+(\[\w+\])*>([^<>*()!]*| *\* *[\d.]+)")
"""To one value, with text behind it or in a small sum: two would double with every line."""


def vet(path: Path) -> tuple[tuple[Path, int, int, int], ...]:
    """Refuse a yaml that is no regular file, too large or too deep, has aliases, or calls what it may not.

    What it includes is held to the same. Files that are not there are left to those who open them.

    Returns
    -------
    tuple[tuple[Path, int, int, int], ...]
        The file and all that it includes, each with its size, the time of its last change in ns and its inode: while
        they stay, so does what is read from them.

    Raises
    ------
    InputError
        Naming the file, the line and what is refused.
    """
    seen: list[tuple[Path, int, int, int]] = []
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(path, ())]
    while waiting:
        file, above = waiting.pop()
        check_regular(file)
        try:
            real, found = file.resolve(), file.stat()
        except (OSError, RuntimeError):  # that is opened later, which tells more
            continue
        seen.append((real, found.st_size, found.st_mtime_ns, found.st_ino))
        if real in above or len(seen) > MOST_INCLUDED:
            what = "itself" if real in above else f"more than {MOST_INCLUDED} files"
            raise InputError(f"{path}: includes {what}, by way of {file.name}; leave it out")
        included = _included(*seen[-1], trusted())
        waiting += [(real.parent / name, (*above, real)) for name in included]
    return tuple(seen)


def trusted() -> tuple[Path, ...]:
    """`OURS`, and the recipe that is the working folder with the `common` beside it."""
    here = Path.cwd()
    own = (here, here.with_name("common")) if (here / "prepare.py").is_file() else ()
    return (*OURS, *own)


@lru_cache(maxsize=256)
def _included(path: Path, size: int, _: int, __: int, ours: tuple[Path, ...]) -> tuple[str, ...]:
    """What a vetted file includes; the time of its last change and its inode are for the cache."""
    if size > LARGEST:
        raise InputError(f"{path}: {size} bytes of yaml; give at most {LARGEST}")
    own = any(path.is_relative_to(folder) for folder in ours)
    included = []
    for number, tag, value in tags(path):
        if tag.startswith("!include:"):
            included.append(tag.removeprefix("!include:"))
        elif not own and (why := _refused(tag, value)):
            raise InputError(f"{path}, line {number}: {tag[:100]} is refused: {why}")
    return tuple(included)


def tags(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, tag and text of all that has a tag, or that HyperPyYAML reads again as a tuple."""
    depth = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(path.read_text("utf-8")):
            number = event.start_mark.line + 1
            if isinstance(event, AliasEvent):
                raise InputError(f"{path}, line {number}: an alias; write its value out, or !ref")
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
            if depth > DEEPEST:
                raise InputError(f"{path}, line {number}: more than {DEEPEST} levels deep")
            text = event.value if isinstance(event, ScalarEvent) else ""
            if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
                yield number, str(event.tag), text
            elif "(" in text:
                yield number, "!tuple", text
    except OSError:
        return  # of which those tell who read it
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        what = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: not a recipe yaml ({what}); correct it") from error


def _refused(tag: str, value: str) -> str | None:
    """Why a tag of a stranger's file is refused, if it is."""
    if tag == "!ref":
        return None if REFERENCE.fullmatch(value) else "refer to one value, as <name>"
    if "(" in value and "!" in value:  # a tuple is parsed once more, by a loader that calls
        return "no tag may stand in parentheses"
    kind, _, name = tag.partition(":")
    if kind not in ("!new", "!name"):
        return None if tag in PLAIN else "only !new, !name, !ref and !include are built"
    where = "a yaml outside recipes/ may name classes of " + ", ".join(PACKAGES)
    if not name.startswith(tuple(f"{package}." for package in PACKAGES)):
        return where
    made = pydoc.locate(name)
    if made is None:
        return None  # building it tells that there is no such thing
    at_home = str(getattr(made, "__module__", "")).startswith(PACKAGES)
    known = inspect.isclass(made) or (
        inspect.isfunction(made) and (name in FUNCTIONS or name.startswith("torch.nn.functional."))
    )
    return None if at_home and known else where
