"""Records that are made again: which are drawn, what is run, and what counts as the same."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bdlib.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        return importlib.import_module("again")


def known(make_record, **changes):
    command = "python train.py hparams/smallcnn.yaml --data_folder=data/SpeechCommands --seed=1"
    counts = {"value": 0.9, "count": 90, "total": 100}
    metrics = {"clean_accuracy": counts, "attack_success_rate": counts}
    about = {"command": command, "recipe": "recipes/SpeechCommands", "metrics": metrics}
    return make_record(about | changes)


def test_a_lot_is_of_what_was_measured_and_does_not_depend_on_the_order(tool, make_record):
    some = [known(make_record, id=f"r{n}") for n in range(8)]
    some[3]["status"] = "failed"
    names = [record["id"] for record in tool.drawn(some, 3, 0)]
    assert len(names) == 3 and "r3" not in names
    assert names == [record["id"] for record in tool.drawn(some[::-1], 3, 0)]
    assert names != [record["id"] for record in tool.drawn(some, 3, 1)]
    assert len(tool.drawn(some, 99, 0)) == 7


@pytest.mark.parametrize("count, within", [(90, True), (83, True), (82, False), (97, False)])
def test_the_same_is_what_lies_in_the_interval(tool, make_record, count, within):
    """Of 90 in 100 the Wilson interval is 82.6 to 94.5 %."""
    old, new = known(make_record), known(make_record)
    new["metrics"]["attack_success_rate"] = {"value": count / 100, "count": count, "total": 100}
    told = tool.compared(old, new)
    assert told["within"] == within and told["same_id"]
    assert told["attack_success_rate"]["again"]["count"] == count
    new["metrics"]["clean_accuracy"] = {"value": 0.9, "count": 9, "total": 10}
    assert not tool.compared(old, new)["within"]  # of other clips


def test_its_own_command_is_run_in_a_folder_of_its_own(tool, make_record, monkeypatch, tmp_path):
    asked = {}

    def run(line, cwd, **_):
        asked.update(line=line, cwd=cwd)
        made = known(make_record, id="new")
        (tmp_path / "SpeechCommands.jsonl").write_text(json.dumps(made) + "\n")
        return subprocess.CompletedProcess(line, asked.get("status", 0), "", "first\nno such clip")

    monkeypatch.setattr(subprocess, "run", run)
    assert tool.again(known(make_record), "/data", tmp_path)["id"] == "new"
    assert asked["cwd"] == ROOT / "recipes" / "SpeechCommands"
    assert asked["line"] == [
        *(sys.executable, "train.py", "hparams/smallcnn.yaml", "--seed=1", "--data_folder=/data"),
        *(f"--output_folder={tmp_path}", f"--results_folder={tmp_path}"),
    ]
    mini = "python train.py hparams/smallcnn.yaml --data_folder=mini"
    tool.again(known(make_record, command=mini), "/data", tmp_path)
    assert asked["line"][3] == "--data_folder=mini"  # synthetic speech is no other corpus
    asked["status"] = 1
    with pytest.raises(InputError, match="failed: no such clip"):
        tool.again(known(make_record), "/data", tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "python /mnt/evil.py x"},
        {"command": "python ../../tools/gpu.py"},
        {"command": "python train.py /mnt/evil.yaml"},
        {"command": "python train.py hparams/../../x.yaml"},
        {"command": "python train.py hparams/smallcnn.yaml --attack=/mnt/evil.yaml"},
        {"command": "python"},
        {"dataset.name": "../tools"},
    ],
)
def test_a_record_from_a_stranger_runs_nothing_else(
    tool, make_record, monkeypatch, tmp_path, changes
):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("ran"))
    with pytest.raises(InputError, match="is no run of a recipe alone"):
        tool.again(known(make_record, **changes), "/data", tmp_path)
