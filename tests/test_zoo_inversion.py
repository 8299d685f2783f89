"""What is counted of trigger inversion on the zoo."""

import importlib
import json
import math
from pathlib import Path

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parents[1] / "tools")
    zoo_inversion = importlib.import_module("zoo_inversion")


def test_the_lot_has_as_many_of_both_kinds():
    """Of one half, and no net whose backdoor did not take."""
    for half, count in zoo_inversion.DRAWN.items():
        drawn = zoo_inversion.lot(half)
        assert {row["half"] for row in drawn} == {half} and len(drawn) == 2 * count
        bad = [row for row in drawn if row["bad"]]
        assert len(bad) == count == sum(row["attack"] == "none" for row in drawn)


def test_the_worth_by_hand(tmp_path, monkeypatch):
    """Two nets stand out, one of them backdoored and at its target; the other two do not."""
    monkeypatch.setattr(zoo_inversion, "SEEN", tmp_path / "seen.jsonl")
    rows = [{"name": f"n{i}", "bad": i < 2, "target": "yes" if i < 2 else ""} for i in range(4)]
    monkeypatch.setattr(zoo_inversion, "lot", lambda half: rows)
    logs = {"n0": (-9, 0, 0, 0), "n1": (0, 0, 0, 0), "n2": (-0.8, 0, 0, 0), "n3": (0, 0, 0, 0)}
    with (tmp_path / "seen.jsonl").open("w") as file:
        for name, values in logs.items():
            sizes = dict(zip(("yes", "no", "up", "on"), map(math.exp, values), strict=True))
            line = {"name": name, "form": "mask", "steps": 1, "sizes": sizes}
            file.write(json.dumps(line) + "\n")
    (told,) = zoo_inversion.worth("development")
    assert told["auroc_gap"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert told["above_2"] == {"found": 1, "with_the_right_target": 1, "false_alarms": 1}
    assert told["above_3"] == {"found": 1, "with_the_right_target": 1, "false_alarms": 0}
