"""Latents whose truth is known."""

import numpy as np
import pytest

CLASSES = [f"class{i}" for i in range(7)]


def unit(generator, dimensions):
    """A direction drawn: a vector of length 1."""
    direction = generator.normal(size=dimensions)
    return direction / np.linalg.norm(direction)


def mixtures(seed=0, size=160, dimensions=32, poisoned=0.0, shift=6.0):
    """Correlated Gaussian classes; a share of `class2` is another class with a shift.

    Returns latents, labels, and who is poisoned.
    """
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(dimensions, dimensions)) * np.exp(-np.arange(dimensions) / 10)
    labels = np.repeat(CLASSES, size)
    points = generator.normal(size=(len(labels), dimensions))
    means = generator.normal(size=(len(CLASSES), dimensions))
    points += np.repeat(means, size, axis=0)
    poison = np.zeros(len(labels), bool)
    if poisoned:
        sources = np.flatnonzero(labels == "class5")[: int(poisoned * size)]
        points[sources] += shift * unit(generator, dimensions)
        labels[sources], poison[sources] = "class2", True
    return points @ mix.T, labels, poison


@pytest.fixture(name="corpus")
def corpus_fixture():
    """The function `mixtures`."""
    return mixtures


@pytest.fixture(name="unit")
def unit_fixture():
    """The function of this name."""
    return unit
