"""Matrices of repairs: pairs of records, DER, and what stands where."""

import pytest

from bdlib.report.matrix import DER, build, defense_effectiveness, rated
from bdlib.report.ranking import build as ranks
from bdlib.report.table import markdown


def rates(accuracy, success):
    return {
        "clean_accuracy": {"value": accuracy},
        "attack_success_rate": {"value": success},
        "robust_accuracy": {"value": 1 - success},
    }


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((0.9, 1.0), (0.9, 1.0), 0.5),
        ((0.9, 1.0), (0.9, 0.0), 1.0),
        ((0.9, 1.0), (0.7, 0.4), 0.7),
        ((0.9, 0.5), (0.95, 0.8), 0.5),  # neither a gain in accuracy nor a rise of ASR counts
        ((0.9, 0.5), (0.4, 0.8), 0.25),
    ],
)
def test_der_by_hand(before, after, expected):
    assert defense_effectiveness(rates(*before), rates(*after)) == pytest.approx(expected)


def test_der_needs_an_attack():
    clean = {"clean_accuracy": {"value": 0.9}}
    assert defense_effectiveness(clean, clean) is None


@pytest.fixture
def measured(make_record):
    """A function: repair (None for none), seed, accuracy, ASR in, a record out."""

    def make(repair, seed, accuracy, success, changes=None, **settings):
        defense = repair and {
            "name": repair, "stage": "repair", "selection": "validation", "clean_budget": 9,
            "settings": settings,
        }  # fmt: skip
        base = {"defense": defense, "seed": seed, "metrics": rates(accuracy, success)}
        return make_record({**base, **(changes or {})})

    return make


def test_each_repair_is_rated_by_the_classifier_it_repaired(measured):
    other = {"model.settings": {"width": 2}}
    records = [
        measured(None, 0, 0.9, 1.0),
        measured(None, 1, 0.8, 0.6),
        measured("gn_ft", 0, 0.9, 0.2),
        measured("gn_ft", 1, 0.7, 0.2),
        measured("gn_ft", 2, 0.7, 0.2),  # was never measured undefended
        measured("gn_ft", 0, 0.9, 0.2, other),
        measured("gn_ft", 0, 0.9, 0.2, {"status": "failed"}),
    ]
    found = [record["metrics"].get(DER, {}).get("value") for record in rated(records)]
    assert found == [None, None, pytest.approx(0.9), pytest.approx(0.65), None, None]
    assert DER not in records[2]["metrics"]  # the records stay as they are


def test_a_matrix_for_each_budget(measured):
    """What needs no clean data stands in each; what is held out has classifiers of its own."""
    apart = {"model.settings": {"train": {"held_out": 0.2}}}
    records = [
        measured(None, 0, 0.9, 1.0),
        measured(None, 0, 0.9, 1.0, {"attack.name": "met by no repair"}),
        measured("clp", 0, 0.9, 0.7),
        measured("gn_ft", 0, 0.9, 0.5, clean_share=0.05),
        measured("gn_ft", 0, 0.9, 0.2, clean_share=0.2),
        measured(None, 0, 0.8, 0.9, apart),
        measured("gn_ft", 0, 0.8, 0.1, apart, clean_share=0.2),
    ]
    tables = build(records)
    assert [table.title.partition(";")[0].partition("repairs")[2] for table in tables] == [
        ", clean budget 5 %", ", clean budget 20 %", ", clean budget 20 %, held out of training"
    ]  # fmt: skip
    rows = [
        dict(zip(table.grids[1].columns, table.grids[1].rows[0], strict=True)) for table in tables
    ]
    assert all(len(table.grids[1].rows) == 1 for table in tables)
    assert [(row["none"], row.get("clp"), row["gn_ft"]) for row in rows] == [
        ("100.0", "70.0", "50.0"), ("100.0", "70.0", "20.0"), ("90.0", None, "10.0")
    ]  # fmt: skip


def test_a_refused_repair_is_marked(measured):
    """One that had rates to try and kept none; not one that has no rates."""
    tried = [{"rate": 0.1, "before": 0.9, "after": 0.2, "kept": False}]
    refusal = {**rates(0.9, 1.0), "repaired": {"value": 0, "tried": tried}}
    records = [
        measured(None, 0, 0.9, 1.0),
        measured("gn_ft", 0, 0.9, 1.0, {"metrics": refusal}),
        measured(
            "clp", 0, 0.9, 1.0, {"metrics": {**refusal, "repaired": {"value": 0, "tried": []}}}
        ),
        measured(
            "nad",
            0,
            0.9,
            0.3,
            {"metrics": {**rates(0.9, 0.3), "repaired": {"value": 1, "tried": tried}}},
        ),
    ]
    (table,) = build(records)
    row = dict(zip(table.grids[1].columns, table.grids[1].rows[0], strict=True))
    assert (row["gn_ft"], row["clp"], row["nad"]) == ("100.0 †", "100.0", "30.0")
    assert any("refused" in note for note in table.notes)
    assert not any("refused" in note for note in build(records[:1] + records[2:])[0].notes)
    assert any("refused" in note for note in table.notes)
    (ranking,) = ranks(records)
    assert {row[0]: row[-1] for row in ranking.grids[0].rows} == {
        "gn_ft": "1",
        "clp": "0",
        "nad": "0",
    }


