"""After a kill, a full disk, a quota, a second hand or a clock gone wrong, the same command ends alike.

The full table of kills is made by `tools/kills.py`; here is one of each kind, and damage to each file.
"""

import errno
import importlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from bdlib.attacks import folder as attack_folder
from bdlib.errors import InputError
from bdlib.files import read_json
from bdlib.pack import Pack
from bdlib.records import record
from bdlib.seals import SEAL, unsealed, write_sealed
from bdlib.stages.corpus import Corpus
from bdlib.stages.pack import Audio
from bdlib.stages.poisoned import read_truth
from bdlib.stages.score import Scores
from bdlib.stages.train import check_classes
from bdlib.training.checkpoints import check_kept

TOOLS = Path(__file__).parents[1] / "tools"
KILLS = [  # the command, what is about to be done, to what, and by which way it is killed there
    ("poison", "replace", "exp/poison/clap-", ("SIGKILL", "before")),
    ("train", "save", "optimizer.ckpt", ("Ctrl-C", "before")),
    ("train", "rename", "exp/train", ("SIGKILL", "before")),
    ("train", "replace", ".made.json", ("SIGKILL", "before")),
    ("train", "fsync", "results", ("SIGKILL", "after")),
]


@pytest.fixture(scope="module")
def kills():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        return importlib.import_module("kills")


@pytest.fixture(scope="module")
def world(kills, tmp_path_factory):
    threads = torch.get_num_threads()
    yield kills.World(tmp_path_factory.mktemp("world"))
    torch.set_num_threads(threads)


@pytest.fixture
def here(world):
    """The folder of a trial, made by a command's predecessors."""
    yield lambda name: world.before(name, world.folder / "trial")
    shutil.rmtree(world.folder / "trial", ignore_errors=True)


@pytest.fixture(scope="module")
def points(kills, world):
    return {name: kills.points(world, name) for name in ("poison", "train")}


def one_line(world, *words):
    """The last words of a child are one line with these words."""
    line = world.said().splitlines()[-1]
    assert line.startswith("error: ") and "Traceback" not in world.said(), world.said()
    for word in words:
        assert word in line, line


# --- kills


@pytest.mark.parametrize(("name", "call", "place", "way"), KILLS)
def test_a_killed_command_ends_as_one_that_was_not(kills, world, points, name, call, place, way):
    number = max(n for n, (c, p) in enumerate(points[name]) if c == call and place in p)
    assert kills.kill(world, name, number, *way) == "equal"


def test_a_kill_that_leaves_something_is_told(kills, world, points, monkeypatch):
    """The table is not equal by itself: what a run leaves besides, or makes otherwise, is named."""
    folder = world.before("poison", world.folder / "trial")
    (folder / "exp" / ".left.tmp").write_text("")
    assert "left: ['exp/.left.tmp']" in world.again("poison", folder)
    (folder / "exp" / ".left.tmp").unlink()
    (folder / "exp" / "more.txt").write_text("")
    assert world.again("poison", folder) == "differs: ['exp/more.txt']"
    monkeypatch.setitem(kills.SIGNALS, "SIGKILL", signal.SIGCONT)
    assert "was not killed" in kills.kill(world, "poison", 0, "SIGKILL", "before")


# --- hands


def test_two_of_the_same_command_at_once_leave_one_result(world, here):
    folder = here("train")
    both = [world.start("train", folder) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in both] == [0, 0], world.said()
    assert world.again("train", folder) == "equal"
    assert len((folder / "results" / "RAVDESS.jsonl").read_text().splitlines()) == 1


def test_a_record_cut_short_is_recorded_again(world, here):
    folder = here("render")
    path = folder / "results" / "RAVDESS.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert world.again("train", folder) == "equal"
    assert "cut short" in world.said()


def test_a_clock_that_runs_backwards_changes_no_number(world, here):
    def backwards():
        seconds = itertools.count(2_000_000_000, -100)
        time.time = lambda: float(next(seconds))

    folder = here("train")
    assert world.run("train", folder, backwards) == 0, world.said()
    assert world.again("train", folder) == "equal"
    (done,) = folder.glob("exp/train/*/done.json")
    assert min(read_json(done)[key] for key in ("wall_s", "train_s")) >= 0
    lines = record.read(folder / "results" / "RAVDESS.jsonl")
    assert lines[0]["runtime"]["wall_s"] >= 0 and lines[0]["runtime"]["score_ms"] > 0


