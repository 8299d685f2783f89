"""Channels that a repair has zeroed are taken out, so that a network is really smaller."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.defenses.repair.layers import CONVOLUTIONS, NORMS, Layer, watched_layers
from bdlib.models.classifier import SpeechClassifier

Reader = nn.Conv1d | nn.Conv2d | nn.Linear
NOISE = 10.0  # what a channel that nobody reads may as well hold
TOLERANCE = 1e-3  # of logits: statistics pooling adds noise of 1e-5


@torch.no_grad()
def shrink(classifier: SpeechClassifier, clean: Iterable[Batch]) -> SpeechClassifier:
    """Take out channels that are zero for every input, where a single layer reads them.

    Its columns for these channels go with them: those that hear it when the channels are filled with
    noise. It is tried on a batch whether the network then still runs, and answers as before;
    otherwise the channels stay, as zeros, such as those that go into a sum or into several layers.
    Next to a convolution in groups, whose columns are not its channels, they stay, too.
    One channel of a layer that is dead altogether stays, too.

    Arguments
    ---------
    classifier : SpeechClassifier
        Changed in place; the parameters keep their names, but not their shapes.
    clean : Iterable[Batch]
        The first batch is looked at.
    """
    batch = next(iter(clean))
    order = _readers(classifier, batch)
    before = classifier(batch.wavs, batch.lens)
    for layer in watched_layers(classifier, batch):
        dead = _dead(layer)[: layer.channels - 1]
        reader = next(iter(order[order.index(layer.conv) + 1 :]), None)
        apart = any(getattr(module, "groups", 1) > 1 for module in (layer.conv, reader))
        if reader is None or apart or not len(dead):
            continue
        changed = [module for module in (layer.conv, layer.norm, reader) if module]
        kept = [(dict(module._parameters), dict(module._buffers)) for module in changed]
        _take_out(layer, dead, reader, _columns(classifier, batch, layer, dead, reader))
        if not _answers(classifier, batch, before):
            for module, (parameters, buffers) in zip(changed, kept, strict=True):
                module._parameters.update(parameters)
                module._buffers.update(buffers)
                _describe(module)
    return classifier


@torch.no_grad()
def resize(classifier: SpeechClassifier, state: Mapping[str, Tensor]) -> None:
    """Give the layers of a fresh classifier the shapes of a shrunk one's state, which then loads."""
    for name, module in classifier.named_modules():
        for key, value in list(module.named_parameters(recurse=False)):
            stored = state.get(f"{name}.{key}", value)
            if stored.shape != value.shape:
                setattr(module, key, nn.Parameter(stored.clone()))
        for key, value in list(module.named_buffers(recurse=False)):
            stored = state.get(f"{name}.{key}", value)
            if stored.shape != value.shape:
                module.register_buffer(key, stored.clone())
        _describe(module)


def _dead(layer: Layer) -> Tensor:
    """Numbers of the channels that are zero whatever comes in."""
    last = layer.last
    rows = [last.weight.flatten(1) if last.weight.dim() > 1 else last.weight[:, None]]
    rows += [last.bias[:, None]] if last.bias is not None else []
    return (torch.cat(rows, 1) == 0).all(1).nonzero().flatten()


def _readers(classifier: SpeechClassifier, batch: Batch) -> list[Reader]:
    """Convolutions and linear layers in the order in which they run."""
    order: list[Reader] = []
    kinds = (*CONVOLUTIONS, nn.Linear)
    handles = [
        module.register_forward_hook(lambda module, inputs, output: order.append(module))
        for module in classifier.modules()
        if isinstance(module, kinds)
    ]
    classifier.eval()(batch.wavs, batch.lens)
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(order))


def _columns(
    classifier: SpeechClassifier, batch: Batch, layer: Layer, dead: Tensor, reader: Reader
) -> Tensor:
    """The columns of a reader that channels feed."""
    axis = -1 if isinstance(reader, nn.Linear) else 1
    seen: list[Tensor] = []
    watch = reader.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].transpose(0, axis).flatten(1))
    )
    classifier(batch.wavs, batch.lens)
    fill = layer.last.register_forward_hook(
        lambda module, inputs, output: output.index_copy(
            1, dead, NOISE * torch.randn_like(output[:, dead])
        )
    )
    classifier(batch.wavs, batch.lens)
    for handle in (watch, fill):
        handle.remove()
    return ((seen[0] - seen[1]).abs().amax(1) > TOLERANCE).nonzero().flatten()


def _answers(classifier: SpeechClassifier, batch: Batch, wanted: Tensor) -> bool:
    """Whether it still runs, and says what it said."""
    try:
        logits = classifier(batch.wavs, batch.lens)
    except (RuntimeError, ValueError):  # shapes that do not fit
        return False
    return torch.allclose(logits, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def _take_out(layer: Layer, dead: Tensor, reader: Reader, columns: Tensor) -> None:
    def left(count: int, gone: Tensor) -> Tensor:
        alive = torch.ones(count, dtype=torch.bool, device=gone.device)
        alive[gone] = False
        return alive

    rows = left(layer.channels, dead)
    for module in filter(None, (layer.conv, layer.norm)):
        for key, value in list(module.named_parameters(recurse=False)):
            setattr(module, key, nn.Parameter(value[rows]))
        for key, value in list(module.named_buffers(recurse=False)):
            if value.dim():
                module.register_buffer(key, value[rows])
        _describe(module)
    reader.weight = nn.Parameter(reader.weight[:, left(reader.weight.shape[1], columns)])
    _describe(reader)


def _describe(module: nn.Module) -> None:
    """Let a layer's numbers say the shape of its weight."""
    if isinstance(module, CONVOLUTIONS):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, NORMS):
        module.num_features = len(module.running_mean)
