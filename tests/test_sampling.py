"""Who is drawn: pinned orders, and shares that hold where blocks are small."""

import pandas as pd
import pytest

from bdlib.errors import InputError
from bdlib.sampling import cap, rank, share, split


def rows(classes=3, count=10):
    return pd.DataFrame(
        [(f"c{c}/{i:02}", f"c{c}", f"s{i}") for c in range(classes) for i in range(count)],
        columns=["ID", "label", "speaker"],
    )


def test_pinned_orders():
    """sha256 of purpose, seed and ID: a new Python, pandas or machine must not change them."""
    names = [f"u{i}" for i in range(8)]
    assert rank(names, 0, "poison") == ["u7", "u3", "u1", "u6", "u4", "u5", "u2", "u0"]
    assert rank(names, 1, "poison") == ["u2", "u0", "u4", "u6", "u5", "u7", "u3", "u1"]


def test_the_other_ids_do_not_change_the_order():
    names = [f"u{i}" for i in range(100)]
    few = names[::7]
    assert [name for name in rank(names, 4, "x") if name in few] == rank(few, 4, "x")


def test_a_seed_and_a_purpose_draw_independently():
    names = [f"u{i}" for i in range(4000)]
    first = set(rank(names, 0, "poison")[:2000])
    for seed, purpose in ((1, "poison"), (0, "cap")):
        shared = len(first & set(rank(names, seed, purpose)[:2000]))
        assert abs(shared - 1000) < 100


def test_cap_is_nested_leaves_small_classes_and_keeps_the_order():
    many = pd.concat([rows(2, 20), rows(3, 3).iloc[6:]]).sample(frac=1, random_state=0)
    two, five = cap(many, 2, seed=1), cap(many, 5, seed=1)
    assert five["label"].value_counts().to_dict() == {"c0": 5, "c1": 5, "c2": 3}
    assert set(two["ID"]) < set(five["ID"])
    assert list(five["ID"]) == [name for name in many["ID"] if name in set(five["ID"])]
    assert set(cap(many, 5, seed=2)["ID"]) != set(five["ID"])


SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}


def test_a_share_is_taken_of_every_class_and_is_nested():
    rows = pd.DataFrame({"ID": [f"u{i}" for i in range(110)], "label": ["a"] * 100 + ["b"] * 10})
    small, large = share(rows, 0.05), share(rows, 0.2)
    assert dict(small["label"].value_counts()) == {"a": 5, "b": 1}
    assert set(small["ID"]) < set(large["ID"]) and len(large) == 22
    assert list(large["ID"]) == [name for name in rows["ID"] if name in set(large["ID"])]
    assert share(rows, 0.0).empty and not small.equals(share(rows, 0.05, seed=1))


def test_every_row_goes_to_one_part_and_stays_itself():
    many = rows(4, 25)
    parts = split(many, SHARES, seed=3)
    assert list(parts) == list(SHARES)
    back = pd.concat(parts.values()).sort_values("ID", ignore_index=True)
    assert back.equals(many)
    for part in parts.values():
        assert list(part.index) == list(range(len(part)))


def test_shares_hold_over_many_small_blocks():
    """Blocks of 3: rounded one by one, 15 % of 3 would be nobody."""
    parts = split(rows(60, 3), SHARES, seed=0)
    assert [len(part) for part in parts.values()] == [126, 27, 27]


def test_shares_hold_within_the_columns_asked_for():
    parts = split(rows(5, 40), SHARES, seed=0)
    for part, wanted in zip(parts.values(), SHARES.values(), strict=True):
        assert part["label"].value_counts().between(40 * wanted - 2, 40 * wanted + 2).all()


def test_a_group_is_never_torn():
    parts = split(rows(3, 20), SHARES, seed=0, group="speaker")
    homes = {}
    for name, part in parts.items():
        for speaker in set(part["speaker"]):
            assert homes.setdefault(speaker, name) == name
    assert [len(part) for part in parts.values()] == [42, 9, 9]


def test_an_empty_part_is_named():
    with pytest.raises(InputError, match="the test split is empty; give more data"):
        split(rows(1, 3), {"train": 0.98, "test": 0.02})
