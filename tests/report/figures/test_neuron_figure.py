"""Gradients of neurons before and after repairs: which records share a figure, and what it shows."""

import numpy as np
import pytest

from bdlib.report.figures.neuron_figure import STYLES, draw

NORMS = {"before": {"backdoored": [4.0, 2.0], "hybrid": [None, 1.0], "clean": [0.5, 0.25]},
         "after": {"backdoored": [1.0, 0.9], "hybrid": [None, 0.6], "clean": [0.5, 0.2]}}  # fmt: skip


def record(defense="gn_ft", seed=0, model="net", changed=1, stage="repair", **ratio):
    return {
        "status": "ok",
        "dataset": {"name": "Words", "variant": "3", "scale": "mini", "digest": "d1"},
        "model": {"name": model},
        "attack": {"name": "clap", "source": "no", "target": "on", "rate": 0.1, "of": "source"},
        "defense": {"name": defense, "stage": stage, "settings": {}},
        "seed": seed,
        "metrics": {
            "neuron_ratio_triggered": {"value": 3.0, **ratio},
            "repaired": {"value": changed},
        },
    }


def test_a_figure_for_each_net_with_a_panel_for_each_repair():
    """Left out: what changed nothing, other seeds, guards, what a filter went before, records without norms."""
    filtered = record("scan+gn_ft", norms=NORMS)
    filtered["defense"]["after"] = {"stage": "filter"}
    records = [
        *(record(name, norms=NORMS) for name in ("gn_ft", "clp")),
        *(record("anp", changed=0, norms=NORMS), record(seed=1, norms=NORMS), record("nad")),
        record("clp+strip_vita", stage="inference", norms=NORMS),
        record(model="other", norms=NORMS),
        filtered,
        {"status": "failed", "metrics": {}},
    ]
    drawn = draw(records, [])
    assert len(drawn) == 2 and all(stem.startswith("neurons-Words-3-mini-clap-") for stem in drawn)
    picture = next(iter(drawn.values()))
    axes = picture.figure.axes
    assert [axis.get_title() for axis in axes] == ["gn_ft", "clp"] and "net" in picture.title
    before, after = axes[0].lines[0], axes[0].lines[len(STYLES)]
    assert before.get_label().endswith("before") and after.get_label().endswith("after")
    assert [*before.get_ydata()] == [4.0, 2.0] and [*after.get_ydata()] == [1.0, 0.9]
    assert np.isnan(axes[0].lines[1].get_ydata()[0])
    assert draw(records[4:6], []) == {}


@pytest.mark.parametrize("count", [1, 5])
def test_rows_of_three(count):
    ((_, picture),) = draw([record(f"r{n}", norms=NORMS) for n in range(count)], []).items()
    assert sum(axis.axison for axis in picture.figure.axes) == count
