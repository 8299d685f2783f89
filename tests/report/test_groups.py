"""Runs are grouped by all but their seeds, and averaged with the right interval."""

import pytest
from scipy import stats

from bdlib.records.record import wilson
from bdlib.report.groups import (
    above_floor,
    clean_twins,
    estimate,
    group_records,
    let_through,
    t_interval,
)
from bdlib.report.labels import row_labels
from bdlib.report.table import Footnotes


def test_t_interval_agrees_with_scipy():
    values = [0.91, 0.95, 0.89, 0.97]
    low, high = stats.t.interval(0.95, 3, loc=0.93, scale=stats.sem(values))
    assert t_interval(values) == pytest.approx((0.93, low, high))


def test_seeds_are_averaged(make_record):
    values = [0.90, 0.94, 0.98]
    records = [
        make_record({"id": f"r{i}", "seed": i, "metrics.clean_accuracy": {"value": value}})
        for i, value in enumerate(values)
    ]
    (group,) = group_records(records)
    found = estimate(group, "clean_accuracy")
    assert len(group.runs) == 3
    assert found.over == "seeds"
    assert (found.mean, found.low, found.high) == pytest.approx(t_interval(values))


def test_two_seeds_are_no_sample(make_record):
    """Student's factor for two values is 12.7: an interval of that width tells nothing."""
    records = [
        make_record({"id": f"r{i}", "seed": i, "metrics.clean_accuracy": {"value": value}})
        for i, value in enumerate((0.94, 0.90))
    ]
    (group,) = group_records(records)
    found = estimate(group, "clean_accuracy")
    assert (found.low, found.high, found.over) == (0.90, 0.94, "pair")
    assert found.mean == pytest.approx(0.92)


def test_one_seed_gets_the_interval_over_utterances(make_record):
    (group,) = group_records([make_record({"metrics.class_auc": {"value": 0.7}})])
    found = estimate(group, "clean_accuracy")
    assert (found.mean, found.over) == (0.9, "utterances")
    assert (found.low, found.high) == wilson(720, 800)
    assert estimate(group, "class_auc").over == ""
    assert estimate(group, "robust_accuracy") is None


def test_the_floor_is_taken_off_run_by_run(make_record):
    """Where a run has none, as old records, neither stands beside rates of other runs."""
    rates = [(0.9, 0.1), (0.5, 0.2), (0.7, None)]
    records = [
        make_record(
            {"id": f"r{i}", "seed": i, "metrics.attack_success_rate": {"value": success}}
            | ({} if floor is None else {"metrics.no_trigger_rate": {"value": floor}})
        )
        for i, (success, floor) in enumerate(rates)
    ]
    (group,) = group_records(records[:2])
    found = above_floor(group)
    assert (found.mean, found.low, found.high) == pytest.approx((0.55, 0.3, 0.8))
    for some in (records, records[2:]):
        (without,) = group_records(some)
        assert above_floor(without) is None is estimate(without, "no_trigger_rate")
    assert estimate(without, "attack_success_rate").mean == pytest.approx(0.7)


def test_the_clean_twin_shares_all_but_the_attack(make_record):
    other = {"model.settings": {"train": {"lr": 0.1}}}
    attacked, twin, *rest = (
        group_records([make_record(changes)])[0]
        for changes in (
            {},
            {"attack": None},
            {"attack": None} | other,
            {"attack": None, "dataset.digest": "d1"},
            {"attack.name": "whistle"},
        )
    )
    assert clean_twins([attacked, *rest, twin]) == [twin, *rest[:2], twin, twin]
    assert clean_twins([attacked, *rest]) == [None, *rest[:2], None]


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset.variant": "35"},
        {"dataset.scale": "full"},
        {"dataset.digest": "d1"},
        {"model.settings": {"train": {"lr": 0.1}}},
        {"attack": None},
        {"attack.name": "whistle"},
        {"attack.trigger": {"scale": 0.5, "position": "start"}},
        {"attack.rate": 0.01},
        {"attack.of": "dataset"},
        {"attack.source": "no"},
        {"attack.target": "on"},
        {"model.name": "mvd"},
        {"model.yaml": "hparams/other.yaml"},
        {"defense": {"name": "f", "stage": "filter", "clean_budget": 0, "selection": "fixed"}},
    ],
)
def test_what_differs_in_more_than_seeds_is_kept_apart(make_record, changes):
    assert len(group_records([make_record(), make_record(changes)])) == 2


def test_two_defenses_are_told_apart_by_the_settings_of_the_first(make_record):
    later = {
        "name": "f+r",
        "stage": "repair",
        "clean_budget": 9,
        "selection": "fixed",
        "settings": {},
    }
    records = [
        make_record({"defense": later | {"after": {"name": "f", "settings": {"limit": limit}}}})
        for limit in (0.1, 0.2)
    ]
    groups = group_records(records)
    assert len(groups) == 2
    assert [defense for _, defense in row_labels(groups, Footnotes())] == [
        "f+r, f limit 0.1", "f+r, f limit 0.2"
    ]  # fmt: skip


def test_a_filter_that_keeps_fewer_clips_with_another_seed_is_one_group(make_record):
    defense = {"name": "f", "stage": "filter", "clean_budget": 0, "selection": "fixed"}
    records = [
        make_record({"seed": s, "defense": defense, "dataset.counts.train": 3000 + s})
        for s in (0, 1)
    ]
    assert len(group_records(records)) == 1


def test_a_repeated_run_replaces_the_earlier_one(make_record):
    first = make_record({"metrics.clean_accuracy": {"value": 0.5}})
    (group,) = group_records([first, make_record()])
    assert estimate(group, "clean_accuracy").mean == 0.9
    other_poison = make_record({"attack.seed": 1})
    (group,) = group_records([first, make_record(), other_poison])
    assert len(group.runs) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_a_failure_counts_only_where_no_run_stands(make_record, order):
    failed = make_record({"status": "failed", "metrics": {}})
    (group,) = group_records([failed, make_record()][::order])
    assert (len(group.runs), len(group.failed)) == (1, 0)
    (group,) = group_records([failed])
    assert (len(group.runs), len(group.failed)) == (0, 1)


def test_the_order_does_not_depend_on_the_order_of_records(make_record):
    names = ["whistle", "clap", "horn"]
    records = [make_record({"attack.name": name}) for name in names] + [
        make_record({"attack": None})
    ]
    forward, backward = group_records(records), group_records(records[::-1])
    assert [g.record for g in forward] == [g.record for g in backward]
    assert forward[0].record["attack"] is None


def test_settings_are_ordered_by_their_numbers(make_record):
    records = [
        make_record({"defense": {"name": "squeeze", "stage": "inference", "selection": "fixed",
                                 "clean_budget": 0, "settings": {"window": level}}})
        for level in (11, 0.5, 3, 0.125, 1024)
    ]  # fmt: skip
    found = [group.record["defense"]["settings"]["window"] for group in group_records(records)]
    assert found == [0.125, 0.5, 3, 11, 1024]


def test_what_a_guard_lets_through_is_told_by_its_own_rates_or_not_at_all(make_record):
    """A filter that changes clips rejects none; a guard that does and does not tell has no rate here."""
    success = {"metrics.attack_success_rate": {"value": 0.9}}
    judged = success | {"metrics.false_rejection_rate": {"value": 0.05}}
    told = judged | {"metrics.passed_attack_success_rate": {"value": 0.2}}
    found = [
        let_through(group_records([make_record(changes)])[0], "attack_success_rate")
        for changes in (success, judged, told)
    ]
    assert [rate and rate.mean for rate in found] == [0.9, None, 0.2]
