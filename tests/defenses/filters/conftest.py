"""Activations with planted poison, and views that are made of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bdlib.corpus import Batch
from bdlib.defenses.base import BlindView, CleanData

WIDTH = 40


class Recorded(torch.nn.Module):
    """A classifier whose input is its embedding: a batch carries activations for waveforms."""

    def __init__(self, n_classes):
        super().__init__()
        self.head = torch.nn.Linear(WIDTH, n_classes)
        torch.manual_seed(0)
        torch.nn.init.normal_(self.head.weight)

    def features(self, wavs, lens):
        return wavs

    def embed(self, features, lens):
        assert not self.training
        return features

    def forward(self, wavs, lens):
        return self.head(wavs)


class World:
    """Activations of a corpus: Gaussian classes, a share of one of them moved.

    `found` is (N, D), `labels` (N,), `poisoned` (N,) bool.
    """

    def __init__(self, sizes=(200, 200, 200, 200), poison=0.1, shift=8.0, seed=0):
        generator = np.random.Generator(np.random.PCG64(seed))
        names = [f"word{n}" for n in range(len(sizes))]
        means = 6 * generator.standard_normal((len(sizes), WIDTH))
        mixing = generator.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5 + np.eye(WIDTH)
        order = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
        self.labels = np.array(names)[order]
        noise = generator.standard_normal((len(order), WIDTH)) @ mixing
        self.poisoned = np.zeros(len(order), bool)
        target = np.flatnonzero(order == 0)
        self.poisoned[target[: round(poison * len(target))]] = True
        move = generator.standard_normal(WIDTH)
        move *= shift / np.linalg.norm(move)
        self.found = (means[order] + noise + np.outer(self.poisoned, move)).astype(np.float32)
        self.classes, self.ids = tuple(names), [f"u{n:04}" for n in range(len(order))]

    def rates(self, removed):
        """True-positive and false-positive rate of removed utterances (N,) bool or a list of IDs."""
        if not isinstance(removed, np.ndarray):
            removed = np.isin(self.ids, list(removed))
        hits = removed[self.poisoned].mean() if self.poisoned.any() else 0.0
        return float(hits), float(removed[~self.poisoned].mean())

    def view(self, seed=0, train=None):
        """A blind view; `train` gets the rows of every training."""
        rows = pd.DataFrame({"ID": self.ids, "label": self.labels})
        place = {name: number for number, name in enumerate(self.ids)}

        def batches(chosen, size=64):
            for start in range(0, len(chosen), size):
                part = chosen[start : start + size]
                numbers = [place[name] for name in part["ID"]]
                labels = [self.classes.index(label) for label in part["label"]]
                wavs = torch.from_numpy(self.found[numbers])
                yield Batch(list(part["ID"]), wavs, torch.ones(len(part)), torch.tensor(labels))

        def trained(chosen):
            if train is not None:
                return train(chosen)
            return Recorded(len(self.classes)).train()

        def clean(share):
            chosen = rows[~self.poisoned].groupby("label").head(round(share * 200))
            return CleanData(
                lambda size: list(batches(chosen, size)),
                lambda: batches(rows[~self.poisoned]),
                len(chosen),
                seed,
            )

        return BlindView(
            rows, None, self.classes, seed, trained, lambda: batches(rows[~self.poisoned]), clean,
            batches, Path("no such folder"), {},
        )  # fmt: skip


@pytest.fixture
def world():
    """The class above."""
    return World
