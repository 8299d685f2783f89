"""Which of the two clusters of a poisoned class is the poison; VAE-PLS listens to both."""

import numpy as np

from bdlib.defenses.filters.poison_likelihood import surprise

CLEARLY_SMALL = 0.35  # share below which a cluster is an intruder (ART's rule of relative size)


def smaller(second: np.ndarray) -> np.ndarray:
    """(n,) bool: the members of the smaller cluster, the second one where they are equal."""
    return second if second.sum() * 2 <= len(second) else ~second


def stranger(inside: np.ndarray, second: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) bool: the members of the cluster that the other classes explain worse.

    The paper listens to both clusters. This listens in its place: no other class has the trigger.

    Arguments
    ---------
    inside : np.ndarray
        (n, D) latents of a class.
    second : np.ndarray
        (n,) bool, its clusters.
    others : np.ndarray
        (m, D) latents of all other clips.
    """
    scale = others.std(0) + 1e-12
    inside, others = inside / scale, others / scale
    if not second.any() or second.all():
        return smaller(second)
    return (
        second if surprise(others, inside[second]) > surprise(others, inside[~second]) else ~second
    )


def small_or_strange(inside: np.ndarray, second: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) bool: the `smaller` cluster if it is below `CLEARLY_SMALL`, else the `stranger`.

    Arguments as in `stranger`.
    """
    small = smaller(second)
    return small if small.mean() < CLEARLY_SMALL else stranger(inside, second, others)
