"""Parts of pages are made anew, and a page that says something else is named."""

import importlib
import sys
from pathlib import Path

import pytest

PAGE = "before <!-- kind a:begin -->{}<!-- kind a:end --> after"


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """The program, for one page of one part."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tools")
    program = importlib.import_module("tables")
    monkeypatch.setattr(program, "MADE", {"kind": {"page.md": {"a": lambda: "new"}}})
    monkeypatch.setattr(program, "ROOT", tmp_path)
    return program


@pytest.mark.parametrize(
    ("told", "options", "status", "left"),
    [
        ("old", [], 0, "new"),
        ("old", ["--check"], 1, "old"),
        ("new", ["--check"], 0, "new"),
    ],
)
def test_a_part_is_written_or_compared(
    tables, tmp_path, monkeypatch, capsys, told, options, status, left
):
    path = tmp_path / "page.md"
    path.write_text(PAGE.format(told))
    monkeypatch.setattr(sys, "argv", ["tables.py", *options])
    assert tables.main() == status
    assert path.read_text() == PAGE.format(left)
    assert ("page.md differs" in capsys.readouterr().err) == bool(status)


def test_a_page_without_the_place_is_named(tables, tmp_path, monkeypatch, capsys):
    (tmp_path / "page.md").write_text("nothing")
    monkeypatch.setattr(sys, "argv", ["tables.py"])
    assert tables.main() == 1
    assert capsys.readouterr().err.startswith("error: page.md: no <!-- kind a:begin -->")


def test_nets_that_heard_different_sounds_are_no_pair(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tools")
    fresh = importlib.import_module("fresh_tables")
    attack = {"name": "flowmur", "labels": {}, "target": "no", "heard": "a"}
    none = {"attack": attack, "seed": 3, "defense": None, "metrics": {}}
    kept = none | {"defense": {"name": fresh.FILTER}}
    monkeypatch.setattr(fresh, "runs", lambda experiment: iter([none, kept]))
    assert fresh.cells("fresh") == {"flowmur": ([{}], [{}], [(3, "no")])}
    kept["attack"] = attack | {"heard": "b"}
    with pytest.raises(ValueError, match="heard different sounds"):
        fresh.cells("fresh")
