"""What every combination of a pruning rate and a share of layers answers, at a fraction of the work."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.defenses.repair.dormant import last, sleepers, without
from bdlib.defenses.repair.layers import Layer, activations, watched_layers
from bdlib.models.classifier import SpeechClassifier

Cell = tuple[float, float]
"""Share of the layers, and pruning rate."""
Cut = tuple[tuple[Layer, Tensor], ...]
"""Layers and the numbers of their channels that go."""


@torch.no_grad()
def surface(
    classifier: SpeechClassifier,
    clean: Sequence[Batch],
    clips: Iterable[Batch],
    conv_rates: Sequence[float],
    pruning_rates: Sequence[float],
    skip_layers: str = "",
) -> dict[Cell, Tensor]:
    """Logits (utterances, C) by cell, equal to those of `Pruning` with the same rates.

    The classifier is not changed. One pass over the clean batches ranks the channels of all layers.
    Of each batch of clips, features and convolutions below the first pruned layer are computed once;
    what is cut is masked, not zeroed. Cells that cut the same channels share their answers.

    Arguments
    ---------
    classifier : SpeechClassifier
        Trained.
    clean : Sequence[Batch]
        Clean clips that rank the channels.
    clips : Iterable[Batch]
        What is classified.
    conv_rates, pruning_rates, skip_layers : Sequence[float], Sequence[float], str
        See `Pruning`.
    """
    every = without(watched_layers(classifier, clean[0]), skip_layers)
    means = activations(classifier, every, clean)

    def cut_of(conv_rate: float, pruning_rate: float) -> Cut:
        chosen = last(every, conv_rate)
        return tuple((layer, sleepers(means[layer.name], pruning_rate)) for layer in chosen)

    cuts = {cell: cut_of(*cell) for cell in itertools.product(conv_rates, pruning_rates)}
    same = {cell: _signature(cut) for cell, cut in cuts.items()}
    distinct = {signature: cuts[cell] for cell, signature in same.items()}
    logits: dict[Any, list[Tensor]] = {signature: [] for signature in distinct}
    for batch in clips:
        with _remembered(classifier, every, batch) as outputs:
            for signature, cut in distinct.items():
                pruned = {layer.name for layer, channels in cut if len(channels)}
                below = next((i for i, x in enumerate(every) if x.name in pruned), len(every))
                with _reused(every[:below], outputs), _masked(cut):
                    logits[signature].append(classifier(batch.wavs, batch.lens))
    return {cell: torch.cat(logits[signature]) for cell, signature in same.items()}


def _signature(cut: Cut) -> tuple:
    return tuple((layer.name, *channels.tolist()) for layer, channels in cut if len(channels))


@contextmanager
def _remembered(
    classifier: SpeechClassifier, every: Sequence[Layer], batch: Batch
) -> Iterator[dict[str, Tensor]]:
    """The outputs of all convolutions on a batch; while it lasts, its features are not made anew."""
    features = classifier.features(batch.wavs, batch.lens)
    classifier.features = lambda wavs, lens: features
    outputs: dict[str, Tensor] = {}
    with ExitStack() as stack:
        stack.callback(delattr, classifier, "features")
        with ExitStack() as hooks:
            for layer in every:
                # A copy, as a residual may be added to the output in place.
                hook = layer.conv.register_forward_hook(
                    lambda module, inputs, output, name=layer.name: outputs.__setitem__(
                        name, output.clone()
                    )
                )
                hooks.callback(hook.remove)
            classifier(batch.wavs, batch.lens)
        yield outputs


@contextmanager
def _reused(unchanged: Sequence[Layer], outputs: dict[str, Tensor]) -> Iterator[None]:
    """Convolutions give the output they gave before, without computing."""
    with ExitStack() as stack:
        for layer in unchanged:
            output = outputs[layer.name]
            layer.conv.forward = lambda x, output=output: output.clone()
            stack.callback(delattr, layer.conv, "forward")
        yield


@contextmanager
def _masked(cut: Cut) -> Iterator[None]:
    """Channels that are cut come out as zeros."""

    def silence(module: nn.Module, channels: Tensor) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(
            lambda module, inputs, output: output.index_fill(1, channels, 0.0)
        )

    with ExitStack() as stack:
        for layer, channels in cut:
            for module in filter(None, (layer.conv, layer.norm)):
                stack.callback(silence(module, channels.to(module.weight.device)).remove)
        yield
