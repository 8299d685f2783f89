"""Parts of pages that tools make."""

import importlib.util
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location(
    "blocks", Path(__file__).parents[1] / "tools" / "blocks.py"
)
blocks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(blocks)
PAGE = "a <!-- x one:begin -->old<!-- x one:end --> b\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Exit status, and what the page says afterwards."""
    monkeypatch.setattr(blocks, "ROOT", tmp_path)

    def command(page, *options):
        (tmp_path / "p.md").write_text(page)
        monkeypatch.setattr(sys, "argv", ["tools/t.py", *options])
        status = blocks.main("About.", "x", {"p.md": {"one": lambda: "new"}})
        return status, (tmp_path / "p.md").read_text()

    return command


def test_a_part_is_made_and_checked(run, capsys):
    made = PAGE.replace("old", "new")
    assert run(PAGE, "--check") == (1, PAGE)
    assert "p.md differs from results; run tools/t.py" in capsys.readouterr().err
    assert run(PAGE) == (0, made) and run(made, "--check") == (0, made)


def test_a_part_without_a_place(run, capsys):
    assert run("nothing\n") == (1, "nothing\n")
    assert "no <!-- x one:begin --> with its <!-- x one:end -->" in capsys.readouterr().err
