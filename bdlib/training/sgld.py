"""Negative samples for energy-based training: Langevin dynamics with replay buffers.

As in the public code of the authors of MVJ (gard-clsp, sliding-window JEM), after Grathwohl et al.
(2020). Everything lives on the device; nothing in a chain waits for it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bdlib.training.langevin import Move, Recording, climb, recordable

CALLS = 33  # of the sampler before a tuned setting is decided
FACTORS = (0.9, 0.9, 0.995, 0.95)  # by which step, noise divisor, decay and momentum are tried
HEIGHTS = {  # of logits (S, C) and the classes (S,) that are asked for
    "free": lambda logits, chosen: logits.logsumexp(1),
    "classes": lambda logits, chosen: logits.gather(1, chosen[:, None]).squeeze(1),
}


@dataclass(frozen=True)
class SgldSettings:
    """How samples are drawn.

    Arguments
    ---------
    samples : int
        Drawn in each training step (6).
    steps : int
        Langevin steps before the first epoch; each epoch adds `more_steps` (20, then 21, 22, ...).
    more_steps : int
        See `steps`.
    step_size : float
        alpha (0.2): x moves by alpha / 2 times the gradient.
    noise_divisor : float
        The noise has deviation sqrt(alpha) / `noise_divisor` (100; 1 is Eq. 6 of the paper).
    decay : float
        Factor of alpha after each step (1).
    momentum : float
        Share of the old gradient in its running average (0.1; 0 switches it off).
    adaptive : bool
        Tune the four settings above while training.
    unconditional : float
        Probability that a training step draws from p(x) instead of p(x|y) (0.1).
    restart : float
        Probability that a sample starts anew from noise instead of the buffer (0.05).
    buffer : int
        Samples kept for p(x) (1000).
    class_buffer : int
        Samples kept for each class (750 for 12 classes: 9000 in all).
    uniform_start : bool
        Start anew from U(-1, 1), as JEM, instead of N(0, 1).
    """

    samples: int = 6
    steps: int = 20
    more_steps: int = 1
    step_size: float = 0.2
    noise_divisor: float = 100.0
    decay: float = 1.0
    momentum: float = 0.1
    adaptive: bool = True
    unconditional: float = 0.1
    restart: float = 0.05
    buffer: int = 1000
    class_buffer: int = 750
    uniform_start: bool = False


class Tuner(nn.Module):
    """Coordinate search over the four settings, one at a time, the step size first.

    Each call tries the active setting times its factor, as it is, or divided by it. After `CALLS`
    calls the choice with the highest mean logsumexp of the final samples stays, and another
    setting is drawn. State is in buffers, so that checkpoints carry it. All but the sums of heights
    stays on the CPU, which reads it in each call and must not wait for a device.
    """

    def __init__(self, settings: SgldSettings, caution: float) -> None:
        super().__init__()
        self.adaptive, self.caution = settings.adaptive, caution
        start = (settings.step_size, settings.noise_divisor, settings.decay, settings.momentum)
        self.register_buffer("values", torch.tensor(start, dtype=torch.float64))
        self.register_buffer("active", torch.tensor(0))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("counts", torch.zeros(3))
        self.register_buffer("sums", torch.zeros(3))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Tuner":
        self.sums = fn(self.sums)
        return self

    def propose(self) -> tuple[list[float], int]:
        """The four settings to use now, and which of the three choices they are."""
        values, choice = self.values.tolist(), 1
        if self.adaptive:
            choice = int(torch.randint(3, ()))
            active = int(self.active)
            values[active] *= FACTORS[active] ** (1 - choice)
        step, divisor, decay, momentum = values
        return [step * self.caution, divisor, min(decay, 1.0), min(momentum, 0.9)], choice

    def report(self, choice: int, height: Tensor) -> None:
        """Tell how high, by mean logsumexp, the samples of a choice ended (scalar tensor)."""
        if not self.adaptive:
            return
        self.counts[choice] += 1
        self.sums[choice] += height.to(self.sums)
        self.calls += 1
        if int(self.calls) < CALLS:
            return
        # A choice never drawn must not win: 0 / 0 is not a height.
        means = torch.where(self.counts > 0, self.sums.cpu() / self.counts, -torch.inf)
        active = int(self.active)
        self.values[active] *= FACTORS[active] ** (1 - int(means.argmax()))
        self.values[2:].clamp_(max=self.values.new_tensor([1.0, 0.95]))
        self.calls.zero_()
        self.counts.zero_()
        self.sums.zero_()
        self.active.copy_(torch.randint(4, ()))


def last_equal(keys: Tensor) -> Tensor:
    """For each of some whole numbers (S,) the last place where the same one stands, (S,).

    Example
    -------
    >>> last_equal(torch.tensor([7, 2, 7, 5])).tolist()
    [2, 1, 2, 3]
    """
    order = torch.arange(1, len(keys) + 1, device=keys.device)
    return ((keys[:, None] == keys) * order).argmax(1)


class Sampler(nn.Module):
    """Draws samples from p(x) and p(x|y), and remembers where the chains ended.

    Arguments
    ---------
    settings : SgldSettings
        How.
    n_classes : int
        C.
    shape : tuple[int, int]
        Frames and mels of a view.
    caution : float
        Factor of the step size after a divergence; not tuned, and not in checkpoints.

    `recorded` tells whether a GPU records a step and plays it again, which is faster.
    """

    def __init__(
        self, settings: SgldSettings, n_classes: int, shape: tuple[int, int], caution: float = 1.0
    ) -> None:
        super().__init__()
        self.settings, self.steps = settings, settings.steps
        self.tuners = nn.ModuleDict(
            {kind: Tuner(settings, caution) for kind in ("free", "classes")}
        )
        self.recorded, self._recordings = True, {}
        self.register_buffer("free", self._noise(torch.empty(settings.buffer, *shape)))
        kept = torch.empty(n_classes, settings.class_buffer, *shape)
        self.register_buffer("classes", self._noise(kept))

    def start_epoch(self, epoch: int) -> None:
        """Set the number of steps of an epoch, counted from 1."""
        self.steps = self.settings.steps + self.settings.more_steps * epoch

    def draw(self, logits: Callable[[Tensor], Tensor], labels: Tensor) -> Tensor:
        """Samples for one training step.

        Arguments
        ---------
        logits : Callable[[Tensor], Tensor]
            Views (S, frames, mels) to logits (S, C); heights are taken of them in float32.
        labels : Tensor
            (B,) classes of the batch; p(x|y) is asked for labels drawn from them.

        Returns
        -------
        Tensor
            (S, frames, mels), detached.
        """
        count = self.settings.samples
        if float(torch.rand(())) < self.settings.unconditional:
            places = torch.randperm(self.settings.buffer)[:count].to(self.free.device)
            start = self._restarted(self.free[places])
            end = self._chain(start, places, logits, "free")
            self.free[places] = end
        else:
            chosen = labels[torch.randint(len(labels), (count,)).to(labels.device)]
            places = torch.randint(self.settings.class_buffer, (count,)).to(labels.device)
            start = self._restarted(self.classes[chosen, places])
            end = self._chain(start, chosen, logits, "classes")
            # Of two chains from one place the last is kept, in whatever order a device writes.
            last = last_equal(chosen * self.settings.class_buffer + places)
            self.classes[chosen, places] = end[last]
        return end

    def _restarted(self, kept: Tensor) -> Tensor:
        fresh = torch.rand(len(kept), 1, 1, device=kept.device) < self.settings.restart
        return torch.where(fresh, self._noise(torch.empty_like(kept)), kept)

    def _noise(self, x: Tensor) -> Tensor:
        """Fill with what a chain starts from."""
        return x.uniform_(-1, 1) if self.settings.uniform_start else x.normal_()

    def _chain(self, x: Tensor, chosen: Tensor, logits: Callable, kind: str) -> Tensor:
        """Climb the height of a kind from x, as long as the tuner says."""
        values, choice = self.tuners[kind].propose()

        def height(x: Tensor, chosen: Tensor) -> Tensor:
            return HEIGHTS[kind](logits(x).float(), chosen)

        moves = self._moves(*values)
        if self.recorded and recordable(x):
            if kind not in self._recordings:
                self._recordings[kind] = Recording(x, chosen, height)
            x = self._recordings[kind](x, chosen, moves)
        else:
            x = climb(x, chosen, height, moves)
        if self.tuners[kind].adaptive:
            with torch.no_grad():
                self.tuners[kind].report(choice, logits(x).float().logsumexp(1).mean())
        return x

    def _moves(self, step: float, divisor: float, decay: float, momentum: float) -> Iterator[Move]:
        for _ in range(self.steps):
            yield 0.5 * step, step**0.5 / divisor, 1 - momentum
            step *= decay
