"""Filters, and what they leave."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from torch import nn

from bdlib import manifest
from bdlib.defenses.base import BlindView, CleanData, FilterDefense
from bdlib.defenses.filters.perfect_filter_oracle import PerfectFilterOracle
from bdlib.defenses.filters.random_filter import RandomFilter
from bdlib.errors import InputError
from bdlib.stages.defend import defend, kept_rows
from bdlib.stages.document import Document

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
    return BlindView(rows, None, CLASSES, seed, train, list, clean, list, *nowhere)


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


def left(defense):
    """The rows that the stage trains on."""
    seen = view(corpus())
    return kept_rows(defense, defense.scores(seen), seen.rows)


def test_what_is_left_is_trained_on():
    oracle = PerfectFilterOracle()
    oracle.reveal(["clip0", "clip1"])
    # In the order of the manifest, and numbered anew.
    assert left(oracle).equals(corpus()[2:].reset_index(drop=True))
    assert oracle.scores(view(corpus()))["clip0"] > oracle.scores(view(corpus()))["clip2"]


def test_a_filter_that_empties_a_class_is_refused():
    rows, oracle = corpus(), PerfectFilterOracle()
    oracle.reveal(rows["ID"][rows["label"] == "no"])
    with pytest.raises(InputError, match=r"PerfectFilterOracle: nothing is left of no; .*less"):
        left(oracle)
    with pytest.raises(InputError, match="left no yes"):
        left(RandomFilter(1.0))


def test_unknown_ids_a_filter_keeps_are_not_trained_on():
    class Odd(FilterDefense):
        def scores(self, view):
            return {}

        def keep(self, scores):
            return [*corpus()["ID"], "clip that is not there"]

    assert list(left(Odd())["ID"]) == list(corpus()["ID"])


def test_what_is_no_defense_is_refused(tmp_path):
    (tmp_path / "odd.yaml").write_text("defense: {}\n")
    document = Document(tmp_path / "odd.yaml")
    settings = {"train": {"batch_size": 8}}
    recipe = SimpleNamespace(
        defense=document, after=None, settings=settings, seed=0, run_options={}
    )
    with pytest.raises(InputError, match=r"odd\.yaml: dict is no defense"):
        defend(recipe, None)


def test_a_blind_view_has_no_place_for_the_truth():
    rows = corpus().assign(poisoned=1, triggered=1, label_before="no", label_after="yes", target=2)
    rows["speaker"] = "s1"
    blind = manifest.blind(rows)
    assert list(blind.columns) == ["ID", "label", "speaker"]
    assert "poisoned" in rows  # a copy
    assert [field.name for field in fields(BlindView)] == [
        "rows", "pack", "classes", "seed", "train", "validation", "clean",
        "batches", "folder", "run_opts",
    ]  # fmt: skip
