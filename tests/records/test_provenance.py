"""By what code a number was made: the commit, what differs from it, the packages."""

import subprocess
from importlib.metadata import version

import pytest

from bdlib.records import provenance


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository with one commit, in which the package is taken to be."""

    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", tmp_path, *name, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("a = 1\n")
    (tmp_path / ".gitignore").write_text("exp/\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.yaml").write_text("a: 1\n")
    git("add", ".")
    git("commit", "-m", "one")
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    return tmp_path


def test_a_clean_clone_has_a_commit(clone):
    told = provenance.source()
    assert told["dirty"] is False and len(told["commit"]) == 40
    assert provenance.place(clone / "recipes" / "A") == "recipes/A"
    assert provenance.place(clone.parent / "A") == "A"


@pytest.mark.parametrize(
    ("path", "dirty"),
    [
        ("code.py", True),  # known, and changed
        ("recipes/Mine/prepare.py", True),  # not added yet
        ("recipes/Mine/hparams/ä b.yaml", True),
        ("notes.txt", False),
        ("exp/a.py", False),  # ignored
        ("results/a.yaml", False),  # what comes of the code, not the code
    ],
)
def test_code_that_no_commit_holds_is_dirty(clone, path, dirty):
    (clone / path).parent.mkdir(parents=True, exist_ok=True)
    (clone / path).write_text("b\n")
    assert provenance.source()["dirty"] is dirty


def test_without_git_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    told = provenance.source()
    assert told["commit"] is None and told["dirty"] is None


def test_versions_hold_what_computes(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(provenance, "EXTRAS", ("pytest", "not-there"))
    told = provenance.versions()
    for name in ("scipy", "scikit-learn", "soundfile", "numpy", "torch", "pytest"):
        assert told[name] == version(name)
    assert told["threads"] == 3 and "not-there" not in told


def test_the_repository_around_an_installed_package_is_another(clone, monkeypatch):
    inside = clone / ".venv" / "lib"
    inside.mkdir(parents=True)
    monkeypatch.setattr(provenance, "_ROOT", inside)
    told = provenance.source()
    assert told["commit"] is None and told["dirty"] is None
