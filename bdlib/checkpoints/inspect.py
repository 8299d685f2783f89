"""Is a checkpoint backdoored? One probability, from its weights alone, calibrated on a zoo of our own."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.checkpoints.signs import SIGNS, Signs, signs
from bdlib.errors import InputError
from bdlib.files import read_json

CALIBRATION = Path(__file__).with_name("inspect.json")
"""Made by ``tools/zoo.py fit``."""
KEYS = dict.fromkeys(("mean", "deviation", "weights"), list[float]) | {"bias": float}
CALLED = 0.5  # probability


@dataclass(frozen=True)
class Inspection:
    """What the weights of a checkpoint say.

    Arguments
    ---------
    probability : float
        That it is backdoored, if half of all checkpoints are, as half of the zoo is.
    target : str
        The class to which a backdoor would lead.
    signs : dict[str, float]
        What it rests on, see `bdlib.checkpoints.signs.signs`.
    """

    probability: float
    target: str
    signs: dict[str, float]

    @property
    def found(self) -> bool:
        """Whether the probability is at least `CALLED`."""
        return self.probability >= CALLED

    def __str__(self) -> str:
        word = "Backdoored" if self.found else "Nothing found"
        told = " ".join(f"{name} {value:.2f}" for name, value in self.signs.items())
        to = f", target {self.target}" if self.found else ""
        return f"{word}: probability {self.probability:.2f}{to}\n  signs: {told}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        rounded = {name: round(value, 4) for name, value in self.signs.items()}
        target = self.target if self.found else None
        return {"probability": round(self.probability, 4), "target": target, "signs": rounded}


def inspect(checkpoint: Checkpoint) -> Inspection:
    """The probability that a checkpoint is backdoored; no data is used.

    Arguments
    ---------
    checkpoint : Checkpoint
        A small convolutional net on normalised features, as those of the zoo are.

    Raises
    ------
    InputError
        If it is another net, for which nothing was calibrated.
    """
    if checkpoint.seconds is None or checkpoint.kind == "onnx":
        raise InputError(
            f"{checkpoint.path}: only small keyword nets of ours can be inspected; others were "
            "never calibrated"
        )
    count = len(checkpoint.classes)
    found = signs(checkpoint.net, count, checkpoint.sample_rate, checkpoint.seconds)
    told = probability(found, read_json(CALIBRATION, KEYS))
    return Inspection(told, checkpoint.classes[found.target], found.values)


def probability(found: Signs, calibration: dict[str, Any]) -> float:
    """Logistic regression on standardised signs."""
    height = calibration["bias"]
    for number, name in enumerate(SIGNS):
        standard = (found.values[name] - calibration["mean"][number]) / calibration["deviation"][
            number
        ]
        height += calibration["weights"][number] * standard
    return 1 / (1 + math.exp(-height))