# --- disks


@pytest.fixture
def disk(world):
    """A small disk at the folder of a trial; skips where nothing may be mounted."""
    folder = world.folder / "trial"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder))
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("mounting is not allowed")

    def change(options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    yield folder, change
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_a_disk_that_fills_up_at_every_stage(world, disk):
    """It grows until the command ends; what was made before is used, what was half made is gone."""
    folder, change = disk
    filled = []
    for kilobytes in (12, 600, 1900, 2600):
        change(f"size={kilobytes}k")
        assert world.run("train", folder) == 1, (kilobytes, world.said())
        one_line(world, "cannot be written", "No space left" if kilobytes < 1000 else "free disk")
        assert not list(folder.rglob(".*"))
        filled.append(world.said().splitlines()[-1].partition("exp/")[2].partition("/")[0])
    assert filled == ["manifest", "pack", "train", "train"], filled
    change("size=100m")
    assert world.run("poison", folder) == 0  # which draws what the undisturbed one has
    assert world.again("train", folder) == "equal"


def test_a_disk_that_may_not_be_written(world, disk):
    folder, change = disk
    change("size=100m")
    shutil.copytree(world.undisturbed("poison"), folder, dirs_exist_ok=True)
    change("ro")
    assert world.run("train", folder) == 1
    one_line(world, "cannot be written", "Read-only file system")
    change("rw")
    assert world.again("train", folder) == "equal"


def failing(call, place, number):
    """From a point on, a call on files of this name fails like a disk does."""
    module, name, position = call
    works = getattr(module, name)

    def fails(*args, **kwargs):
        about = args[position]
        if place in str(about if isinstance(about, str | Path) else about.name):
            raise OSError(number, os.strerror(number))
        return works(*args, **kwargs)

    setattr(module, name, fails)


REPLACE, RENAME, SAVE = (os, "replace", 1), (os, "rename", 1), (torch, "save", 1)


@pytest.mark.parametrize(
    ("name", "call", "place", "number"),
    [
        ("prepare", REPLACE, "manifest/RAV", errno.EDQUOT),
        ("poison", REPLACE, "truth", errno.ENOSPC),
        ("repair", SAVE, "model.ckpt", errno.EDQUOT),
        ("train", RENAME, "save", errno.EROFS),
    ],
)
def test_a_write_that_fails_is_one_line(world, here, name, call, place, number):
    if place == "truth":  # the one table that is written without its own rename
        import pandas as pd

        call, place = (pd.DataFrame, "to_csv", 1), "truth"
    folder = here(name)
    assert world.run(name, folder, partial(failing, call, place, number)) == 1, world.said()
    one_line(world, os.strerror(number), "disk space")
    assert not list(folder.rglob(".*"))
    assert world.again(name, folder) == "equal"


def test_a_quota_met_while_a_record_is_appended(tmp_path, make_record, monkeypatch):
    path = tmp_path / "r.jsonl"
    record.append(path, make_record())
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"r\.jsonl: cannot append .*quota"):
            record.append(path, make_record({"id": "next"}))
    assert path.read_bytes() == before
    assert record.append(path, make_record({"id": "next"}))


# --- damage


def flip(path):
    """Turn one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(key):
    """Two entries of a list of a JSON file, or of the lines of a table, in each other's place."""

    def act(path):
        if key is None:
            lines = path.read_text().splitlines(keepends=True)
            lines[1], lines[2] = lines[2], lines[1]
            path.write_text("".join(lines))
            return
        value = json.loads(path.read_text())
        value[key][0], value[key][1] = value[key][1], value[key][0]
        path.write_text(json.dumps(value))

    return act


def become(key, value):
    """Another value of the right type in a JSON file."""

    def act(path):
        told = json.loads(path.read_text())
        assert told[key] != value
        path.write_text(json.dumps({**told, key: value}))

    return act


def replaced(old, new):
    def act(path):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return act


def gone(path):
    path.unlink()


def manifests(path):
    Corpus.load(path.parent, "k", Audio(path.parent, "f"))


def poisoned(path):
    attack_folder.read(path.parent, [path.name] if path.suffix == ".csv" else [])


def truth(path):
    read_truth(path.parent, attack_folder.read(path.parent)[0])


def scored(path):
    Scores({"test": path}).read("test")


