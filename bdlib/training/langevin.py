"""Langevin steps: as they are, or recorded once by a GPU and played again.

A step on few samples is some hundred short kernels, and a GPU is done with each before the CPU has
started the next. Recorded as a CUDA graph they are one launch.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Height = Callable[[Tensor, Tensor], Tensor]
"""Of samples (S, frames, mels) and the classes (S,) that they are asked for: (S,), to be climbed."""

Move = tuple[float, float, float]
"""A step: the gradient's factor, the deviation of the noise, the new gradient's share in the average."""

WARM_UPS = 3  # before a recording, in which cuDNN tries its algorithms


def climb(x: Tensor, chosen: Tensor, height: Height, moves: Iterable[Move]) -> Tensor:
    """Samples (S, frames, mels) after all moves; gradients reach x alone."""
    average, x = None, x.detach()
    for factor, deviation, share in moves:
        gradient = slope(x, chosen, height)
        average = gradient if average is None else average.lerp(gradient, share)
        x = x + factor * average + torch.randn_like(x) * deviation
    return x


def slope(x: Tensor, chosen: Tensor, height: Height) -> Tensor:
    """The gradient of the height, of the shape of x."""
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(height(x, chosen).sum(), x)[0]


def recordable(x: Tensor) -> bool:
    """Is x on a GPU that is there?"""
    return x.is_cuda and torch.cuda.is_available()


class Recording:
    """`climb` on a GPU, for samples of one number and shape and one height.

    The weights are read where they lie, so that later steps see what a training made of them; they
    must not ask for gradients, and must stay at their place.

    Arguments
    ---------
    x, chosen : Tensor
        As in `climb`; looked at for shape and device.
    height : Height
        What is climbed, in the precision that holds now.
    """

    def __init__(self, x: Tensor, chosen: Tensor, height: Height) -> None:
        self.height, self.x, self.chosen = height, x.detach().clone(), chosen.clone()
        self.average = torch.zeros_like(self.x)
        self.move = [torch.zeros((), device=x.device) for _ in range(3)]
        aside = torch.cuda.Stream(x.device)
        aside.wait_stream(torch.cuda.current_stream(x.device))
        # A training that was cut off records again: what it draws later must not depend on that.
        with torch.random.fork_rng([x.device]), torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._step()
        torch.cuda.current_stream(x.device).wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        # Other threads may go on: one of NCCL asks the driver all the time.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self._step()

    def _step(self) -> None:
        factor, deviation, share = self.move
        self.average.lerp_(slope(self.x, self.chosen, self.height), share)
        self.x.copy_(self.x + factor * self.average + torch.randn_like(self.x) * deviation)

    def __call__(self, x: Tensor, chosen: Tensor, moves: Iterable[Move]) -> Tensor:
        """See `climb`."""
        self.x.copy_(x)
        self.chosen.copy_(chosen)
        self.average.zero_()  # of a chain that went astray it may be no number
        for number, (factor, deviation, share) in enumerate(moves):
            for kept, now in zip(
                self.move, (factor, deviation, share if number else 1), strict=True
            ):
                kept.fill_(now)
            self.graph.replay()
        return self.x.clone()
