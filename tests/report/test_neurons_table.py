"""Gradients of neurons by trained classifier."""

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
