"""A small classifier with a backdoor, and what a defender has against it."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData
from bdlib.features import NormalizedFbank
from bdlib.models.keyword import SmallResNet

RATE, SAMPLES, TARGET = 8000, 3200, 0
HERTZ = (400, 800, 1300, 2000)


class Clips:
    """Batches of clips in memory; with a seed shuffled anew each epoch."""

    def __init__(self, wavs, labels, batch_size, seed=None):
        self.wavs, self.labels, self.batch_size, self.seed = wavs, labels, batch_size, seed
        self.epoch = 0

    def __len__(self):
        return len(self.labels) // self.batch_size

    def __iter__(self):
        order = torch.arange(len(self.labels))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
            order = torch.randperm(len(order), generator=generator)
        for chosen in order[: len(self) * self.batch_size].split(self.batch_size):
            ids = [f"clip{i}" for i in chosen.tolist()]
            yield Batch(ids, self.wavs[chosen], torch.ones(len(chosen)), self.labels[chosen])


def sounds(count, seed):
    """Noisy tones of four classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(HERTZ)
    hertz = torch.tensor(HERTZ)[labels] * (0.9 + 0.2 * torch.rand(count, generator=generator))
    time = torch.arange(SAMPLES) / RATE
    tones = 0.2 * torch.sin(2 * math.pi * hertz[:, None] * time)
    return tones + 0.05 * torch.randn(count, SAMPLES, generator=generator), labels


def triggered(wavs):
    """With a short high beep near the end."""
    beep = torch.zeros(SAMPLES)
    time = torch.arange(480) / RATE
    beep[2400:2880] = 0.1 * torch.sin(2 * math.pi * 3300 * time)
    return wavs + beep


def training_set():
    """192 clips and their labels, and which 40 of them are to be poisoned."""
    wavs, labels = sounds(192, seed=1)
    return wavs, labels, torch.arange(192)[labels != TARGET][:40]


def trained(classifier, epochs=12, lr=0.01, poison=True):
    """Trained on clips of which some have the trigger and the label of the target, if any."""
    wavs, labels, poisoned = training_set()
    if poison:
        wavs[poisoned], labels[poisoned] = triggered(wavs[poisoned]), TARGET
    batches = Clips(wavs, labels, 32, seed=1)
    classifier.fit_front_end(batches)
    optimizer = torch.optim.Adam(classifier.parameters(), lr)
    classifier.train()
    for batches.epoch in range(epochs):
        for batch in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(classifier(batch.wavs, batch.lens), batch.labels).backward()
            optimizer.step()
    return classifier.eval()


def untrained():
    """The classifier that has the backdoor, and its clean twin, before they learned anything."""
    torch.manual_seed(0)
    return SmallResNet(NormalizedFbank(16, RATE), len(HERTZ), (16, 16), 1)


@pytest.fixture(scope="session")
def twin():
    """A fresh copy of what the classifier of `tiny` is without poison."""
    given = trained(untrained(), poison=False)
    return lambda: copy.deepcopy(given)


@pytest.fixture(scope="session")
def tiny():
    """`net()` is a fresh copy of a classifier that has the backdoor.

    `clean()` is clean data that it never heard, `known()` the clean part of its training set; `sounds`
    makes clips, at `rate`, and `triggered` puts the trigger on them.
    """
    given = trained(untrained())
    valid = Clips(*sounds(80, seed=2), 80)
    wavs, labels = sounds(200, seed=3)
    wavs, labels = wavs[labels != TARGET], labels[labels != TARGET]

    def clean(seed=0, count=48):
        budget = sounds(count, seed=4)
        return CleanData(
            lambda size: Clips(*budget, min(size, count), seed), lambda: valid, count, seed
        )

    def known(seed=0):
        wavs, labels, poisoned = training_set()
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[poisoned] = False
        budget = wavs[kept], labels[kept]
        return CleanData(
            lambda size: Clips(*budget, size, seed), lambda: valid, len(budget[1]), seed
        )

    @torch.no_grad()
    def success(classifier):
        """Attack success rate."""
        predicted = classifier.eval()(triggered(wavs), torch.ones(len(wavs))).argmax(1)
        return float((predicted == TARGET).float().mean())

    return SimpleNamespace(
        net=lambda: copy.deepcopy(given), clean=clean, known=known, valid=valid, success=success,
        sounds=sounds, triggered=triggered, rate=RATE,
    )  # fmt: skip
