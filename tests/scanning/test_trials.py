"""`tools/scan_trials.py`: its lines are those of a scan, and a trial that has one is not tried again."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

TOOL = Path(__file__).parents[2] / "tools" / "scan_trials.py"
PLAN = {
    "task": "words", "seeds": [0], "source": "no", "target": "left", "policies": {"all": [0.1]},
    "triggers": ["none"], "clean_label": {"triggers": ["clap"], "rates": [0.5]}, "small": {"seeds": []},
    "emotions": [], "speakers": [], "shares": [], "clean": {"seeds": [1]},
    "label_noise": {"rates": [0.1], "seeds": [0]},
}  # fmt: skip


@pytest.fixture
def trials(encoder, tmp_path, monkeypatch):
    specification = importlib.util.spec_from_file_location("scan_trials", TOOL)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    (tmp_path / "list.yaml").write_text(yaml.safe_dump({"loud": PLAN}))
    monkeypatch.setattr(module, "LIST", tmp_path / "list.yaml")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "lines")
    return module


def test_lines_tell_what_a_scan_says_beside_the_truth(trials, corpus, tmp_path, capsys):
    folders = {"words": corpus, "speakers": corpus}
    trials.run("loud", folders, tmp_path / "cache", "all")
    trials.run("loud", folders, tmp_path / "cache", None)
    lines = (tmp_path / "lines" / "loud.jsonl").read_text().splitlines()
    trials.run("loud", folders, tmp_path / "cache", None)
    assert (tmp_path / "lines" / "loud.jsonl").read_text().splitlines() == lines
    capsys.readouterr()
    told = {line["trial"]["kind"]: line for line in map(json.loads, lines)}
    assert len(lines) == 5 and set(told) == {"clean", "noise", "clean label", "all"}
    spread, label = told["all"], told["clean label"]
    assert (spread["poisoned"], spread["clips"], spread["target"]) == (15, 150, "left")
    assert spread["called"] == spread["called_by_labels"] == ["left"] and spread["found"] >= 12
    assert spread["clean_flagged"] <= 3 and spread["clean"] == 135
    assert (label["poisoned"], label["found"], label["called_by_labels"]) == (12, 12, [])
    clean = told["clean"]
    assert clean["poisoned"] == clean["found"] == 0 and clean["target"] is None
    assert told["noise"]["poisoned"] == 15 and told["noise"]["verdict"] != "poisoned"
