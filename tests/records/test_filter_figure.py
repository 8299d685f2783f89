"""Confusion matrices of filters: which records share a figure."""

from bdlib.records.filter_figure import filter_figures


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


def test_a_figure_for_each_attack_with_several_filters(tmp_path):
    records = [record(), record("spectre"), record(seed=1), record(target="yes"),
               record(dataset="d2"), {"status": "failed", "metrics": {}}]  # fmt: skip
    (path,) = filter_figures(records, tmp_path)
    assert path.name.startswith("filters-Words-3-mini-clap-") and path.stat().st_size > 5000
    again = [record(layer="logits"), record(layer="softmax"), *(record(f"f{i}") for i in range(4))]
    assert len(filter_figures(again, tmp_path)) == 1  # six panels in two rows
    controls = record("random_filter"), record("perfect_filter_oracle")
    assert filter_figures([record(), *controls], tmp_path) == []
    assert filter_figures([record(), record("scan", seed=1)], tmp_path) == []
