"""One yaml file with its overrides: to plain settings, and to the objects that it builds.

A recipe yaml has plain top-level keys and sections (``model``, ``train``, ...), most of them pulled
in with ``!include:``. Every key of a section can be overridden by its bare name: `rate` reaches
``poison: rate``. An unknown or ambiguous name is an error.
"""

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from bdlib.errors import InputError, fits
from bdlib.files import COMMON
from bdlib.names import plain_name
from bdlib.stages.vetting import vet

_YAML = YAML(typ="safe", pure=True)
FOLDERS = {"data_folder", "output_folder", "results_folder"}
ENDLESS = {"max_grad_norm"}  # infinity means that nothing is clipped
LEAST = {"n_mfcc": 1, "n_mels": 1, "weight_decay": 0, "eps": 0}
WORDED = {"position"}  # a number or a word
UNBUILT = (
    *(TypeError, ValueError, ImportError, AttributeError, LookupError, ArithmeticError),
    *(RuntimeError, MemoryError),  # of torch, and of a file that is too deep
)
"""What building from a yaml may raise."""
Part = TypeVar("Part")
MOST_VALUES = 100_000  # of a yaml
TYPE = "()"  # key under which a plain view keeps the yaml tag of an object
MOST_READ = 200  # documents that are kept
_READ: dict[tuple, tuple[str, dict[str, Any]]] = {}
"""What was read, by files and overrides: a command asks a dozen times, mostly for the same."""


