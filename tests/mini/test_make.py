"""How a mini corpus is put down: once, whole, and only where nothing else is."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bdlib import mini
from bdlib.errors import InputError
from bdlib.files import file_digest, read_json
from bdlib.mini import esd, espeak, ravdess

pytest.importorskip("espeakng_loader", reason='needs `pip install -e ".[mini]"`')


def contents(folder: Path) -> str:
    return file_digest(*sorted(folder.rglob("*.wav")))


@pytest.fixture
def small(monkeypatch):
    """Let `make` make a tiny ESD, and list the seeds of those it made."""
    made = []

    def write(folder: Path, seed: int, nested: bool = False) -> dict[str, int]:
        made.append(seed)
        return esd.write(folder, seed, nested=nested, speakers=("0011",), texts=1)

    monkeypatch.setitem(mini.DATASETS, "ESD", SimpleNamespace(write=write))
    return made


def test_make_makes_once(tmp_path, small):
    folder = mini.make("ESD", tmp_path / "esd")
    first = contents(folder)
    note = read_json(folder / "mini.json")
    assert (note["dataset"], note["seed"], note["files"], note["scale"]) == ("ESD", 0, 5, "mini")
    assert "synthetic" in note["source"]
    assert mini.make("ESD", folder) == folder
    assert small == [0]
    (folder / "0011/Sad/0011_001051.wav").unlink()
    mini.make("ESD", folder)
    assert small == [0, 0]
    assert contents(folder) == first
    mini.make("ESD", folder, seed=1)
    assert contents(folder) != first
    mini.make("ESD", folder, seed=1, nested=True)
    assert small == [0, 0, 1, 1]
    assert not (folder / "0011/Sad/0011_001051.wav").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["esd"]


def test_older_version_is_made_anew(tmp_path, small, monkeypatch):
    folder = mini.make("ESD", tmp_path / "esd")
    monkeypatch.setattr(mini, "VERSION", mini.VERSION + 1)
    mini.make("ESD", folder)
    assert small == [0, 0]


@pytest.mark.parametrize("name", ["0011/Sad/mine.wav", "notes/thesis.txt"])
def test_files_of_a_person_are_not_replaced(tmp_path, small, name):
    folder = mini.make("ESD", tmp_path / "esd")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("precious")
    for seed in (0, 1):
        with pytest.raises(InputError, match=r"mini\.json does not list it; move it away"):
            mini.make("ESD", folder, seed=seed)
        assert (folder / name).read_text() == "precious"
    (folder / name).rename(tmp_path / "mine")
    (folder / ".DS_Store").write_text("of a Mac")
    mini.make("ESD", folder)
    assert small == [0]


def test_a_note_without_names_is_an_older_one(tmp_path, small):
    folder = mini.make("ESD", tmp_path / "esd")
    note = read_json(folder / "mini.json")
    del note["names"]
    (folder / "mini.json").write_text(json.dumps(note))
    mini.make("ESD", folder)
    assert small == [0]
    (folder / "0011/Sad/mine.wav").write_text("precious")
    with pytest.raises(InputError, match="does not list it"):
        mini.make("ESD", folder)


def test_interrupted_make_leaves_nothing(tmp_path, monkeypatch):
    def write(folder: Path, seed: int) -> dict[str, int]:
        ravdess.write(folder, seed, actors=1)
        raise KeyboardInterrupt

    monkeypatch.setitem(mini.DATASETS, "RAVDESS", SimpleNamespace(write=write))
    with pytest.raises(KeyboardInterrupt):
        mini.make("RAVDESS", tmp_path / "ravdess")
    assert not list(tmp_path.iterdir())


def test_make_refuses(tmp_path, small):
    with pytest.raises(InputError, match="only of SpeechCommands, ESD, RAVDESS; give"):
        mini.make("TIMIT", tmp_path / "x")
    with pytest.raises(InputError, match="nested"):
        mini.make("RAVDESS", tmp_path / "x", nested=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="mine: holds something other"):
        mini.make("ESD", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    folder = mini.make("ESD", tmp_path / "esd")
    with pytest.raises(InputError, match="mini corpus of ESD"):
        mini.make("RAVDESS", folder)


def test_without_the_package(tmp_path, monkeypatch, small):
    complete = mini.make("ESD", tmp_path / "esd")
    espeak._unpacked.cache_clear()
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=re.escape('pip install -e ".[mini]"')):
        mini.make("SpeechCommands", tmp_path / "commands")
    assert not (tmp_path / "commands").exists()
    assert mini.make("ESD", complete) == complete


def test_command_line(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "bdlib.mini", *arguments],
            capture_output=True,
            text=True,
            cwd=Path(mini.__file__).parents[2],
        )

    shown = run("--help")
    assert shown.returncode == 0
    assert "--seed" in shown.stdout
    (tmp_path / "thesis.txt").write_text("precious")
    refused = run("RAVDESS", str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert len(refused.stderr.splitlines()) == 1
