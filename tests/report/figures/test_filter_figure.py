"""Confusion matrices of filters: which records share a figure."""

from bdlib.report.figures.filter_figure import draw


def record(defense="scan", target="left", seed=0, dataset="d1", **settings):
    counts = {"filter_tp": 9, "filter_fp": 2, "filter_fn": 1, "filter_tn": 88}
    return {
        "status": "ok",
        "dataset": {"name": "Words", "variant": "3", "scale": "mini", "digest": dataset},
        "model": {"name": "net"},
        "attack": {"name": "clap", "source": "no", "target": target, "rate": 0.1, "of": "source"},
        "defense": {"name": defense, "settings": settings},
        "seed": seed,
        "metrics": {name: {"value": count} for name, count in counts.items()},
    }


def test_a_figure_for_each_attack_with_several_filters():
    records = [record(), record("spectre"), record(seed=1), record(target="yes"),
               record(dataset="d2"), {"status": "failed", "metrics": {}}]  # fmt: skip
    ((stem, picture),) = draw(records, []).items()
    assert stem.startswith("filters-Words-3-mini-clap-") and len(picture.figure.axes) == 2
    again = [record(layer="logits"), record(layer="softmax"), *(record(f"f{i}") for i in range(4))]
    assert len(draw(again, [])) == 1  # six panels in two rows
    controls = record("random_filter"), record("perfect_filter_oracle")
    assert draw([record(), *controls], []) == {}
    assert draw([record(), record("scan", seed=1)], []) == {}
