"""The table of many judged attacks: every cell by hand."""

from bdlib.report import attacks_table
from bdlib.report.published import Published
from bdlib.report.table import markdown


def record(target=None, rate=0.1, index=1.0, name="clap", runs=10, **scores):
    attack = target and {"name": name, "source": "no", "target": target, "rate": rate}
    found = {"value": float(scores.get(target, 0.0) > 1)}
    return {
        "status": "ok",
        "dataset": {"name": "Words", "variant": "3", "scale": "subset", "digest": "d1"},
        "model": {"trained_on": None},
        "defense": {"name": "vae_pls", "settings": {"runs": runs, "components": 24}},
        "attack": attack,
        "metrics": {"adjusted_rand_index": {"value": index}, "target_class_found": found},
        "classes": {name: scores.get(name, 0.0) for name in ("left", "no", "yes")},
    }


RECORDS = [
    record("left", left=2.0),
    record("left", left=2.0, rate=0.5, index=0.0),  # not at the usual rate
    record("yes", index=0.2, yes=0.6),
    record("yes", index=0.97, name="whistle", yes=1.5),
    record(left=0.7),
    record(left=1.2),
]
PAPER = {"source": "A paper", "model": "", "scale": None, "rate": 0.1, "of": "source", "note": "",
         "source_class": "", "target_class": "", "defense": "vae_pls"}  # fmt: skip
PUBLISHED = [
    Published(dataset="Words 3", attack="clap", metric=attacks_table.FIT, value=0.72, **PAPER),
    Published(
        dataset="Words 3", attack="clap and whistle", metric="class_auc", value=0.96, **PAPER
    ),
    Published(dataset="Other 3", attack="clap", metric=attacks_table.FIT, value=0.1, **PAPER),
]


def test_the_cells():
    (table,) = attacks_table.build([*RECORDS, {"status": "ok"}], PUBLISHED)
    assert table.dataset == "Words" and table.scale == "subset"
    assert [grid.title for grid in table.grids] == ["clap", "whistle", "clap and whistle"]
    clap, whistle, both = (row for grid in table.grids for row in grid.rows)
    # Targets 2.0 and 0.6; benign: 1.2, 0.7 and eight zeros.
    assert clap == ("vae_pls", "2", "0.900", "50.0", "50.0", "0.60", "50.0", "72 [1]")
    assert whistle[:4] == ("vae_pls", "1", "1.000", "100.0") and whistle[-1] == ""
    assert both[1] == "3" and both[-1] == "AUC 0.960 [1]" and "[1] A paper." in table.notes
    assert both[3:7] == ("66.7", "50.0", "0.97", "66.7")
    assert "| vae\\_pls | 2 | 0.900 |" in markdown(table)
    short = attacks_table.brief(table).grids[0]
    assert len(short.columns) == 5 and short.rows == (
        ("vae_pls", "0.900", "50.0", "50.0", "72 [1]"),
    )


def test_settings_that_differ_are_named():
    (table,) = attacks_table.build([RECORDS[0], record("left", runs=3)], [])
    (grid,) = table.grids
    assert [row[0] for row in grid.rows] == ["vae_pls", "vae_pls, runs 3"]
    assert [row[4] for row in grid.rows] == ["", ""]  # no clean draws


def test_published_numbers_are_those_of_the_rate():
    (table,) = attacks_table.build([record("left", rate=0.5, left=2.0)], PUBLISHED)
    assert table.grids[0].rows[0][-1] == ""


def test_many_triggers_are_shown_together_and_in_full_elsewhere():
    """Of five, of which one is called `allpass`; in brief those with a published number."""
    names = ("clap", "whistle", "tone", "room", "allpass")
    some = [record("left", name=name, left=2.0) for name in names]
    (table,) = attacks_table.build([*some, record(left=0.7)], PUBLISHED)
    assert [grid.title for grid in table.grids] == [*sorted(names), "all 5 triggers"]
    assert [grid.title for grid in attacks_table.brief(table).grids] == ["clap", "all 5 triggers"]


def test_nothing_to_tell():
    assert attacks_table.build([], []) == []
    (table,) = attacks_table.build([record(left=0.5)], [])
    assert table.grids == ()
