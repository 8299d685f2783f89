"""Any torch module as a `SpeechClassifier`: scored, filtered, repaired and guarded like our own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bdlib.errors import InputError, fits
from bdlib.features import FrontEnd, Waveform
from bdlib.models.classifier import SpeechClassifier, in_float32


class Wrapped(SpeechClassifier):
    """See `wrap`.

    Its embedding is what the head reads, averaged over all but the first and the last axis.

    Arguments
    ---------
    module : nn.Module
        Waveforms (B, T), or features (B, T, F), to logits (B, C).
    classes : Sequence[str]
        What its C outputs stand for.
    front_end : FrontEnd
        Makes the features.
    """

    def __init__(self, module: nn.Module, classes: Sequence[str], front_end: FrontEnd) -> None:
        super().__init__(front_end)
        order = sorted(range(len(classes)), key=lambda number: classes[number])
        self.module, self.width = module, len(classes)
        self.classes = tuple(sorted(classes))
        self.register_buffer("order", torch.tensor(order), persistent=False)
        heads = [
            name
            for name, part in module.named_modules()
            if isinstance(part, nn.Linear) and part.out_features == self.width
        ]
        self.head_name = heads[-1] if heads else None

    @property
    def head(self) -> nn.Module:
        """The last linear layer with an output a class; without one, what leaves logits as they are."""
        if self.head_name is None:
            return nn.Identity()
        return self.module.get_submodule(self.head_name)

    def embed(self, features: Tensor, lens: Tensor) -> Tensor:
        """See `SpeechClassifier`; the logits themselves, where there is no head."""
        if self.head_name is None:
            return self._answer(features)
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            self._answer(features)
        finally:
            hook.remove()
        if not seen:
            raise InputError(
                f"{type(self.module).__name__} does not answer by {self.head_name}, its last linear layer with an "
                "output a class: wrap a module without the others"
            )
        return seen[-1].flatten(1, -2).mean(1) if seen[-1].dim() > 2 else seen[-1]

    def classify(self, embeddings: Tensor) -> Tensor:
        """See `SpeechClassifier`."""
        return super().classify(embeddings)[:, self.order]

    def logits(self, features: Tensor, lens: Tensor) -> Tensor:
        """See `SpeechClassifier`; the answer of the whole module."""
        hook = self.head.register_forward_hook(_finely)
        try:
            return self._answer(features)[:, self.order].float()
        finally:
            hook.remove()

    def _answer(self, features: Tensor) -> Tensor:
        heard = features.squeeze(2) if isinstance(self.front_end, Waveform) else features
        logits = self.module(heard)
        if not isinstance(logits, Tensor):
            raise InputError(
                f"{type(self.module).__name__} gives a {type(logits).__name__}: wrap a module that "
                "gives logits (B, C) alone"
            )
        if logits.shape != (len(features), self.width):
            raise InputError(
                f"{type(self.module).__name__} gives {tuple(logits.shape)}; with these `classes` "
                f"it must give ({len(features)}, {self.width})"
            )
        return logits


def _finely(head: nn.Module, inputs: tuple[Tensor], made: Tensor) -> Tensor:
    """What a head within a module makes; again in float32, if autocast made it in bf16."""
    half = isinstance(made, Tensor) and made.dtype.itemsize < 4
    return in_float32(head.forward, *inputs) if half else made


def _kind(what: object) -> str:
    is_class = isinstance(what, type)
    return f"the class {what.__name__}" if is_class else f"a {type(what).__name__}"


def wrap(
    module: nn.Module, classes: Sequence[str], front_end: FrontEnd | None = None
) -> SpeechClassifier:
    """A torch module as a classifier of this library, trained or not.

    Arguments
    ---------
    module : nn.Module
        Maps waveforms (B, T) float32 in [-1, 1], or with a front end features (B, T, F), to true
        logits (B, C): a log-softmax at its end would mislead defenses that add up logits. Shorter
        clips come with zeros behind them.
    classes : Sequence[str]
        The name of each output, in the module's order. A corpus has its classes sorted, and so has
        the classifier made here.
    front_end : FrontEnd | None
        Makes the features (`bdlib.features`); None leaves that to the module.

    Raises
    ------
    InputError
        If `module` or `front_end` is something else, there are fewer than two classes, or one is there twice.

    Example
    -------
    >>> net = nn.Sequential(nn.Linear(16000, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> classifier = wrap(net, ["yes", "no"])
    >>> classifier(torch.zeros(3, 16000), torch.ones(3)).shape
    torch.Size([3, 2])
    """
    if not isinstance(module, nn.Module) or isinstance(module, SpeechClassifier):
        raise InputError(
            f"`module` is {_kind(module)}: give a torch module, made, that is no classifier of bdlib"
        )
    if front_end is not None and not isinstance(front_end, FrontEnd):
        raise InputError(
            f"`front_end` is {_kind(front_end)}: give one of bdlib.features, made, or None"
        )
    if not (
        isinstance(classes, Sequence)
        and fits(list(classes), list[str])
        and len(set(classes)) >= max(2, len(classes))
    ):
        raise InputError(f"`classes` {classes!r:.200}: give names, two or more, each once")
    return Wrapped(module, classes, front_end or Waveform())
