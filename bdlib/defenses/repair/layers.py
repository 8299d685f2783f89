"""The convolutions of a network as they run, which normalisation reads which, and how active they are."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from bdlib.corpus import Batch
from bdlib.defenses.repair.channels import CONVOLUTIONS
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class Layer:
    """A convolution and what stands between it and the layers that read it.

    Arguments
    ---------
    name : str
        Of the convolution, in the classifier.
    convolution : nn.Module
        With C output channels.
    norm : nn.Module | None
        The batch normalisation that reads its channels and nothing else, directly or after an
        activation; None if there is none.
    normed_first : bool
        Whether the normalisation comes before any activation.
    """

    name: str
    convolution: nn.Conv1d | nn.Conv2d
    norm: _BatchNorm | None
    normed_first: bool

    @property
    def channels(self) -> int:
        """C."""
        return self.convolution.out_channels

    @property
    def source(self) -> nn.Module:
        """The module whose output, rectified, is the activation of the channels."""
        return self.norm if self.normed_first else self.convolution


@torch.no_grad()
def layers(classifier: SpeechClassifier, batch: Batch) -> list[Layer]:
    """All convolutions in the order in which they run on a batch.

    Whose output a normalisation reads is told by the memory it lies in and by the count of
    in-place changes: where a residual was added to the output, what follows reads a sum.
    """
    names = {module: name for name, module in classifier.named_modules()}
    order: list[nn.Module] = []
    seen: dict[int, tuple[nn.Module, int, bool]] = {}  # memory: convolution, changes, activated
    norms: dict[nn.Module, tuple[_BatchNorm, bool]] = {}
    alive: list[Tensor] = []  # so that no memory is used twice

    def after(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if isinstance(module, CONVOLUTIONS):
            order.append(module)
            seen[output.data_ptr()] = (module, output._version, False)
        elif inputs[0].data_ptr() in seen and not isinstance(module, nn.Linear):
            origin, changes, activated = seen[inputs[0].data_ptr()]
            in_place = output.data_ptr() == inputs[0].data_ptr()
            if inputs[0]._version - in_place != changes:
                return
            if isinstance(module, _BatchNorm):
                norms.setdefault(origin, (module, not activated))
            elif output.shape == inputs[0].shape:
                seen[output.data_ptr()] = (origin, output._version, True)
        alive.append(output)

    leaves = [m for m in classifier.modules() if not any(m.children())]
    with _hooked([module.register_forward_hook(after) for module in leaves]):
        classifier.eval()(batch.wavs, batch.lens)
    return [
        Layer(names[module], module, *norms.get(module, (None, False)))
        for module in dict.fromkeys(order)
    ]


@torch.no_grad()
def activations(
    classifier: SpeechClassifier, chosen: Iterable[Layer], batches: Iterable[Batch]
) -> dict[str, Tensor]:
    """Mean activation of every channel, (C,) by the layer's name, in one pass over clean batches.

    The mean is over clips and places of max(x, 0): of the output of the convolution, or of its
    normalisation where that comes first.
    """
    totals: dict[str, Tensor] = {}
    places: dict[str, int] = {}

    def watch(name: str) -> RemovableHandle:
        def add(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            positive = output.clamp_min(0).transpose(0, 1).flatten(1).double()
            totals[name] = totals.get(name, 0) + positive.sum(1)
            places[name] = places.get(name, 0) + positive.shape[1]

        return source[name].register_forward_hook(add)

    source = {layer.name: layer.source for layer in chosen}
    classifier.eval()
    with _hooked([watch(name) for name in source]):
        for batch in batches:
            classifier(batch.wavs, batch.lens)
    return {name: totals[name] / places[name] for name in totals}


@contextmanager
def _hooked(handles: list[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