@dataclass
class Document:
    """One yaml file with its overrides.

    Arguments
    ---------
    path : Path
        The file.
    overrides : dict[str, Any]
        Values that the command line gives, already placed in their sections.
    """

    path: Path
    overrides: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The settings as plain data, with nothing constructed; objects keep their type as text."""
        return copy.deepcopy(self._read()[1])

    def _read(self) -> tuple[str, dict[str, Any]]:
        """The text with includes, overrides and references in place, and its plain view."""
        asked = self.path, vet(self.path), repr(self.overrides)
        if asked not in _READ:
            if len(_READ) >= MOST_READ:
                _READ.clear()
            _READ[asked] = self._resolved()
        return _READ[asked]

    def _resolved(self) -> tuple[str, dict[str, Any]]:
        """What `_read` keeps."""
        try:
            with self.path.open(encoding="utf-8") as file:
                text = resolve_references(file, self.overrides or None).getvalue()
            # YAML 1.2: to a parser of YAML 1.1 the classes `no`, `on` and `off` are truth values.
            composed = _YAML.compose(text)
            if _size(composed, {}) > MOST_VALUES:
                raise ValueError(f"more than {MOST_VALUES} values")
            settings = _plain(composed)
            if not isinstance(settings, dict):
                raise ValueError("no mapping of keys to values")
            return text, settings
        except OSError as error:
            raise InputError(
                f"{self.path}: {error.filename} cannot be read ({error.strerror}); correct the path"
            ) from error
        except (YAMLError, *UNBUILT) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.path}: not a recipe yaml ({one_line(error)}); correct it"
            ) from error

    @cached_property
    def written(self) -> dict[str, Any]:
        """The settings without overrides, which add no keys."""
        return Document(self.path).plain()

    def build(self) -> dict[str, Any]:
        """The settings with their objects constructed."""
        text, _ = self._read()
        try:
            return load_hyperpyyaml(text)
        except (YAMLError, *UNBUILT) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path}: cannot be built ({one_line(error)})") from error

    def part(self, key: str, kind: type[Part]) -> Part:
        """One of the objects, constructed, if it is of its kind.

        Raises
        ------
        InputError
            If there is none under this key, or another kind of object.
        """
        made = self.build().get(key)
        if not isinstance(made, kind):
            what = "missing" if made is None else f"a {type(made).__name__}, no {kind.__name__}"
            raise InputError(f"{self.path}: {key} is {what}; correct it")
        return made

    @property
    def options(self) -> dict[str, list[str]]:
        """By the name of an argument of what is built here, the options that feed it.

        An option feeds the arguments of its own name, and those that refer to it
        (``path: !ref <trigger_file>``).
        """
        keys = [
            name
            for key, value in self.written.items()
            for name in (value if isinstance(value, dict) else (key,))
        ]
        return merged([(key, key) for key in keys] + list(_references(self.path)))

    def place(self, name: str, value: Any) -> bool:
        """Take an override if this document has the key, at the top or in one section."""
        settings = self.written
        sections = [s for s, keys in settings.items() if isinstance(keys, dict) and name in keys]
        if name in settings and not isinstance(settings[name], dict):
            _fit(name, value, settings[name])
            self.overrides[name] = value
        elif len(sections) == 1:
            _fit(name, value, settings[sections[0]][name])
            self.overrides.setdefault(sections[0], {})[name] = value
        elif sections:
            raise InputError(f"--{name}: in {self.path} it could mean {' or '.join(sections)}")
        else:
            return False
        return True


def _fit(name: str, value: Any, default: Any) -> None:
    """Refuse a value that is not of the type that the yaml has, or out of range."""
    if name == "experiment" and value is not None:
        plain_name(value, f"--{name}")
    if name in FOLDERS and not (isinstance(value, str) or value is default is None):
        raise InputError(f"--{name}={value}: give a folder")
    if isinstance(default, dict) or str(default).startswith("!"):
        raise InputError(f"--{name}={value}: the yaml builds it; change its own options instead")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and name not in ENDLESS and value == value and not fits(value, float):
        raise InputError(f"--{name} is {value}: give a finite number")
    if number and name in LEAST and value < LEAST[name]:
        raise InputError(f"--{name} is {value}: give at least {LEAST[name]}")
    if name in WORDED and isinstance(value, str):
        return
    for kind, what in ((bool, "True or False"), (int, "a whole number"), (float, "a number")):
        if isinstance(default, kind):
            wanted = (int, float) if kind is float else kind
            wrong_bool = kind is not bool and isinstance(value, bool)
            if not isinstance(value, wanted) or wrong_bool or value != value:  # NaN is not itself
                raise InputError(f"--{name}={value}: give {what}, such as {default}")
            return


def one_line(error: Exception) -> str:
    """What went wrong, on a line of its own."""
    return " ".join(str(error).split())[:300]


def _size(node: Node, known: dict[int, int]) -> int:
    """How many values a node is written out: what two references share counts twice."""
    if id(node) not in known:
        items = node.value if isinstance(node, MappingNode | SequenceNode) else []
        if isinstance(node, MappingNode):
            items = [item for pair in items for item in pair]
        known[id(node)] = 1 + sum(_size(item, known) for item in items)
    return known[id(node)]


def _plain(node: Node) -> Any:
    if isinstance(node, MappingNode):
        values = {key.value: _plain(value) for key, value in node.value}
        return {TYPE: node.tag, **values} if node.tag.startswith("!") else values
    if isinstance(node, SequenceNode):
        return [_plain(item) for item in node.value]
    if node.tag.startswith("!"):
        return f"{node.tag} {node.value}".strip()
    return _YAML.constructor.construct_object(node)


def merged(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The second of each pair by the first, each once, in their order."""
    merged: dict[str, list[str]] = {}
    for argument, name in dict.fromkeys(pairs):
        merged.setdefault(argument, []).append(name)
    return merged


def _references(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs of an argument and the key it refers to, in a yaml and in what it includes."""

    def walk(node: Node) -> Iterator[tuple[str, str]]:
        if node.tag.startswith("!include:"):
            yield from _references(path.parent / node.tag.removeprefix("!include:"))
        if isinstance(node, MappingNode):
            for key, value in node.value:
                referred = re.fullmatch(r"<(?:\w+\[)?(\w+)\]?>", str(value.value))
                if value.tag == "!ref" and referred:
                    yield key.value, referred[1]
                yield from walk(value)
        elif isinstance(node, SequenceNode):
            for item in node.value:
                yield from walk(item)

    yield from walk(_YAML.compose(path.read_text("utf-8")))


def common(kind: str, name: str) -> Document:
    """A yaml of ``recipes/common/<kind>``, by its bare name, or any yaml by its path.

    Raises
    ------
    InputError
        If there is none; the message lists those there are.
    """
    name = str(name)  # of a stranger's yaml, or 5 of a command line
    path = Path(name) if name.endswith(".yaml") else COMMON / kind / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"{path}: no such file; in recipes/common/{kind} there are: {known(kind)}")
    return Document(path)


def known(kind: str) -> str:
    """Names of the yaml files of ``recipes/common/<kind>``."""
    return " ".join(sorted(path.stem for path in (COMMON / kind).glob("*.yaml")))
