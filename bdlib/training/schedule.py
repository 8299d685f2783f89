"""Learning rates as functions of the step, so that nothing about them must be saved or resumed.

Each is made with the highest rate as its first argument, the `lr` of the recipe.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """`lr` throughout."""

    lr: float

    def __call__(self, step: int, total: int) -> float:
        """Rate at optimiser step `step` (from 0) of `total`."""
        return self.lr


@dataclass(frozen=True)
class Linear:
    """From `lr` to `last` times `lr` in a straight line (SpeechBrain's x-vector recipe)."""

    lr: float
    last: float = 0.1

    def __call__(self, step: int, total: int) -> float:
        """Rate at optimiser step `step` (from 0) of `total`."""
        return self.lr * (1 + (self.last - 1) * step / max(total - 1, 1))


@dataclass(frozen=True)
class OneCycle:
    """Cosine up to `lr` over the first `rise` of all steps, cosine down to nearly zero after.

    Example
    -------
    >>> schedule = OneCycle(lr=0.003)
    >>> max(schedule(step, 100) for step in range(100)) == schedule(30, 100) == 0.003
    True
    """

    lr: float
    rise: float = 0.3
    start_factor: float = 0.04

    def __call__(self, step: int, total: int) -> float:
        """Rate at optimiser step `step` (from 0) of `total`."""
        top = self.rise * total
        if step < top:
            share, low = step / top, self.start_factor
        else:
            share, low = 1 - (step - top) / max(total - top, 1), 1e-4
        return self.lr * (low + (1 - low) * (1 - math.cos(math.pi * share)) / 2)


@dataclass(frozen=True)
class Staircase:
    """Linear warm-up to `lr`, then times `factor` at each milestone, all as shares of the run.

    The defaults are those of MVJ's public configuration: 1000 of 26 x 1336 steps, and epochs
    5, 8, ..., 23 of 26.
    """

    lr: float
    warmup: float = 1000 / (26 * 1336)
    milestones: tuple[float, ...] = tuple(epoch / 26 for epoch in range(5, 24, 3))
    factor: float = 0.6

    def __call__(self, step: int, total: int) -> float:
        """Rate at optimiser step `step` (from 0) of `total`."""
        share = (step + 1) / total
        passed = sum(step >= milestone * total for milestone in self.milestones)
        warm = min(share / self.warmup, 1.0) if self.warmup else 1.0
        return self.lr * warm * self.factor**passed


@dataclass(frozen=True)
class Cyclic:
    """`cycles` triangles up to `lr` (SpeechBrain's ECAPA recipe), sized to the run."""

    lr: float
    cycles: int = 2
    low: float = 1e-8

    def __call__(self, step: int, total: int) -> float:
        """Rate at optimiser step `step` (from 0) of `total`."""
        position = step * self.cycles / total % 1
        return self.low + (self.lr - self.low) * (1 - abs(2 * position - 1))
