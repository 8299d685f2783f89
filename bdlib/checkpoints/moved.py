"""How far a repair moved the answers of a classifier.

A backdoor is learned with everything else, and a net that answers clean clips just as before has kept
what it had learned, the backdoor too. Of repairs that keep the accuracy, the one that forgot most is
the better bet. The rule is ours; `tools/choice.py` measures how it does.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.models.classifier import SpeechClassifier


@torch.no_grad()
def answers(net: SpeechClassifier, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N, C) and labels (N,) of clips; the net is put in evaluation mode."""
    net.eval()
    told = [(net(b.wavs, b.lens).log_softmax(1).cpu(), b.labels.cpu()) for b in batches]
    logs, labels = zip(*told, strict=True)
    return torch.cat(logs), torch.cat(labels)


def moved(before: Tensor, after: Tensor) -> float:
    """Mean over clips of ``sum of p * log(p / q)`` [nats], p the probabilities before and q those after.

    Arguments
    ---------
    before, after : Tensor
        Log-probabilities (N, C) of the same clips.
    """
    return float(nn.functional.kl_div(after, before, reduction="batchmean", log_target=True))
