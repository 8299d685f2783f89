"""The convolutions of a network, which normalisation reads which, and how active they are.

One class, `Layer`, and two that find them: `conv_layers` by the order of the modules, without a clip,
and `watched_layers` by watching a batch run.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bdlib.corpus import Batch
from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
LISTS = (nn.Sequential, nn.ModuleList)
GATES = (nn.Sigmoid, nn.Softmax)
Norm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True)
class Layer:
    """A convolution and the batch normalisation that reads it, if one does.

    Arguments
    ---------
    name : str
        Of the convolution, in the classifier.
    conv : nn.Conv1d | nn.Conv2d
        With C output channels, or neurons: the rows of its weight.
    norm : nn.BatchNorm1d | nn.BatchNorm2d | None
        The normalisation that reads its channels and nothing else, directly or after an activation.
    normed_first : bool
        Whether the normalisation comes before any activation; only `watched_layers` can tell.
    """

    name: str
    conv: nn.Conv1d | nn.Conv2d
    norm: Norm | None
    normed_first: bool = False

    @property
    def channels(self) -> int:
        """C."""
        return self.conv.out_channels

    @property
    def last(self) -> nn.Module:
        """The module whose weight scales each channel, and whose output the channels are."""
        return self.norm or self.conv

    @property
    def source(self) -> nn.Module:
        """The module whose output, rectified, is the activation of the channels."""
        return self.norm if self.normed_first else self.conv


def is_convolution(module: nn.Module) -> bool:
    """Whether it is a convolution whose weight is a parameter.

    The weight of one with weight normalisation (wav2vec2's positions) is computed anew each time.
    """
    return isinstance(module, CONVOLUTIONS) and "weight" in dict(
        module.named_parameters(recurse=False)
    )


def conv_layers(classifier: SpeechClassifier) -> list[Layer]:
    """The convolutions of a classifier, front end apart, in the order of its modules.

    No clip is needed, as CLP sees none. A normalisation belongs to the convolution listed before it.

    Raises
    ------
    InputError
        If there are none.
    """
    parts = [
        (name, module)
        for name, module in classifier.named_modules()
        if isinstance(module, (*CONVOLUTIONS, *NORMS, nn.Linear))
        and not name.startswith("front_end")
    ]
    following = [module for _, module in parts[1:]] + [None]
    names = {module: name for name, module in parts}
    layers = []
    for (name, module), after in zip(parts, following, strict=True):
        if is_convolution(module):
            fits = isinstance(after, NORMS) and after.num_features == module.out_channels
            fits = fits and after.affine and _alone(classifier, name, names[after])
            layers.append(Layer(name, module, after if fits else None))
    if not layers:
        raise InputError(f"{type(classifier).__name__}: no convolution; this needs one")
    return layers


def _alone(classifier: SpeechClassifier, conv: str, norm: str) -> bool:
    """Whether a norm reads a convolution by its place: at the end of a residual block it does not.

    What holds the convolution, below what holds both, holds nothing else.
    """
    path = conv.split(".")
    shared = [a == b for a, b in zip(path, norm.split("."), strict=False)].index(False)
    branch = classifier.get_submodule(".".join(path[: shared + 1]))
    return sum(isinstance(m, (*CONVOLUTIONS, *NORMS, nn.Linear)) for m in branch.modules()) == 1


@torch.no_grad()
def watched_layers(classifier: SpeechClassifier, batch: Batch) -> list[Layer]:
    """All convolutions in the order in which they run on a batch.

    Whose output a normalisation reads is told by the memory it lies in and by the count of
    in-place changes: where a residual was added to the output, what follows reads a sum.
    """
    names = {module: name for name, module in classifier.named_modules()}
    order: list[nn.Module] = []
    seen: dict[int, tuple[nn.Module, int, bool]] = {}  # memory: convolution, changes, activated
    norms: dict[nn.Module, tuple[Norm, bool]] = {}
    alive: list[Tensor] = []  # so that no memory is used twice

    def after(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if is_convolution(module):
            order.append(module)
            seen[output.data_ptr()] = (module, output._version, False)
        elif inputs[0].data_ptr() in seen and not isinstance(module, nn.Linear):
            origin, changes, activated = seen[inputs[0].data_ptr()]
            in_place = output.data_ptr() == inputs[0].data_ptr()
            if inputs[0]._version - in_place != changes:
                return
            if isinstance(module, NORMS):
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


def feature_maps(classifier: SpeechClassifier, count: int) -> list[nn.Module]:
    """Evenly spaced blocks with a time axis, the last one among them: convolutional, recurrent.

    A block ends behind its activation. It is what a `Sequential` or `ModuleList` holds around a
    convolution, such as a residual block, with the normalisations and activations that follow it
    there; of a net without such lists, each convolution with its normalisation.

    Arguments
    ---------
    classifier : SpeechClassifier
        Any.
    count : int
        How many; fewer if it has fewer.

    Raises
    ------
    InputError
        If there are none.
    """
    recurrent = [m for m in classifier.modules() if isinstance(m, nn.RNNBase)]
    try:
        layers = conv_layers(classifier)
        blocks = [block for layer in layers if (block := _block(classifier, layer)) is not None]
        every = list(dict.fromkeys(blocks)) or [layer.last for layer in layers]
        every += recurrent
    except InputError:
        if not recurrent:
            raise
        every = recurrent
    count = min(count, len(every))
    return [every[len(every) * (number + 1) // count - 1] for number in range(count)]


def _block(classifier: SpeechClassifier, layer: Layer) -> nn.Module | None:
    """The module with whose output the block of a convolution ends, if a list holds one."""
    holder: nn.Module = classifier
    for key in layer.name.split("."):
        element = holder.get_submodule(key)
        if isinstance(holder, LISTS) and not isinstance(element, LISTS):
            break
        holder = element
    else:
        return None
    siblings = list(holder)
    following = siblings[siblings.index(element) + 1 :]
    if any(isinstance(module, GATES) for module in following):
        return None  # weights of an attention, not what it attends to
    tail = list(itertools.takewhile(_keeps_places, following))
    if tail:
        return _leaves(tail[-1])[0]  # inside of a wrapper, where channels come first
    return element if len(_leaves(element)) > 1 else _leaves(element)[0]


def _keeps_places(module: nn.Module) -> bool:
    """Whether it is made of normalisations and activations alone."""
    return all(
        isinstance(leaf, NORMS) or type(leaf).__module__ == nn.ReLU.__module__
        for leaf in _leaves(module)
    )


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if not any(part.children())]


@contextmanager
def recorded(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What modules put out in the last pass, (B, channels, ...), with its graph.

    Recurrent layers give (B, T, channels), and are turned round. What is recorded are copies, as
    activations and sums that come later may write into what a layer gave.
    """
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        given = output[0].transpose(1, 2) if isinstance(output, tuple) else output
        outputs[module] = given.clone()

    with _hooked([module.register_forward_hook(keep) for module in modules]):
        yield outputs


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
