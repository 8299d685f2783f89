"""From settings, as a training writes them down, to a net: classes of ours, called with plain values."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from bdlib.checkpoints.weights import REMEDY, State, check_shapes
from bdlib.errors import InputError
from bdlib.files import COMMON
from bdlib.models.classifier import SpeechClassifier
from bdlib.stages.document import TYPE, UNBUILT, Document
from bdlib.stages.vetting import vet

MOST = 20_000  # channels, classes: what a setting may be, unless it is a sampling rate
DEEPEST = 500  # blocks, layers, entries of a list: each is made before sizes are compared
HIGHEST_RATE = 200_000
TAG = re.compile(
    r"!(new|name):(bdlib\.(models|features)|torch\.nn"
    r"|speechbrain\.lobes\.models\.(ECAPA_TDNN|ResNet|Xvector))\.[\w.]+"
)
HPARAMS = COMMON.parent / "SpeechCommands" / "hparams"


def build(settings: dict[str, Any], n_classes: int, state: State, path: Path) -> SpeechClassifier:
    """The net of some settings, with these weights, on the CPU.

    It is first made without memory, so that settings that do not fit the weights cost nothing.

    Arguments
    ---------
    settings : dict[str, Any]
        The classifier's, as `Document.plain` gives them.
    n_classes : int
        C.
    state : State
        Its weights.
    path : Path
        Where they come from, for errors.

    Raises
    ------
    InputError
        If the settings name what may not be built, or the weights are not those of the net.
    """
    if not isinstance(settings, dict):
        raise InputError(f"{path}: its classifier is {str(settings)[:50]!a}, no settings; {REMEDY}")
    for name, value in _numbers(settings):
        deep = "block" in name or "layer" in name
        if abs(value) > (HIGHEST_RATE if "rate" in name else DEEPEST if deep else MOST):
            raise InputError(f"{path}: {name[:50]} is {value}, more than any net has; {REMEDY}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.yaml"
        file.write_text(f"classifier: {_flow(settings, path)}\n", "utf-8")
        try:
            with torch.device("meta"):
                check_shapes(Document(file).build()["classifier"](n_classes=n_classes), state, path)
            net = Document(file).build()["classifier"](n_classes=n_classes)
        except UNBUILT as error:
            what = " ".join(str(error).replace(f"{file}", "its settings").split())[:300]
            if isinstance(error, InputError) and str(path) in what:
                raise
            raise InputError(f"{path}: the net cannot be made ({what}); {REMEDY}") from error
    if not isinstance(net, SpeechClassifier):
        raise InputError(f"{path}: its classifier is a {type(net).__name__}; {REMEDY}")
    net.load_state_dict(state)
    return net.eval()


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """All numbers in settings, with the keys they stand under."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, str(key))
    elif isinstance(value, list):
        yield "layers", len(value)
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, int | float):
        yield name, value


def _flow(value: Any, path: Path) -> str:
    """Plain settings as yaml again; only what `TAG` says becomes a tag."""
    if isinstance(value, dict):
        tag = _tag(str(value[TYPE]), path) if TYPE in value else ""
        keys = [key for key in value if key != TYPE]
        if not all(str(key).isidentifier() for key in keys):
            raise _refused("a key of it", path)
        return f"{tag} {{{', '.join(f'{key}: {_flow(value[key], path)}' for key in keys)}}}".strip()
    if isinstance(value, list):
        return f"[{', '.join(_flow(item, path) for item in value)}]"
    if isinstance(value, str) and value.startswith("!"):
        return f"{_tag(value, path)} "  # a comma would belong to the tag
    if isinstance(value, float):
        return yaml.safe_dump(value).split("\n")[0]  # JSON's 1e-05 would be text to yaml
    return json.dumps(value, default=str)


def _tag(text: str, path: Path) -> str:
    if not TAG.fullmatch(text):
        raise _refused(text[:80], path)
    return text


def _refused(what: str, path: Path) -> InputError:
    return InputError(f"{path}: {what!a} is refused: only nets and features are built; {REMEDY}")


def read_settings(path: Path) -> dict[str, Any]:
    """A yaml as plain data; nothing is resolved, and what it names is text.

    Raises
    ------
    InputError
        If it is no mapping, too large or too deep, or would call something.
    """
    vet(path)
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))  # as it was dumped, with `no` in quotes
    except (OSError, yaml.YAMLError, *UNBUILT) as error:
        what = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({what}); {REMEDY}") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path}: no settings; {REMEDY}")
    return settings


def named(model: str) -> dict[str, Any]:
    """The sections of a recipe yaml: by the name of one of Speech Commands', or any by its path.

    Raises
    ------
    InputError
        If there is none.
    """
    path = Path(model) if model.endswith(".yaml") else HPARAMS / f"{model}.yaml"
    if not path.is_file():
        known = " ".join(sorted(p.stem for p in HPARAMS.glob("*.yaml"))) or "only files here"
        raise InputError(f"`model` {model}: no such yaml; give the path of one, or of: {known}")
    settings = Document(path).plain()
    if not isinstance(settings.get("model"), dict) or "classifier" not in settings["model"]:
        raise InputError(f"{path}: no classifier in section model; give a recipe's yaml")
    return settings
