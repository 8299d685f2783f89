"""How far one small change of all features pulls a classifier to one class.

A backdoor is a shortcut from everywhere to its target: a change that is the same for all clips and
takes them there is smaller than to other classes (Wang et al., Neural Cleanse, IEEE S&P 2019; Moosavi
et al., Universal adversarial perturbations, CVPR 2017). Here its size is given and what it reaches is
measured.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from bdlib.models.classifier import SpeechClassifier


def pulls(
    net: SpeechClassifier,
    features: Tensor,
    lens: Tensor,
    targets: Iterable[int],
    radius: float = 0.15,
    steps: int = 10,
) -> Tensor:
    """For each target how far clips prefer it under the best change, (targets,).

    That is the mean margin of the target's logit over the others, in units of the mean margin by
    which unchanged clips prefer their own class: 1 is as sure of the target as it was of them. The
    change (1, T, F) climbs the mean margin by normalised steps, and is kept to `radius` times the
    norm of the features' deviation from their mean over clips.

    Arguments
    ---------
    net : SpeechClassifier
        Not changed.
    features, lens : Tensor, Tensor
        (B, T, F) and (B,), of any clips.
    targets : Iterable[int]
        Class numbers.
    radius : float
        See above.
    steps : int
        Of the ascent.
    """
    spread = (features - features.mean(0, keepdim=True)).flatten(1).norm(dim=1).mean()
    with torch.no_grad():
        top = net.logits(features, lens).topk(2).values
    sure = (top[:, 0] - top[:, 1]).mean().clamp_min(1e-6)
    limit = radius * float(spread)
    return climbs(net, features, lens, targets, limit, steps) / sure


def climbs(
    net: SpeechClassifier,
    features: Tensor,
    lens: Tensor,
    targets: Iterable[int],
    limit: float,
    steps: int,
    shared: bool = True,
) -> Tensor:
    """For each target the largest mean margin (targets,) within reach of changed features.

    Arguments
    ---------
    net, features, lens, targets, steps : SpeechClassifier, Tensor, Tensor, Iterable[int], int
        See `pulls`.
    limit : float
        Norm of the change of a clip.
    shared : bool
        One change for all clips, or one for each.
    """
    reached = []
    for target in targets:
        change = torch.zeros_like(features[:1] if shared else features)
        best = torch.tensor(-torch.inf)
        for _ in range(steps):
            change.requires_grad_(True)
            height = margins(net.logits(features + change, lens), target).mean()
            (slope,) = torch.autograd.grad(height, change)
            best = torch.maximum(best, height.detach())
            change = change.detach() + limit / 3 * slope / _norm(slope)
            change = change * (limit / _norm(change)).clamp_max(1)
        reached.append(best)
    return torch.stack(reached)


def _norm(change: Tensor) -> Tensor:
    """Of each clip's change, (B, 1, 1)."""
    return change.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None]


def margins(logits: Tensor, target: int) -> Tensor:
    """Logit of the target over the largest other, (B,)."""
    others = logits.clone()
    others[:, target] = -torch.inf
    return logits[:, target] - others.max(1).values
