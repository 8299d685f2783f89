"""Where the channels of a classifier are, by the order of its modules, and what they put out.

No clip is needed, as CLP sees none; `layers` watches a batch instead and is told more by it.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from bdlib.errors import InputError
from bdlib.models.classifier import SpeechClassifier

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class ConvLayer:
    """A convolution and the batch norm that follows it, if one does.

    Arguments
    ---------
    name : str
        Of the convolution within the classifier.
    conv : nn.Conv1d | nn.Conv2d
        Its rows are the channels, or neurons.
    norm : nn.BatchNorm1d | nn.BatchNorm2d | None
        With scale and shift.
    """

    name: str
    conv: nn.Conv1d | nn.Conv2d
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None

    @property
    def last(self) -> nn.Module:
        """The module whose weight scales each channel, and whose output the channels are."""
        return self.norm or self.conv


def conv_layers(classifier: SpeechClassifier) -> list[ConvLayer]:
    """The convolutions of a classifier, front end apart, in the order of its modules.

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
        if isinstance(module, CONVOLUTIONS):
            fits = isinstance(after, NORMS) and after.num_features == module.out_channels
            fits = fits and after.affine and _alone(classifier, name, names[after])
            layers.append(ConvLayer(name, module, after if fits else None))
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


def feature_maps(classifier: SpeechClassifier, count: int) -> list[nn.Module]:
    """Evenly spaced layers with a time axis, the last one among them: convolutional, recurrent.

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
        every = [layer.last for layer in conv_layers(classifier)] + recurrent
    except InputError:
        if not recurrent:
            raise
        every = recurrent
    count = min(count, len(every))
    return [every[len(every) * (number + 1) // count - 1] for number in range(count)]


@contextlib.contextmanager
def recorded(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What modules put out in the last pass, (B, channels, ...), with its graph.

    Recurrent layers give (B, T, channels), and are turned round.
    """
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        outputs[module] = output[0].transpose(1, 2) if isinstance(output, tuple) else output

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
