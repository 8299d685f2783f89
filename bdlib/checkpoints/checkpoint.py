"""What is known of a checkpoint, and where each kind of folder or file is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from bdlib.audio import HIGHEST_RATE, LONGEST_HEARD, LOWEST_RATE
from bdlib.checkpoints import architecture, huggingface, onnx, speechbrain, weights
from bdlib.checkpoints.weights import BROKEN, REMEDY
from bdlib.errors import InputError, fits, within
from bdlib.files import at_home, check_regular, file_digest, read_json
from bdlib.models.classifier import SpeechClassifier
from bdlib.names import forges, plain
from bdlib.pack import SHORTEST
from bdlib.stages.train import label_order

ABOUT = {
    **{"classifier": dict, "classes": list[str], "sample_rate": int, "seconds": float | None},
    "backdoored": bool,
}
"""Keys of `checkpoint.json`, with their types."""
WEIGHTS, SETTINGS, LABELS = "model.safetensors", "checkpoint.json", "label_encoder.txt"


@dataclass(frozen=True)
class Checkpoint:
    """A trained classifier from somewhere.

    Arguments
    ---------
    net : SpeechClassifier
        On the CPU, to be used and not trained.
    classes : tuple[str, ...]
        What its logits stand for, in their order.
    path : Path
        Where it comes from.
    sample_rate : int
        Hz, of what it hears.
    seconds : float | None
        Length of the clips it was trained on, where that is known.
    settings : dict[str, Any] | None
        Of the net, as `architecture.build` takes them; None where it was made otherwise.
    backdoored : bool
        Whether it says of itself that it was backdoored on purpose.
    kind : str
        What it was read as.
    """

    net: SpeechClassifier = field(repr=False)
    classes: tuple[str, ...]
    path: Path
    sample_rate: int = 16000
    seconds: float | None = None
    settings: dict[str, Any] | None = field(default=None, repr=False)
    backdoored: bool = False
    kind: str = "bdlib"

    def __post_init__(self) -> None:
        named = self.classes != _numbers(len(self.classes))
        self.net.classes = self.classes if named else ()
        try:
            within("sample_rate", self.sample_rate, LOWEST_RATE, HIGHEST_RATE, int)
            if self.seconds is not None:
                within("seconds", self.seconds, SHORTEST, LONGEST_HEARD)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    @classmethod
    def open(
        cls, path: str | Path, model: str | None = None, classes: Sequence[str] | None = None
    ) -> "Checkpoint":
        """Read a checkpoint; nothing in it is run.

        Arguments
        ---------
        path : str | Path
            A folder of a training here, one that `save` wrote, of SpeechBrain's `EncoderClassifier`
            or of Hugging Face's audio classifiers (AST, wav2vec2); or a file of weights, which needs
            a `model`, or of ONNX.
        model : str | None
            Architecture of a file of weights: the name of a yaml of Speech Commands, or the path of
            a recipe's yaml.
        classes : Sequence[str] | None
            Names of the outputs, for a file that has none; by default `label_encoder.txt` beside it,
            or numbers.

        Raises
        ------
        InputError
            If it is none of these, or broken: one line that says what.
        """
        path = at_home(path)
        if path.suffix == ".onnx":
            net, names, samples = onnx.read(path, classes)
            seconds = None if samples is None else samples / cls.sample_rate
            return cls(net, _checked(names, path), path, seconds=seconds, kind="onnx")
        if path.suffix == ".pt2":
            raise InputError(f"{path}: torch.export's reader unpickles; get the net as ONNX")
        if path.is_file():
            return _of_file(path, model, classes)
        if not path.is_dir():
            raise InputError(f"{path}: no such file or folder; give a checkpoint")
        if (path / SETTINGS).exists():
            return _of_saved(path)
        if speechbrain.is_folder(path):
            return _of_speechbrain(path)
        if (path / "save").is_dir():
            return _of_training(path)
        if (path / "config.json").exists():
            net, names, rate = huggingface.read(path)
            return cls(net, _checked(names, path), path, rate, kind="huggingface")
        raise InputError(
            f"{path}: no checkpoint in it; looked for {SETTINGS}, embedding_model.ckpt with "
            "classifier.ckpt, save/CKPT+*, config.json"
        )

    @cached_property
    def digest(self) -> str:
        """Short sha256 of its weights' files."""
        if self.path.is_file():
            return file_digest(self.path)
        names = ("*.safetensors", "*.ckpt", "save/CKPT*/classifier.ckpt")
        return file_digest(*sorted(file for name in names for file in self.path.glob(name)))


