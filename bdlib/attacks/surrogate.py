"""What an attack learns from a surrogate classifier: a trigger, and which clips are hard."""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from bdlib.attacks.poisoner import Poisoner
from bdlib.corpus import Batch, Batches
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier


def target_of(poisoner: Poisoner) -> str:
    """The one target class that a learned trigger is made for.

    Raises
    ------
    InputError
        If the label policy has none, or several.
    """
    target = getattr(poisoner.labels, "target_class", None)
    if target is None:
        raise InputError("attack: a learned trigger needs one target class; choose other `labels`")
    return target


def fitted(
    poisoner: Poisoner, surrogate: SpeechClassifier, clips: Batches, target: int
) -> Poisoner:
    """The attack with its trigger made on a surrogate; see `LearnedTrigger.fit`."""
    return replace(poisoner, trigger=poisoner.trigger.fit(surrogate, clips, target, poisoner.seed))


@torch.no_grad()
def answers(surrogate: SpeechClassifier, wavs: Tensor, lens: Tensor | None = None) -> Tensor:
    """Probabilities (B, C) that a surrogate gives the classes for clips (B, T) and their `lens`."""
    surrogate.eval()
    lens = torch.ones(len(wavs), device=wavs.device) if lens is None else lens
    return surrogate(wavs, lens).softmax(dim=1)


@torch.no_grad()
def sureness(surrogate: SpeechClassifier, clips: Iterable[Batch]) -> pd.Series:
    """By ID, the log-probability that a surrogate gives the label of each clip."""
    surrogate.eval()
    sure: dict[str, float] = {}
    for batch in clips:
        logs = surrogate(batch.wavs, batch.lens).log_softmax(dim=1)
        own = logs.gather(1, batch.labels[:, None])[:, 0]
        sure |= dict(zip(batch.ids, own.tolist(), strict=True))
    return pd.Series(sure, dtype=float)
