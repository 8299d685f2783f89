"""What these functions ask of their arguments."""

from typing import Any

from bdlib.defenses.base import FilterDefense, InferenceDefense, RepairDefense
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier
from bdlib.stages.corpus import Poisoned

BATCH = 64
"""Clips that are scored at once."""
HELP = {
    SpeechClassifier: "give a classifier of bdlib.models, or any torch module by bdlib.wrap",
    Poisoned: "give what `Corpus.poison` returns; its attack may be None",
    FilterDefense: "give a filter, made, such as SpectralSignatures()",
    RepairDefense: "give a repair, made, such as GradientNorm()",
    InferenceDefense: "give a guard, made, such as StripVita()",
}


def asked(**given: tuple[Any, type]) -> None:
    """Refuse an argument that is of another kind than its name says."""
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            is_class = isinstance(value, type)
            what = f"the class {value.__name__}" if is_class else f"a {type(value).__name__}"
            raise InputError(f"`{name}` is {what}: {HELP[kind]}")


def device_of(net: SpeechClassifier) -> str:
    """Where a classifier lies, as torch names it."""
    return str(next(net.parameters()).device)
