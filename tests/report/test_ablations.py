"""An experiment that varies the settings of one repair has a table of its own, and disturbs no other."""

import pytest

from bdlib.report import ablations, matrix, ranking
from bdlib.report.table import Grid


@pytest.fixture
def measured(make_record):
    """A function: repair (None for none), experiment, ASR and settings in, a record out."""

    def make(repair, experiment, success, share=0.2, **settings):
        told = {"clean_share": share, "alpha": 0.7, "radius": 0.05} | settings
        defense = {"name": repair, "stage": "repair", "selection": "validation",
                   "clean_budget": 9, "settings": told}  # fmt: skip
        rates = {"clean_accuracy": {"value": 0.9}, "attack_success_rate": {"value": success},
                 "stealth_snr_db": {"value": 20.0}}  # fmt: skip
        return make_record(
            {"defense": repair and defense, "experiment": experiment, "metrics": rates}
        )

    return make


def test_settings_stand_side_by_side_and_apart_from_what_others_measured(measured):
    """What differs names a row; what is equal does not."""
    others = [
        measured(None, "matrix", 0.9),
        measured("gn_ft", "matrix", 0.5),
        measured("gn_ft", "matrix", 0.5, share=0.05),  # another budget is no other setting
        measured("nad", "matrix", 0.4),
        *(measured("gn_ft", None, 0.3, alpha=alpha) for alpha in (0.1, 0.2)),  # of no experiment
    ]
    settings = ({"alpha": 0.0}, {}, {"alpha": 1.0}, {"radius": 0.5})
    own = [measured("gn_ft", "sweep", n / 10, **some) for n, some in enumerate(settings)]
    assert ablations.compared([*own, *others]) == others and not ablations.build(others)
    (table,) = ablations.build([*own, *others])
    assert table.title.startswith("sweep: resnet50 and its repairs")
    _, success, _ = table.grids
    assert success == Grid(
        "attack success rate [%]",
        ("Repair", "clap, scale 0.1"),
        (
            ("none", "90.0"),
            ("gn_ft, alpha 0.0, radius 0.05", "0.0"),
            ("gn_ft, alpha 0.7, radius 0.05", "10.0"),
            ("gn_ft, alpha 0.7, radius 0.5", "30.0"),
            ("gn_ft, alpha 1.0, radius 0.05", "20.0"),
        ),
    )
    for build in (matrix.build, ranking.build):
        assert build(ablations.compared([*own, *others])) == build(others)
