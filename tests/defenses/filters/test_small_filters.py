"""Filters that train a small net of their own, on tones with a click: each finds its kind of poison."""

import numpy as np
import pandas as pd
import pytest
import torch

from bdlib.corpus import Batches
from bdlib.defenses.base import BlindView, CleanData
from bdlib.defenses.filters.bootstrapping import Bootstrapping
from bdlib.defenses.filters.one_window import OneWindow, alone
from bdlib.defenses.small_net import p_values
from bdlib.errors import InputError
from bdlib.pack import Pack

RATE, WIDTH = 8000, 4000
TONES = {"low": 300, "middle": 900, "high": 2400}
CLASSES = tuple(sorted(TONES))


def corpus(count, seed, prefix, poisoned=0, click=False):
    """Tones in turn, as pack and rows; the first low ones are called high, some with a click at the start."""
    draws = np.random.default_rng(seed)
    time = np.arange(WIDTH) / RATE
    labels = [list(TONES)[n % 3] for n in range(count)]
    waves = []
    for number, label in enumerate(labels):
        # What tells the words lies in the last third; before it all sound alike.
        wave = np.where(
            time > 0.33, np.sin(2 * np.pi * TONES[label] * draws.uniform(0.93, 1.07) * time), 0
        )
        wave = 0.3 * wave + 0.02 * draws.standard_normal(WIDTH)
        if number < 3 * poisoned and label == "low":
            labels[number] = "high"
            if click:
                wave[:400] += 0.5 * np.random.default_rng(99).standard_normal(400)
        waves.append(np.round(32767 * wave.clip(-1, 1)).astype(np.int16))
    ids = [f"{prefix}{n:03}" for n in range(count)]
    pack = Pack(np.concatenate(waves), np.arange(count + 1) * WIDTH, ids, RATE, [], "x")
    return pack, pd.DataFrame({"ID": ids, "label": labels})


def view(poisoned, click=False):
    """120 clips to train on, 60 to validate, 90 that are clean."""
    (pack, rows), (other, valid), (known, clean) = (
        corpus(120, 0, "t", poisoned, click), corpus(60, 1, "v"), corpus(90, 2, "c"),
    )  # fmt: skip

    def budget(share):
        return CleanData(lambda size: Batches(known, clean, CLASSES, size, 0.5), None, 90, 0)

    return BlindView(
        rows, pack, CLASSES, 0, None, lambda: Batches(other, valid, CLASSES, 30, 0.5), budget,
        lambda chosen: Batches(pack, chosen, CLASSES, 30, 0.5), None, None,
    )  # fmt: skip


POISON = {f"t{n:03}" for n in range(0, 24, 3)}


@pytest.mark.parametrize(
    ("defense", "click"),
    [(Bootstrapping(epochs=10), False), (OneWindow(window=0.1, epochs=6), True)],
)
def test_poison_is_removed_and_little_else(defense, click):
    scores = defense.scores(view(8, click))
    removed = set(scores) - set(defense.keep(scores))
    assert len(removed & POISON) >= 7 and len(removed - POISON) <= 10
    assert all(0 <= score < 1 for score in scores.values())


def test_a_window_answers_for_the_clip_that_it_is_of():
    """The label of a clip is asked of its windows, and the surest of them answers."""

    def net(wavs, lens):
        assert wavs.shape[1] == 800 and len(lens) == len(wavs)
        loud = wavs.abs().amax(1)  # a loud window says `low`
        return torch.stack([torch.zeros_like(loud), 10 * loud - 5, torch.zeros_like(loud)], 1)

    pack, rows = corpus(6, 0, "t", 2, click=True)
    shares = alone(net, Batches(pack, rows, CLASSES, 6, 0.5), 0.1, RATE)
    quiet = np.isin(rows["label"], "low")
    assert shares.shape == (6,) and (shares[~quiet] > 0.45).all() and (shares[quiet] < 0.45).all()


def test_p_values_count_the_clip_itself():
    assert p_values(np.array([0.0, 5.0, 9.0]), np.array([1.0, 5.0, 6.0])).tolist() == [
        1,
        0.75,
        0.25,
    ]


def test_a_p_value_at_the_rate_does_not_pass():
    scores = {"at": 1 - 0.05, "above": 1 - 0.06, "below": 1 - 0.04}
    assert OneWindow(false_positive_rate=0.05).keep(scores) == ["above"]


@pytest.mark.parametrize(
    ("defense", "settings"),
    [
        (Bootstrapping, {"shares": []}),
        (Bootstrapping, {"net_lr": 2}),
        (OneWindow, {"window": 0}),
        (OneWindow, {"false_positive_rate": 1.5}),
    ],
)
def test_settings_out_of_range_are_refused(defense, settings):
    with pytest.raises(InputError, match=f"`{next(iter(settings))}`"):
        defense(**settings)