def told(path):
    unsealed(path, read_json(path))


def encoder(path):
    check_classes(path.parent, ("Actor_01", "Actor_02"))


def kept(path):
    check_kept(path.parents[2] if path.parent.name.startswith("CKPT") else path.parent)


def packed(path):
    Pack.open(path.parent)


DAMAGED = [
    ("exp/pack/*/samples.i16", flip, packed),
    ("exp/pack/*/pack.json", swap("ids"), packed),
    ("exp/pack/*/pack.json", become("rate", 8000), packed),
    ("exp/manifest/*/train.csv", swap(None), manifests),
    ("exp/manifest/*/test.csv", replaced(",Actor_01,", ",Actor_02,"), manifests),
    ("exp/manifest/*/manifest.json", become("scale", "full"), manifests),
    ("exp/manifest/*/audio.json", become("digest", "0" * 12), told),
    ("exp/poison/*/train.csv", swap(None), poisoned),
    ("exp/poison/*/attack.json", become("rate", 0.3), poisoned),
    ("exp/poison/*/truth.csv", replaced("Actor_02", "Actor_01"), truth),
    ("exp/poison/*/truth.csv", swap(None), truth),
    ("exp/poison/*/stealth.json", become("stealth_snr_db", {"value": 1.0}), told),
    ("exp/train/*/scores/clean-*.jsonl", swap(None), scored),
    ("exp/train/*/scores/clean-*.jsonl", replaced("Actor_0", "Actor_1"), scored),
    ("exp/train/*/scores/clean-*.made.json", become("versions", {}), told),
    ("exp/train/*/done.json", become("parameters", 1), told),
    ("exp/train/*/save/CKPT*/classifier.ckpt", flip, kept),
    ("exp/train/*/save/CKPT*/classifier.ckpt", gone, kept),
    ("exp/train/*/save/CKPT*/CKPT.yaml", replaced("valid_loss: ", "valid_loss: 1"), kept),
    ("exp/train/*/label_encoder.txt", gone, encoder),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "spoil", "read"), DAMAGED)
def test_damage_is_seen(world, here, capsys, pattern, spoil, read):
    path = max(here("render").glob(pattern))
    read(path)
    assert "older" not in capsys.readouterr().out
    spoil(path)
    with pytest.raises(InputError, match=r"not as it was written|broken|gone") as caught:
        read(path)
    line = str(caught.value)
    assert str(path) in line and "delete" in line and len(line.splitlines()) == 1, line


def test_what_is_older_than_seals_is_taken_once_with_a_note(tmp_path, capsys):
    beside, path = tmp_path / "a.csv", tmp_path / "a.json"
    beside.write_text("1")
    path.write_text('{"b": [1, 2.5, "é"]}')
    value = unsealed(path, read_json(path), [beside])
    assert value == {"b": [1, 2.5, "é"]} and "older" in capsys.readouterr().out
    assert unsealed(path, read_json(path), [beside]) == value
    assert not capsys.readouterr().out
    beside.write_text("2")
    with pytest.raises(InputError, match=r"a\.csv: not as it was written .* delete the folder"):
        unsealed(path, read_json(path), [beside])
    unsealed(path, read_json(path))  # of what does not read that file


@pytest.mark.parametrize("mark", [7, [], {}, {"files": 1}, {"files": {}, "digest": "x"}])
def test_a_seal_that_is_none_is_damage(tmp_path, mark):
    path = tmp_path / "a.json"
    write_sealed(path, {"b": 1})
    value = read_json(path) | {SEAL: mark}
    with pytest.raises(InputError, match="not as it was written"):
        unsealed(path, value)


def test_a_damaged_truth_ends_a_command_in_one_line(world, here):
    folder = here("render")
    (path,) = folder.glob("exp/poison/*/truth.csv")
    replaced("Actor_02", "Actor_01")(path)
    assert world.run("train", folder) == 1
    one_line(world, str(path), "its digest differs", "run the stage again")
    shutil.rmtree(path.parent)
    assert world.run("train", folder) == 0, world.said()


# --- drawn inputs


def test_a_few_seconds_of_drawn_inputs():
    """`tools/fuzz.py` for longer; what it finds becomes a row of tests/test_hostile.py."""
    command = [sys.executable, str(TOOLS / "fuzz.py"), "--minutes=0.05", "--turn=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout).values()) >= 60
