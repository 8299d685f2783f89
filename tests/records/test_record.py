"""Records are appended whole, read back, and refused where they are wrong."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from scipy.stats import binomtest, norm

from bdlib.errors import InputError
from bdlib.records.record import append, read, validate, wilson


def test_what_is_appended_is_read_back_in_order(tmp_path, make_record):
    path = tmp_path / "new" / "SpeechCommands.jsonl"
    records = [make_record({"id": f"r{i}", "command": "naïve → \n"}) for i in range(3)]
    for record in records:
        append(path, record)
    assert read(path) == records
    assert len(path.read_text().splitlines()) == 3


def test_an_appended_line_is_on_the_disk_before_the_run_goes_on(tmp_path, make_record, monkeypatch):
    path, synced = tmp_path / "r.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file)))
    for number in (1, 2):
        append(path, make_record({"id": f"r{number}"}))
        assert len(synced) == number  # after the whole line, and that of this file
        assert (synced[-1].st_ino, synced[-1].st_size) == (path.stat().st_ino, path.stat().st_size)


def test_parallel_runs_share_a_file(tmp_path, make_record):
    path = tmp_path / "r.jsonl"
    records = [make_record({"id": f"r{i}", "command": "x" * 20000}) for i in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda record: append(path, record), records))
    assert sorted(r["id"] for r in read(path)) == sorted(r["id"] for r in records)


@pytest.mark.parametrize("broken", ["{", "[]", '{"schema": 1}', "\x00", '{"schema": 2}'])
def test_a_broken_line_is_named(tmp_path, make_record, broken):
    path = tmp_path / "r.jsonl"
    append(path, make_record())
    with path.open("a") as file:
        file.write(f"\n{broken}\n")
    with pytest.raises(InputError, match=r"r\.jsonl, line 3: .*; delete the line"):
        read(path)


@pytest.mark.parametrize("cut", [1, 50, -2, -1])
def test_a_last_line_cut_short_is_recorded_again(tmp_path, make_record, capsys, cut):
    """What lacks no more than its end is a record; of what lacks more, its run gives another."""
    path = tmp_path / "r.jsonl"
    append(path, make_record())
    first = path.read_bytes()
    append(path, make_record({"id": "cut"}))
    whole = path.read_bytes()
    path.write_bytes(first + whole[len(first) :][:cut])
    known = ["r0"] if cut != -1 else ["r0", "cut"]
    assert [record["id"] for record in read(path)] == known
    assert ("cut short" in capsys.readouterr().out) == (cut != -1)
    assert append(path, make_record({"id": "cut"})) == (cut != -1)
    assert append(path, make_record({"id": "after"}))
    assert [record["id"] for record in read(path)] == ["r0", "cut", "after"]


def test_two_of_the_same_run_leave_one_record(tmp_path, make_record):
    path = tmp_path / "r.jsonl"
    same = make_record({"id": "naïve"})
    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(lambda _: append(path, same), range(20)))
    assert sum(new) == 1 and read(path) == [same]
    assert append(path, make_record({"id": "r", "command": '"naïve"'}))
    assert append(path, make_record({"id": "na"}))


def test_a_missing_or_unwritable_file_is_named(tmp_path, make_record):
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot append"):
        append(tmp_path, make_record())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"schema": 2}, "schema"),
        ({"status": "done"}, "status"),
        ({"seed": "0"}, "seed"),
        ({"seed": True}, "seed"),
        ({"model": None}, "model"),
        ({"dataset.scale": "tiny"}, "dataset.scale"),
        ({"dataset.counts": {"train": -1}}, "dataset.counts.train"),
        ({"attack.rate": 10}, "attack.rate"),
        ({"attack.rate": None}, "attack.rate"),
        ({"attack.of": "all"}, "attack.of"),
        ({"defense": {"name": "x", "stage": "late", "clean_budget": 0}}, "defense.stage"),
        ({"metrics.ASR": {"value": 1.0}}, "snake_case"),
        ({"metrics.clean_accuracy": 0.9}, "clean_accuracy"),
        ({"metrics.clean_accuracy": {"value": float("nan")}}, "clean_accuracy"),
        ({"metrics.clean_accuracy": {"value": 0.9, "count": 9}}, "counts 9 of None"),
        ({"metrics.clean_accuracy": {"value": 0.9, "count": 5, "total": 4}}, "counts 5 of 4"),
        ({"metrics.clean_accuracy": {"value": 0.9, "count": 1, "total": 2}}, "but counts"),
        ({"metrics.clean_accuracy": {"value": 0.502, "count": 1, "total": 2}}, "but counts"),
    ],
)
def test_a_wrong_record_is_refused_and_nothing_is_written(tmp_path, make_record, changes, message):
    with pytest.raises(InputError, match=message):
        append(tmp_path / "r.jsonl", make_record(changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["id", "commit", "dataset", "attack", "metrics", "versions"])
def test_a_missing_field_is_named(make_record, key):
    record = make_record()
    del record[key]
    with pytest.raises(InputError, match=f"field {key} is missing"):
        validate(record)


def test_what_later_versions_may_add_is_allowed(make_record):
    validate(make_record({"host": "a", "metrics.some_new_metric": {"value": 3.0}, "attack": None}))


@pytest.mark.parametrize(
    "count, total, low, high",
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_gives_known_values(count, total, low, high):
    assert wilson(count, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("count, total", [(1, 3), (408, 408), (17, 4890)])
def test_wilson_agrees_with_scipy(count, total):
    expected = binomtest(count, total).proportion_ci(0.95, method="wilson")
    assert wilson(count, total, norm.ppf(0.975)) == pytest.approx(tuple(expected), abs=1e-12)


def test_wilson_of_no_trial_knows_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="not between"):
        wilson(3, 2)
