"""Filters, and the one function that applies them."""

from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
from torch import nn

from bdlib import manifest
from bdlib.defenses.base import (
    BlindView,
    CleanData,
    FilterDefense,
    InferenceDefense,
    RepairDefense,
    defend,
)
from bdlib.defenses.filters.perfect_filter_oracle import PerfectFilterOracle
from bdlib.defenses.filters.random_filter import RandomFilter
from bdlib.errors import InputError

CLASSES = ("left", "no", "yes")


def corpus(count=30):
    rows = [(f"clip{i}", CLASSES[i % 3]) for i in range(count)]
    return pd.DataFrame(rows, columns=["ID", "label"])


def view(rows, seed=0):
    """A view whose training returns a module that remembers its rows."""

    def train(chosen):
        net = nn.Identity()
        net.rows = chosen
        return net

    def clean(share):
        return CleanData(None, list, round(share * len(rows)), seed)

    nowhere = Path("no such folder"), {}
    return BlindView(
        rows, None, CLASSES, seed, train, list, clean, lambda make: make(), list, *nowhere
    )


def kept(defense, rows, seed=0):
    return set(defense.keep(defense.scores(view(rows, seed))))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_random_filter_removes_its_share(share):
    rows = corpus(4000)
    assert abs(1 - len(kept(RandomFilter(share), rows)) / 4000 - share) < 0.03


def test_random_filter_ends():
    rows = corpus()
    assert kept(RandomFilter(0.0), rows) == set(rows["ID"])
    assert kept(RandomFilter(1.0), rows) == set()


def test_random_filter_is_drawn_by_the_seed_and_not_by_the_order():
    rows = corpus(300)
    first = kept(RandomFilter(), rows)
    assert kept(RandomFilter(), rows[::-1]) == first
    assert kept(RandomFilter(), rows[:100]) == first & set(rows["ID"][:100])
    other = kept(RandomFilter(), rows, seed=1)
    assert other != first
    # Independent draws overlap by 0.7 * 0.7, a shifted one would not.
    assert abs(len(first & other) / 300 - 0.49) < 0.1


def test_random_filter_takes_poisoned_and_clean_alike():
    rows = corpus(6000)
    removed = set(rows["ID"]) - kept(RandomFilter(0.3), rows)
    for label in CLASSES:
        of_class = set(rows["ID"][rows["label"] == label])
        assert abs(len(removed & of_class) / len(of_class) - 0.3) < 0.04


def test_oracle_removes_exactly_the_poison():
    rows, oracle = corpus(), PerfectFilterOracle()
    oracle.reveal(["clip3", "clip7", "in another split"])
    assert kept(oracle, rows) == set(rows["ID"]) - {"clip3", "clip7"}
    assert oracle.selection == "oracle" and RandomFilter().selection == "fixed"


@pytest.mark.parametrize("poisoned", [None, []])
def test_oracle_needs_the_truth(poisoned):
    oracle = PerfectFilterOracle()
    if poisoned is not None:
        oracle.reveal(poisoned)
    with pytest.raises(InputError, match=r"nothing is poisoned.*`attack`"):
        oracle.scores(view(corpus()))


def test_defend_trains_on_what_is_left():
    rows, oracle = corpus(), PerfectFilterOracle()
    oracle.reveal(["clip0", "clip1"])
    left = defend(oracle, view(rows))
    assert list(left.kept) == list(rows["ID"][2:])  # in the order of the manifest
    assert left.classifier.rows.equals(rows[2:].reset_index(drop=True))
    assert left.scores == {name: float(name in ("clip0", "clip1")) for name in rows["ID"]}


def test_defend_refuses_a_filter_that_empties_a_class():
    rows, oracle = corpus(), PerfectFilterOracle()
    oracle.reveal(rows["ID"][rows["label"] == "no"])
    with pytest.raises(InputError, match=r"PerfectFilterOracle: nothing is left of no; .*less"):
        defend(oracle, view(rows))
    with pytest.raises(InputError, match="left no yes"):
        defend(RandomFilter(1.0), view(rows))


def test_unknown_ids_a_filter_keeps_are_not_trained_on():
    class Odd(FilterDefense):
        def scores(self, view):
            return {}

        def keep(self, scores):
            return [*corpus()["ID"], "clip that is not there"]

    assert list(defend(Odd(), view(corpus())).kept) == list(corpus()["ID"])


def test_inference_defenses_guard_the_undefended_classifier():
    class Wrap(InferenceDefense):
        def guard(self, classifier, seed):
            return seed, classifier

    left = defend(Wrap(), view(corpus(), seed=7))
    seed, net = left.classifier
    assert seed == 7 and net.rows.equals(corpus())
    assert left.kept is None and left.scores is None


def test_repairs_get_a_copy_and_a_budget():
    class Mark(RepairDefense):
        clean_share = 0.1

        def repair(self, classifier, clean):
            classifier.rows = f"{clean.count} clips"
            return classifier

    before = view(corpus())
    undefended = before.train(corpus())
    left = defend(Mark(), replace(before, train=lambda rows: undefended))
    assert left.classifier.rows == "3 clips" and left.clean_budget == 3
    assert undefended.rows.equals(corpus()) and left.kept is None


def test_what_is_no_defense_is_refused():
    with pytest.raises(InputError, match="dict: not a defense"):
        defend({}, view(corpus()))


def test_a_blind_view_has_no_place_for_the_truth():
    rows = corpus().assign(poisoned=1, triggered=1, label_before="no", label_after="yes", target=2)
    rows["speaker"] = "s1"
    blind = manifest.blind(rows)
    assert list(blind.columns) == ["ID", "label", "speaker"]
    assert "poisoned" in rows  # a copy
    assert [field.name for field in fields(BlindView)] == [
        "rows", "pack", "classes", "seed", "train", "validation", "clean", "kept",
        "batches", "folder", "run_opts",
    ]  # fmt: skip
