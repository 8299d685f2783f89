"""Gradients at a point beside the parameters, which leave no trace in the classifier."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

EPSILON = 1e-12  # beside norms that may be zero


def gradients(loss: Tensor, module: nn.Module, create_graph: bool = False) -> list[Tensor]:
    """Gradient of a loss for every parameter; zeros where it does not depend on it, or that is frozen."""
    free = [parameter for parameter in module.parameters() if parameter.requires_grad]
    found = iter(
        torch.autograd.grad(
            loss, free, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    )
    return [next(found) if p.requires_grad else torch.zeros_like(p) for p in module.parameters()]


def descend(module: nn.Module, parts: Iterable[Tensor]) -> None:
    """Leave a gradient of every parameter to the optimiser, but of those that are frozen."""
    for parameter, part in zip(module.parameters(), parts, strict=True):
        parameter.grad = part if parameter.requires_grad else None


@contextlib.contextmanager
def moved(module: nn.Module, steps: Sequence[Tensor]) -> Iterator[None]:
    """Add `steps` to the parameters for the length of a block.

    Parameters and buffers, the running statistics among them, are afterwards bit for bit what they
    were before.
    """
    tensors = [*module.parameters(), *module.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        for parameter, step in zip(module.parameters(), steps, strict=True):
            parameter.add_(step)
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, old in zip(tensors, before, strict=True):
                tensor.copy_(old)


@contextlib.contextmanager
def same_draws(module: nn.Module) -> Iterator[None]:
    """Give back at the end what the block drew: the next pass has the same dropout and views."""
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        yield


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Leave out cuDNN, whose recurrent layers have no second derivative.

    In evaluation mode they have not even a first.
    """
    with torch.backends.cudnn.flags(enabled=False):
        yield


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all tensors together, a scalar."""
    return torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors])
    )