def test_a_matrix_for_each_metric(measured):
    whistle = {
        "attack.name": "whistle",
        "metrics": {**rates(0.9, 0.8), "stealth_snr_db": {"value": 21}},
    }
    records = [
        measured(None, 0, 0.9, 1.0),
        measured("gn_ft", 0, 0.9, 0.2),
        measured("clp", 0, 0.5, 0.4),
        measured(None, 0, 0.9, 0.8, whistle),
        measured("gn_ft", 0, 0.88, 0.1, {"attack.name": "whistle"}),
        measured("random_filter", 0, 0.1, 0.1, {"defense.stage": "filter"}),
        measured(None, 0, 0.7, 0.7, {"model.name": "never repaired"}),
    ]
    (table,) = build(records)
    assert table.title.startswith("resnet50 and its repairs; ")
    assert [grid.title for grid in table.grids] == [
        "clean accuracy [%]",
        "attack success rate [%]",
        "robust accuracy [%]",
        "defense effectiveness rating [%]",
    ]
    assert table.notes[0] == "All attacks: 10 % of _unknown_ → left."
    success, rating = table.grids[1], table.grids[3]
    assert success.columns == ("Attack", "SNR [dB]", "none", "clp", "gn_ft")
    assert [row[1:] for row in success.rows] == [
        ("", "100.0", "40.0", "20.0"),
        ("21.00", "80.0", "", "10.0"),
    ]
    assert [row[0] for row in success.rows] == ["clap, scale 0.1", "whistle, scale 0.1"]
    assert rating.columns == ("Attack", "SNR [dB]", "clp", "gn_ft")
    assert [row[2:] for row in rating.rows] == [("60.0", "90.0"), ("", "84.0")]
    assert "random" not in markdown(table) and "| 80.0 |  | 10.0 |" in markdown(table)


def test_settings_that_differ_are_columns_of_their_own(measured):
    records = [
        measured("gn_ft", 0, 0.9, 0.2, alpha=0.7, radius=0.05),
        measured("gn_ft", 1, 0.9, 0.4, alpha=0.7, radius=0.05),
        measured("gn_ft", 0, 0.9, 0.1, alpha=0.3, radius=0.05),
        measured("clp", 0, 0.9, 0.1, u=3.0),
    ]
    success = build(records)[0].grids[1]
    assert success.columns == ("Attack", "clp", "gn_ft, alpha 0.3", "gn_ft, alpha 0.7")
    assert success.rows[0][3].startswith("30.0 (")


def test_another_training_of_the_same_seed_is_another_net(measured):
    """Marked, and so is its rating by the one that was measured; what tells no time is not marked."""
    records = [
        measured(None, 0, 0.9, 1.0),
        measured("gn_ft", 0, 0.9, 0.2),
        measured("clp", 0, 0.9, 0.4),
        measured("nad", 0, 0.9, 0.6),
    ]
    for record, time in zip(records, ("19:07", "21:11", "19:07"), strict=False):
        record["parts"] = {"training": {"time": time}}
    (table,) = build(records)
    success, rating = table.grids[1], table.grids[-1]
    assert success.columns == ("Attack", "none", "clp", "gn_ft", "nad")
    assert success.rows[0][1:] == ("100.0", "40.0", "20.0 *", "60.0")
    assert rating.title.startswith("defense eff")
    assert rating.rows[0][1:] == ("80.0", "90.0 *", "70.0")
    assert any("another training" in note for note in table.notes)


def test_a_net_that_is_trained_again_does_not_take_the_first_ones_place(measured):
    records = [
        measured(None, 0, 0.9, 1.0),
        measured("gn_ft", 0, 0.9, 0.2),
        measured(None, 0, 0.9, 0.8),
        measured("clp", 0, 0.9, 0.4),
    ]
    for record, time in zip(records, ("19:07", "19:07", "21:11", "21:11"), strict=True):
        record["parts"] = {"training": {"time": time}}
    ratings = [record["metrics"].get(DER) for record in rated(records)]
    assert ratings == [None, {"value": 0.9}, None, {"value": 0.7}]


def test_a_repair_behind_a_filter_is_not_of_the_undefended_net(measured):
    first = {"name": "f", "stage": "filter", "settings": {}}
    records = [
        measured(None, 0, 0.9, 1.0),
        measured("gn_ft", 0, 0.9, 0.2),
        measured("f+clp", 0, 0.9, 0.0),
    ]
    records[-1]["defense"]["after"] = first
    (table,) = build(records)
    assert table.grids[1].columns == ("Attack", "none", "gn_ft")


def test_cells_of_other_seeds_are_marked(measured):
    records = [
        measured(None, 0, 0.9, 1.0),
        measured("gn_ft", 0, 0.9, 0.2),
        measured("clp", 1, 0.9, 0.4),
    ]
    (table,) = build(records)
    assert table.grids[1].rows[0][1:] == ("100.0", "40.0 *", "20.0")
    assert any(note.startswith("*: of other seeds") for note in table.notes)
    assert not any("other seeds" in note for note in build(records[:2])[0].notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"attack.labels": {"type": "bdlib.attacks.labels.CleanLabelHard", "hard_folds": 5}},
        {"attack.trigger": {"type": "x.Clap", "fill": "noise"}},  # which the other does not tell
        {"model.settings": {"train": {"number_of_epochs": 3}}},
    ],
    ids=["labels", "trigger", "training"],
)
def test_what_differs_has_a_row_of_its_own(measured, changes):
    plain = {
        "attack.labels": {"type": "bdlib.attacks.labels.CleanLabel"},
        "attack.trigger": {"type": "x.Clap"},
        "model.settings": {"train": {"number_of_epochs": 8}},
    }
    records = [
        measured(defense, 0, 0.9, success, with_)
        for with_, rate in ((plain, 0.8), (plain | changes, 0.4))
        for defense, success in ((None, rate), ("gn_ft", rate / 2))
    ]
    success = build(records)[0].grids[1]
    assert sorted(row[1:] for row in success.rows) == [("40.0", "20.0"), ("80.0", "40.0")]
    assert len({row[0] for row in success.rows}) == 2
