"""Why a repair works: gradients of the neurons that the trigger moves (the observation of GN-FT).

A neuron is a channel of a convolution. How far the trigger moves it is its activation change (TAC,
Zheng et al. 2022).
"""

import contextlib
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.defenses.repair.layers import conv_layers, recorded
from bdlib.models.classifier import SpeechClassifier

GROUPS = ("backdoored", "hybrid", "clean")
MOST, LEAST = 0.05, 0.5  # shares of the neurons of a layer: backdoored, clean

Norms = dict[str, list[float | None]]
"""Mean gradient norm of the neurons of each group, by layer in the order of the classifier; None of none."""


@torch.no_grad()
def activation_changes(
    classifier: SpeechClassifier, clean: Iterable[Batch], triggered: Iterable[Batch]
) -> list[Tensor]:
    """TAC of every neuron: mean over clips of ``||a(x) - a(x with trigger)||``.

    Arguments
    ---------
    classifier : SpeechClassifier
        With convolutions; it is put in evaluation mode.
    clean, triggered : Iterable[Batch]
        The same clips without and with the trigger, in the same order.

    Returns
    -------
    list[Tensor]
        (channels,) for each convolution.
    """
    classifier.eval()
    outputs = [layer.last for layer in conv_layers(classifier)]
    total, count = [torch.zeros(()) for _ in outputs], 0
    for before, after in zip(clean, triggered, strict=True):
        seen = []
        for batch in (before, after):
            with recorded(outputs) as found:
                classifier(batch.wavs, batch.lens)
            seen.append([found[module].flatten(2) for module in outputs])
        moves = [(a - b).norm(dim=2).sum(0).cpu() for a, b in zip(*seen, strict=True)]
        total = [known + move for known, move in zip(total, moves, strict=True)]
        count += len(before.ids)
    return [known / count for known in total]


def grouped(changes: list[Tensor]) -> list[dict[str, Tensor]]:
    """Numbers of the neurons of each group and layer: the top 5 % by TAC, the bottom half, the rest.

    Every layer has at least one backdoored neuron.
    """
    layers = []
    for change in changes:
        order = change.argsort(descending=True)
        most, rest = max(1, round(MOST * len(order))), len(order) - round(LEAST * len(order))
        parts = order[:most], order[most:rest], order[rest:]
        layers.append(dict(zip(GROUPS, parts, strict=True)))
    return layers


def gradient_norms(
    classifier: SpeechClassifier, batches: Iterable[Batch], groups: list[dict[str, Tensor]]
) -> Norms:
    """Norm of the loss's gradient for the kernel of each neuron, averaged over each group.

    Arguments
    ---------
    classifier : SpeechClassifier
        With convolutions; it is put in evaluation mode.
    batches : Iterable[Batch]
        Clips with the labels that the loss is of.
    groups : list[dict[str, Tensor]]
        `grouped`. An empty group gives None.
    """
    classifier.eval()
    weights = [layer.conv.weight for layer in conv_layers(classifier)]
    total, count = [torch.zeros_like(weight) for weight in weights], 0
    # In evaluation mode cuDNN gives recurrent layers no gradient.
    with torch.backends.cudnn.flags(enabled=False), _free(weights):
        for batch in batches:
            logits = classifier(batch.wavs, batch.lens)
            labels = batch.labels.to(logits.device)
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            parts = torch.autograd.grad(loss, weights)
            total = [known + part for known, part in zip(total, parts, strict=True)]
            count += len(labels)
    norms = [(known / count).flatten(1).norm(dim=1).cpu() for known in total]
    return {
        group: [
            float(norm[of[group]].mean()) if len(of[group]) else None
            for norm, of in zip(norms, groups, strict=True)
        ]
        for group in GROUPS
    }


@contextlib.contextmanager
def _free(weights: list[Tensor]) -> Iterator[None]:
    """Let weights that somebody froze have a gradient."""
    frozen = [weight for weight in weights if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def contrast(norms: Norms) -> dict[str, Any]:
    """How much larger the gradients of backdoored neurons are than those of clean ones.

    Arguments
    ---------
    norms : Norms
        See `gradient_norms`.

    Returns
    -------
    dict[str, Any]
        `value`: the quotient of both norms, its median over layers; `hybrid`: that of the hybrid
        ones; `ordered`: in how many of the `layers` backdoored neurons have the largest norm and
        clean ones the smallest. Layers in which a group is empty or has no gradient at all are left
        out; nothing if none is left.
    """
    layers = [of for of in zip(*(norms[group] for group in GROUPS), strict=True) if all(of)]
    if not layers:
        return {}
    return {
        "value": median(most / least for most, _, least in layers),
        "hybrid": median(between / least for _, between, least in layers),
        "ordered": sum(most > between > least for most, between, least in layers),
        "layers": len(layers),
    }
