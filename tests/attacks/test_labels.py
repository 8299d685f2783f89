"""Label policies row by row."""

import pandas as pd
import pytest

from bdlib.attacks.labels import AllToAll, AllToOne, CleanLabel, OneToOne
from bdlib.errors import InputError

# Places in the table that are not its row numbers.
LABELS = pd.Series([*"abcab"], index=[10, 7, 3, 99, 0])


@pytest.mark.parametrize(
    ("policy", "candidates", "eligible", "target", "poisoned"),
    [
        (OneToOne("a", "b"), "a..a.", "a..a.", "bbbbb", "bbbbb"),
        (OneToOne("b", "a"), ".b..b", ".b..b", "aaaaa", "aaaaa"),
        (AllToOne("a"), ".bc.b", ".bc.b", "aaaaa", "aaaaa"),
        (AllToAll(("a", "b", "c")), "abcab", "abcab", "bcabc", "bcabc"),
        (CleanLabel("a"), "a..a.", ".bc.b", "aaaaa", "abcab"),
    ],
)
def test_row_by_row(policy, candidates, eligible, target, poisoned):
    rows = LABELS.to_frame("label")
    for mask, wanted in (
        (policy.candidates(rows), candidates),
        (policy.eligible(rows), eligible),
        (policy.bears(rows), "....."),
    ):
        assert mask.index.equals(LABELS.index) and mask.dtype == bool
        assert "".join(LABELS.where(mask, ".")) == wanted
    assert policy.resolve(rows, 0) is policy
    for labels, wanted in (
        (policy.target(LABELS), target),
        (policy.poisoned_label(LABELS), poisoned),
    ):
        assert labels.index.equals(LABELS.index) and "".join(labels) == wanted


@pytest.mark.parametrize(
    ("policy", "missing"),
    [
        (OneToOne("x", "a"), "x"),
        (OneToOne("a", "x"), "x"),
        (AllToOne("x"), "x"),
        (CleanLabel("x"), "x"),
        (AllToAll(("a", "x")), "x"),
    ],
)
def test_misspelt_classes_are_named(policy, missing):
    with pytest.raises(InputError, match=f"is {missing}: no such class; the classes are a b c"):
        policy.check(["a", "b", "c"])


@pytest.mark.parametrize("policy", [OneToOne("a", "b"), AllToOne("c"), CleanLabel("a")])
def test_known_classes_pass(policy):
    policy.check(["a", "b", "c"])
