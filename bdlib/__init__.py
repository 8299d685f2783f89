"""Backdoors in speech classifiers: attacks, classifiers, defenses, and records of what happened.

The names below are the interface for a script or a notebook (`docs/python.md`). They are imported
when they are first used: torch takes seconds.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Corpus": "notebook.corpus",
    "train": "notebook.training",
    "measure": "notebook.measuring",
    **dict.fromkeys(("filter", "repair", "guard"), "notebook.defending"),
    "scan": "scanning.scan",
    "Checkpoint": "checkpoints.checkpoint",
    "wrap": "models.wrap",
    "InputError": "errors",
    "Poisoner": "attacks.poisoner",
    "Insert": "attacks.insert",
    "Clap": "attacks.sounds",
    "OneToOne": "attacks.labels",
    "NormalizedFbank": "features",
    "SmallResNet": "models.keyword",
    "SpectralSignatures": "defenses.filters.spectral_signatures",
    "GradientNorm": "defenses.repair.gradient_norm",
    "StripVita": "defenses.inference.strip_vita",
}
"""Where each name stands, below this package."""
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bdlib' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bdlib.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
