"""Gradients of neurons by trained classifier."""

import importlib
from pathlib import Path

from bdlib.report.neurons_table import neurons


def ratio(value, ordered, after):
    return {"value": value, "hybrid": 1.0, "ordered": ordered, "layers": 3,
            "after": {"value": after, "hybrid": 1.0, "ordered": 0, "layers": 3}}  # fmt: skip


def repaired(make_record, name, after, changed=1, rate=0.1):
    return make_record(
        {
            "id": f"{name}{rate}",
            "attack.rate": rate,
            "attack.poisoned": 260 if rate else 0,
            "defense": {
                "name": name,
                "stage": "repair",
                "selection": "validation",
                "clean_budget": 9,
            },
            "metrics.neuron_ratio_clean": ratio(2.0, 1, after),
            "metrics.neuron_ratio_triggered": ratio(3.0, 3, after),
            "metrics.repaired": {"value": changed},
        }
    )


def test_a_row_a_classifier(make_record):
    records = [
        make_record(),
        repaired(make_record, "gn_ft", 0.5),
        repaired(make_record, "nad", 1.5),
        repaired(make_record, "clp", 3.0),  # changed nothing
        repaired(make_record, "anp", 9.0, changed=0),
        repaired(make_record, "clp", 3.0, rate=0.0),
    ]
    lines = [line for line in neurons(records).splitlines() if "resnet50" in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")][3:] for line in lines]
    assert rows == [
        ["260", "2.0 (1 of 3)", "3.0 (3 of 3)", "0.5 to 1.5"],
        ["0", "2.0 (1 of 3)", "3.0 (3 of 3)", ""],
    ]


def test_classifiers_of_other_attacks_are_rows_of_their_own(make_record):
    """The same trigger with another seed of the poison, and with another target: no range mixes them."""
    first, other, third = (repaired(make_record, "gn_ft", after) for after in (0.5, 4.0, 1.0))
    other["attack"] |= {"seed": first["attack"]["seed"] + 1}
    third["attack"] |= {"target": "right"}
    lines = [line for line in neurons([first, other, third]).splitlines() if "resnet50" in line]
    rows = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines}
    assert len(rows) == 3 and {row[-1] for row in rows} == {
        "0.5 to 0.5",
        "4.0 to 4.0",
        "1.0 to 1.0",
    }
    assert len({row[1:3] for row in rows}) == 3  # told apart by what a reader sees


def test_a_net_that_a_filter_went_before_is_not_the_poisoned_one(make_record):
    """It stands in no range of that one's, and gives the row no number."""
    plain, filtered = repaired(make_record, "gn_ft", 0.5), repaired(make_record, "both", 7.0)
    filtered["defense"]["after"] = {"name": "label_disagreement", "stage": "filter"}
    filtered["metrics"]["neuron_ratio_triggered"] = ratio(9.0, 0, 7.0)
    (line,) = (row for row in neurons([filtered, plain]).splitlines() if "resnet50" in row)
    assert "3.0 (3 of 3)" in line and line.endswith("| 0.5 to 0.5 |")


def test_nets_are_counted_by_kind(make_record, monkeypatch):
    """Poisoned ones alone, each once, whatever repaired it."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    tables = importlib.import_module("neurons_tables")
    small = repaired(make_record, "gn_ft", 0.5, rate=0.2)
    small["metrics"]["neuron_ratio_triggered"] = ratio(1.0, 3, 0.5)
    some = [repaired(make_record, name, 0.5) for name in ("gn_ft", "nad")]
    some += [small, repaired(make_record, "clp", 0.5, rate=0.0)]
    monkeypatch.setattr(tables, "AMONG", {"X": "keywords"})
    monkeypatch.setattr(tables.record, "read", lambda path: some)
    assert tables.counted() == "`resnet50` on keywords 1 of 2 (2)"
