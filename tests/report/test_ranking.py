"""Which repair comes first, over classifiers that all of them met."""

from bdlib.report.ranking import brief, build


def rates(accuracy, success):
    return {"clean_accuracy": {"value": accuracy}, "attack_success_rate": {"value": success}}


def records_of(make_record, found):
    """By repair and seed: clean accuracy and attack success rate."""
    return [
        make_record(
            {
                "seed": seed,
                "metrics": rates(*values),
                "defense": repair
                and {"name": repair, "stage": "repair", "selection": "validation",
                     "clean_budget": 9, "settings": {}},
            }
        )
        for (repair, seed), values in found.items()
    ]  # fmt: skip


def test_ranks_by_hand(make_record):
    found = {
        (None, 0): (0.9, 1.0), ("gn_ft", 0): (0.9, 0.1), ("clp", 0): (0.9, 0.5),
        ("nad", 0): (0.9, 0.5), (None, 1): (0.8, 0.9), ("gn_ft", 1): (0.7, 0.9),
        ("clp", 1): (0.8, 0.15), ("nad", 1): (0.8, 0.9), ("anp", 1): (0.8, 0.0),
    }  # fmt: skip
    (table,) = build(records_of(make_record, found))
    assert table.title.startswith("Repairs of 2 classifiers;")
    (grid,) = table.grids
    assert grid.rows == (
        ("clp", "1.75", "1 of 2", "81.2", "62.5", "0.0", "1 of 2", "not told"),
        ("gn_ft", "2.00", "1 of 2", "70.0", "45.0", "5.0", "1 of 2", "not told"),
        ("nad", "2.25", "0 of 2", "62.5", "25.0", "0.0", "0 of 2", "not told"),
    )
    assert brief(table).grids[0].rows[0] == ("clp", "1.75", "62.5", "0.0", "1 of 2", "not told")


def test_most_pairs_are_compared(make_record):
    """Three repairs on the three classifiers that all met, not two on the four that two met."""
    met = {"gn_ft": (0, 1, 2, 3, 4), "clp": (0, 1, 2, 3, 5), "nad": (0, 1, 2, 4, 5)}
    found = {(None, seed): (0.9, 1.0) for seed in range(6)}
    found |= {(name, seed): (0.9, 0.1) for name, seeds in met.items() for seed in seeds}
    (table,) = build(records_of(make_record, found))
    assert table.title.startswith("Repairs of 3 classifiers;") and len(table.grids[0].rows) == 3


def test_one_repair_is_not_ranked(make_record):
    found = {(None, 0): (0.9, 1.0), ("gn_ft", 0): (0.9, 0.1)}
    assert build(records_of(make_record, found)) == [] == build([])


def test_what_was_not_poisoned_is_not_ranked(make_record):
    found = {(name, 0): (0.9, 0.1) for name in (None, "gn_ft", "clp")}
    made = records_of(make_record, found)
    assert build(made)
    for record in made:
        record["attack"]["rate"] = 0
    assert not build(made)


def test_repairs_of_other_classifiers_are_not_compared(make_record):
    """As many are not the same ones: nad met the second and the third, the others the first two."""
    found = {(None, seed): (0.9, 1.0) for seed in range(3)}
    found |= {(name, seed): (0.9, 0.1) for name in ("gn_ft", "clp") for seed in (0, 1)}
    found |= {("nad", seed): (0.9, 0.0) for seed in (1, 2)}
    (table,) = build(records_of(make_record, found))
    assert table.title.startswith("Repairs of 2 classifiers;")
    assert [row[:3] for row in table.grids[0].rows] == [
        ("clp", "1.50", "2 of 2"),
        ("gn_ft", "1.50", "2 of 2"),
    ]


def test_a_repair_that_met_a_classifier_more_hides_none_of_the_others(make_record):
    found = {(None, seed): (0.9, 1.0) for seed in range(3)}
    found |= {(name, seed): (0.9, 0.1) for name in ("gn_ft", "clp") for seed in (0, 1)}
    before = build(records_of(make_record, found))
    found["clp", 2] = (0.9, 0.9)
    assert build(records_of(make_record, found)) == before
    assert before[0].title.startswith("Repairs of 2 classifiers;")
    found[None, 3], found["gn_ft", 3] = (0.9, 1.0), (0.9, 0.2)
    assert build(records_of(make_record, found)) == before


def test_the_budget_of_a_filter_is_no_budget_of_repairs(make_record):
    found = {(None, 0): (0.9, 1.0), ("gn_ft", 0): (0.9, 0.1), ("clp", 0): (0.9, 0.5)}
    records = records_of(make_record, found)
    records[1]["defense"]["settings"] = {"clean_share": 0.05}
    (alone,) = build(records)
    settings = {"clean_share": 0.1}
    records.append(
        make_record(
            {"defense": {"name": "scan", "stage": "filter", "selection": "fixed", "clean_budget": 9,
                         "settings": settings}}
        )
    )  # fmt: skip
    assert build(records) == [alone]


def test_a_net_that_was_trained_again_is_not_among_those_of_a_budget(make_record):
    """CLP, which takes no clean clips, met it, too; the repairs of the first net stay comparable."""
    found = {(None, 0): (0.9, 1.0), ("gn_ft", 0): (0.9, 0.1), ("clp", 0): (0.9, 0.5)}
    records = records_of(make_record, found)
    records[1]["defense"]["settings"] = {"clean_share": 0.05}
    again = records_of(make_record, {(None, 0): (0.9, 0.8), ("clp", 0): (0.9, 0.3)})
    for some, time in ((records, "19:07"), (again, "21:11")):
        for record in some:
            record["parts"] = {"training": {"time": time}}
    assert build(records + again) == build(records) and len(build(records)) == 1


def test_a_repair_of_another_training_is_ranked_and_counted(make_record):
    """Else the classifier would be left out without a word."""
    found = {(None, seed): (0.9, 1.0) for seed in (0, 1)}
    found |= {(name, seed): (0.9, 0.1) for name in ("gn_ft", "clp") for seed in (0, 1)}
    records = records_of(make_record, found)
    (before,) = build(records)
    for record in records:
        again = record["defense"] and (record["defense"]["name"], record["seed"]) == ("gn_ft", 1)
        record["parts"] = {"training": {"time": "21:11" if again else "19:07"}}
    (table,) = build(records)
    assert table.title.startswith("Repairs of 2 classifiers;") and table.grids == before.grids
    assert table.notes[:-1] == before.notes and table.notes[-1].startswith("1 of the 4 pairs")


def test_the_first_seed_is_ranked_alone_where_more_repairs_met_it(make_record):
    """Else repairs with more seeds would hide the others, or the others the seeds."""
    found = {(None, seed): (0.9, 1.0) for seed in range(3)}
    found |= {(name, seed): (0.9, 0.1) for name in ("gn_ft", "clp") for seed in range(3)}
    found |= {("nad", 0): (0.9, 0.5), ("anp", 0): (0.9, 0.6)}
    every, first = build(records_of(make_record, found))
    assert every.title.startswith("Repairs of 3 classifiers;") and len(every.grids[0].rows) == 2
    assert first.title.startswith("Repairs of 1 classifiers, seed 0 alone;")
    assert len(first.grids[0].rows) == 4
    found |= {(name, seed): (0.9, 0.5) for name in ("nad", "anp") for seed in range(3)}
    (table,) = build(records_of(make_record, found))
    assert table.title.startswith("Repairs of 3 classifiers;") and len(table.grids[0].rows) == 4