def _of_saved(folder: Path) -> Checkpoint:
    about = read_json(folder / SETTINGS, ABOUT)
    path, classes = folder / WEIGHTS, _checked(about["classes"], folder / SETTINGS)
    net = architecture.build(about["classifier"], len(classes), weights.read(path), path)
    rate, seconds = about["sample_rate"], about["seconds"]
    told = (about["classifier"], about["backdoored"])
    return Checkpoint(net, classes, folder, rate, seconds, *told)


def _of_speechbrain(folder: Path) -> Checkpoint:
    settings, state, rate = speechbrain.read(folder)
    count = len(state.get("head.weight", ()))
    path = folder / "classifier.ckpt"
    net = architecture.build(settings, count, state, path)
    written = [p for name in (LABELS, "label_encoder.ckpt") if (p := folder / name).exists()]
    classes = label_order(written[0], REMEDY) if written else _numbers(count)
    _fits(classes, count, written[0] if written else path)
    return Checkpoint(net, classes, folder, rate, None, settings, kind="speechbrain")


def _of_training(folder: Path) -> Checkpoint:
    """The checkpoint that a training here kept: of lowest validation loss, or the last."""
    settings = architecture.read_settings(folder / "hyperparams.yaml")
    try:
        corpus, model = settings["corpus"], settings["model"]
        rate, seconds, classifier = corpus["sample_rate"], corpus["seconds"], model["classifier"]
        if not fits([rate], list[int]) or not fits(seconds, float):
            raise TypeError("its corpus has no sampling rate or length")
        poison = settings.get("poison") or {}
        # At a rate of 0 an attack names the trigger of the test clips alone: a clean twin.
        backdoored = poison.get("attack") not in (None, "none") and poison.get("rate") != 0
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'hyperparams.yaml'}: no recipe ({error}); {REMEDY}") from error
    if classifier is None:
        raise InputError(
            f"{folder}: its net is none of bdlib's own, and its weights do not say how it is made; load "
            "save/CKPT+*/classifier.ckpt in your own code"
        )
    path = min(_kept(folder / "save", model.get("keep", "best")))[1] / "classifier.ckpt"
    classes = _checked(label_order(folder / LABELS, REMEDY), folder / LABELS)
    net = architecture.build(classifier, len(classes), weights.read(path), path)
    return Checkpoint(net, classes, folder, rate, seconds, classifier, backdoored, "training")


def _kept(save: Path, keep: str) -> list[tuple[float, Path]]:
    """Checkpoints with what they are chosen by: least is best."""
    found = []
    for path in sorted(save.glob("CKPT*")):
        about = path / "CKPT.yaml"
        check_regular(about)
        try:
            if about.stat().st_size > 2**16:
                raise ValueError("too large")
            told = yaml.safe_load(about.read_text("utf-8"))
            found.append((float(told["valid_loss"] if keep == "best" else -told["unixtime"]), path))
        except (*BROKEN, OverflowError) as error:
            raise weights.unusable(about, error) from error
    if not found:
        raise InputError(f"{save}: no CKPT+* in it; {REMEDY}")
    return found


def _of_file(path: Path, model: str | None, classes: Sequence[str] | None) -> Checkpoint:
    if model is None:
        raise InputError(f"{path}: weights alone do not say of what; give their `model`")
    state, sections = weights.read(path), architecture.named(model)
    count = len(state.get("head.weight", ()))
    beside = path.with_name(LABELS)
    if classes is None and beside.exists():
        classes = label_order(beside, REMEDY)
    names = tuple(classes) if classes is not None else _numbers(count)
    _fits(names, count, path)
    settings = sections["model"]["classifier"]
    net = architecture.build(settings, count, state, path)
    corpus = sections["corpus"]
    return Checkpoint(net, names, path, corpus["sample_rate"], corpus["seconds"], settings)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def _fits(classes: Sequence[str], count: int, path: Path) -> None:
    if len(_checked(classes, path)) != count:
        raise InputError(f"{path}: {len(classes)} classes of a net of {count}; {REMEDY}")


def _checked(classes: Sequence[str], path: Path) -> tuple[str, ...]:
    if len(set(classes)) < len(classes) or len(classes) < 2:
        raise InputError(f"{path}: give two classes or more, each once; {REMEDY}")
    if strange := [name for name in classes if forges(name)]:
        raise InputError(f"{path}: {plain(strange[0])} is no name of a class; {REMEDY}")
    return tuple(classes)
