"""Digests that name what they were made from, and JSON that is whole or not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from bdlib.errors import InputError
from bdlib.files import (
    at_home,
    atomic,
    digest,
    file_digest,
    read_json,
    seed_of,
    writable,
    write_json,
)


def test_pinned_digests():
    assert digest({"b": [1, 0.5, None], "a": "é"}) == "97f0d07083dc"
    assert seed_of("trigger", 0, "train", "u1") == 5741585706823948935


def test_a_digest_tells_values_from_each_other():
    values = [1, "1", 1.5, [1], {"1": 1}, None, "", [], True]
    assert len({digest(value) for value in values}) == len(values)
    assert digest("x", 5) == digest("x")[:5]


def test_seeds_fit_a_signed_integer_and_differ():
    seeds = {seed_of("a", number) for number in range(1000)}
    assert len(seeds) == 1000 and all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of("a", 1) != seed_of("a", 2) != seed_of("b", 2)


def test_another_process_draws_the_same():
    """Python's own hash of a text differs from process to process."""
    line = "from bdlib.files import seed_of; print(seed_of('x', 1, 'y'))"
    said = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert int(said.stdout) == seed_of("x", 1, "y")


def test_file_digests_depend_on_contents_order_and_borders(tmp_path):
    for name, text in (("a", "one"), ("b", "two"), ("c", "onetwo"), ("d", ""), ("e", "one")):
        (tmp_path / name).write_text(text)
    a, b, c, d, e = (tmp_path / name for name in "abcde")
    assert file_digest(a) == file_digest(e)
    assert len({file_digest(*x) for x in ([a], [a, b], [b, a], [c], [c, d], [a, b, d])}) == 6
    with pytest.raises(InputError, match="gone: cannot be read"):
        file_digest(a, tmp_path / "gone")


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for names in (("a", "b"), ("c",)):
        with atomic(tmp_path / "deep" / "folder") as temporary:
            temporary.mkdir()
            for name in names:
                (temporary / name).write_text(name)
            assert not (tmp_path / "deep" / "folder" / names[-1]).exists()
    assert [p.name for p in (tmp_path / "deep" / "folder").iterdir()] == ["c"]
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_a_folder_half_made_leaves_the_old_one(tmp_path):
    with atomic(tmp_path / "f") as temporary:
        temporary.mkdir()
        (temporary / "old").write_text("")
    with pytest.raises(KeyError), atomic(tmp_path / "f") as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("")
        raise KeyError
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["f", "f/old"]


def test_trouble_elsewhere_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "out" / "f"):
        (tmp_path / "no such input").read_text()


def test_a_place_that_cannot_be_made_is_told_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    writable(tmp_path / "new" / "deep", "output")
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match=r"`output` is .*file is no folder to write into"):
        writable(tmp_path / "file" / "new", "output")
    monkeypatch.setattr("os.access", lambda *given: False)  # root may write anywhere
    with pytest.raises(InputError, match=r"`output` is .*no folder to write into"):
        writable(tmp_path / "new", "output")


def test_json_round_trip(tmp_path):
    value = {"z": 1, "a": [1.5, None, "é"]}
    write_json(tmp_path / "deep" / "a.json", value)
    text = (tmp_path / "deep" / "a.json").read_text("utf-8")
    assert read_json(tmp_path / "deep" / "a.json", ["a", "z"]) == value
    assert "é" in text and text.endswith("}\n")


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', "\xff"])
def test_broken_json_is_named(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.json: broken .*delete it"):
        read_json(tmp_path / "a.json", ["a", "b"])


HOLDS = """
import sys, time
from bdlib.files import alone
with alone(sys.argv[1]):
    print("in", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_killed_one_lets_go(tmp_path):
    folder = tmp_path / "new"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder], stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder], stdout=subprocess.PIPE, text=True
    )
    assert "waiting" in second.stdout.readline()
    first.kill()
    assert second.stdout.readline() == "in\n"
    second.kill()
    first.wait(), second.wait()
    assert list(folder.iterdir()) == []


def test_a_home_that_is_not_there_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home("~/x") == tmp_path / "x" and at_home("a/~") == Path("a/~")
    with pytest.raises(InputError, match="~nobody-of-this-name/x: there is no such home"):
        at_home("~nobody-of-this-name/x")
