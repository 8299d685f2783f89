"""Who is drawn: orders, caps and splits that are the same on every machine."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from bdlib.errors import InputError


def rank(ids: Iterable[str], seed: int, purpose: str) -> list[str]:
    """IDs in an order drawn by `seed`, the same on every machine and library version.

    Ordered by sha256, so it depends neither on the order of the input nor on the other IDs, and
    the first 1 % are among the first 10 %.

    Example
    -------
    >>> rank(["b", "a", "c"], 0, "poison") == rank(["c", "b", "a"], 0, "poison")
    True
    """
    return sorted(
        ids, key=lambda name: hashlib.sha256(f"{purpose}|{seed}|{name}".encode()).digest()
    )


def cap(rows: pd.DataFrame, max_per_class: int | Mapping[str, int], seed: int = 0) -> pd.DataFrame:
    """At most `max_per_class` rows a class, drawn by `seed`; the order of the rows stays.

    A mapping caps the classes that it names, and keeps the others whole.

    Raises
    ------
    InputError
        If a cap is no positive whole number.
    """
    everywhere = not isinstance(max_per_class, Mapping)
    caps = dict.fromkeys(rows["label"], max_per_class) if everywhere else max_per_class
    for number in caps.values():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise InputError(
                f"`max_per_class` is {number}: give a whole number of clips, at least 1"
            )
    kept = [
        name
        for label, group in rows.groupby("label", sort=True)
        for name in rank(group["ID"], seed, "cap")[: caps.get(label)]
    ]
    return rows[rows["ID"].isin(kept)].reset_index(drop=True)


def share(rows: pd.DataFrame, of_each: float, seed: int = 0) -> pd.DataFrame:
    """This share of every class, rounded up, drawn by `seed`; the order of the rows stays."""
    kept = [
        name
        for _, group in rows.groupby("label", sort=True)
        for name in rank(group["ID"], seed, "share")[: math.ceil(of_each * len(group))]
    ]
    return rows[rows["ID"].isin(kept)].reset_index(drop=True)


def split(
    rows: pd.DataFrame,
    shares: dict[str, float],
    seed: int = 0,
    stratify: Sequence[str] = ("label",),
    group: str | None = None,
) -> dict[str, pd.DataFrame]:
    """Cut a manifest into named parts.

    Arguments
    ---------
    rows : pd.DataFrame
        The manifest.
    shares : dict[str, float]
        Name to share, for example ``{"train": 0.7, "valid": 0.15, "test": 0.15}``.
    seed : int
        Draws who goes where.
    stratify : Sequence[str]
        Columns within whose combinations the shares hold.
    group : str | None
        Column whose values (a speaker, a sentence) never appear in two parts; the shares then hold
        over its values, and `stratify` is not used.

    Raises
    ------
    InputError
        If the shares do not sum to 1 or a part comes out empty.
    """
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise InputError(f"`shares` are {shares}: they do not sum to 1; correct them")
    key = group or "ID"
    blocks = [rows] if group else [block for _, block in rows.groupby(list(stratify), sort=True)]
    part_of: dict[str, str] = {}
    counts = dict.fromkeys(shares, 0)
    for block in blocks:
        for name in rank(set(block[key]), seed, "split"):
            # To the part furthest behind its share, counted over all blocks: rounded block by
            # block, the small parts would get nothing of many small blocks.
            part = max(shares, key=lambda n: round(shares[n] * (len(part_of) + 1) - counts[n], 9))
            part_of[name] = part
            counts[part] += 1
    parts = {n: rows[rows[key].map(part_of) == n].reset_index(drop=True) for n in shares}
    for name, part in parts.items():
        if not len(part):
            raise InputError(
                f"the {name} split is empty; give more data or other shares than {shares}"
            )
    return parts
