"""Programs of a sweep on Ray: how many at once, and that none is lost or doubled where workers are."""

import argparse
import importlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml

from bdlib.cli import workers
from bdlib.cli.cells import cells
from bdlib.cli.programs import programs
from bdlib.errors import InputError
from bdlib.files import digest
from bdlib.records import record

TOOLS = Path(__file__).parents[2] / "tools"
CELL = """
import json, os, shlex, signal, sys, time
from pathlib import Path
from bdlib.files import digest
from bdlib.records import record

program, *words = sys.argv
levels = [n for n, word in enumerate(words) if word.startswith("--levels=")] or [None]
texts = words[levels[0]].removeprefix("--levels=").split(" ; ") if levels != [None] else [None]
for text in texts:
    line = words if text is None else [text if n == levels[0] else w for n, w in enumerate(words)]
    command = shlex.join(["python", program, *line])
    began = time.time()
    time.sleep(0.4)
    if "--quantum=0 --seed=1" in command:
        raise SystemExit("no quantum")
    entry = json.loads(Path("entry.json").read_text())
    entry |= {"id": digest(command), "command": command, "seed": len(command)}
    where = [os.environ["CUDA_VISIBLE_DEVICES"], os.environ["RAY_RAYLET_PID"]]
    entry["runtime"] |= {"where": where, "from": began, "to": time.time()}
    record.append("exp/results/recipe.jsonl", entry)
    print("recorded in there")
"""


@pytest.fixture
def table(tmp_path, make_record):
    """A table of 20 cells, 10 programs, one cell of which fails; and its recipe."""
    recipe = tmp_path / "recipes" / "recipe"
    (recipe / "experiments").mkdir(parents=True)
    for program in ("train.py", "defend.py"):
        (recipe / program).write_text(CELL)
    (recipe / "entry.json").write_text(json.dumps(make_record({"dataset.name": "recipe"})))
    guards = {"model": ["a"], "defense": ["quantise"], "quantum": [8, 0, 32]}
    data = {
        "experiment": "t",
        "seeds": [0, 1, 2, 3, 4],
        "grid": [{"model": ["a"]}, guards],
        "scales": {"mini": {}},
    }
    path = recipe / "experiments" / "t.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def test_shares_of_machines():
    cpu, gpus = {"CPU": 4.0}, {"CPU": 16.0, "GPU": 8.0}
    assert workers.shares([cpu, {"CPU": 2.0}], None, None) == (2, 0)  # the sum of nodes is nowhere
    assert workers.shares([cpu, gpus], None, None) == (2, 1)
    assert workers.shares([cpu, {"CPU": 3.0, "GPU": 1.0}], None, 0.25) == (0.75, 0.25)
    assert workers.shares([{"CPU": 6.0, "GPU": 1.0}], None, 0.25) == (1, 0.25)
    assert workers.shares([{"CPU": 0.0}, cpu], None, None) == (4, 0)
    assert workers.shares([cpu, gpus], 3, 0) == (3, 0)
    for nodes, cpus, share, message in (
        ([cpu], None, 0.25, "no node has 1 CPUs and 0.25 GPUs"),
        ([cpu, gpus], 17, None, "no node has 17 CPUs and 1 GPUs"),
        ([gpus], None, 1.5, "--gpus_per_cell=1.5: give a share"),
        ([cpu], -1, None, "--cpus_per_cell=-1: give a share"),
        ([cpu], float("nan"), None, "--cpus_per_cell=nan: give a share"),
    ):
        with pytest.raises(InputError, match=message):
            workers.shares(nodes, cpus, share)


def test_a_program_that_is_stopped_has_not_failed(table, monkeypatch):
    """It is tried again; the one that ends by itself, whatever its exit code, is not."""
    first, *_ = programs(cells(table, "mini"))
    program = table.parents[1] / "train.py"
    for act, said in (
        ("os.kill(os.getpid(), signal.SIGTERM)", "stopped by SIGTERM"),
        ("sys.exit(130)", "stopped by SIGINT"),
    ):
        program.write_text(f"import os, signal, sys; print('here'); {act}")
        with pytest.raises(workers.Stopped):
            workers.run(first)
        assert first.log.read_text().split("\n")[:3] == ["here", "", said]
    program.write_text("import sys; sys.exit(3)")
    assert workers.run(first)[0] == 3 and first.log.read_text() == ""


def test_lost_workers_and_a_lost_sweep_leave_one_record_a_cell(table, monkeypatch):
    """Two nodes of one GPU, four programs on each; one node loses its workers, then the driver dies."""
    pytest.importorskip("ray")
    monkeypatch.syspath_prepend(TOOLS)
    lost = importlib.import_module("lost_workers")
    results = table.parents[1] / "exp" / "results" / "recipe.jsonl"
    with lost.two_nodes(num_cpus=2, num_gpus=1) as (address, raylet):
        command = [*lost.SWEEP, str(table), "--scale=mini", f"--address={address}"]
        command += ["--gpus-per-cell=0.25"]
        happened = lost.disturbed(command, raylet, results, 20)
    assert happened["killed_workers"] > 0 and happened["status"] == 1
    assert 10 <= happened["records_when_the_sweep_was_killed"] < 20
    assert " begun before" in happened["then"] and " 0 begun" not in happened["then"]
    found = {entry["command"]: entry for entry in record.read(results)}
    listed = cells(table, "mini")
    assert len(results.read_bytes().splitlines()) == len(found) == len(listed) == 20
    bad = [cell for cell in listed if {"--quantum=0", "--seed=1"} <= set(cell.options)]
    for cell in listed:
        entry = found[cell.told]
        assert (entry["status"], cell.told) == ("failed" if cell in bad else "ok", cell.told)
        assert cell in bad or entry["id"] == digest(cell.line)
    assert found[bad[0].told]["error"].endswith("no quantum")
    spans = [entry["runtime"] for entry in found.values() if entry["status"] == "ok"]
    assert {tuple(span["where"])[0] for span in spans} == {"0"}
    assert len({span["where"][1] for span in spans}) == 2
    beside = [
        sum(a["where"] == b["where"] and a["from"] <= b["from"] < a["to"] for a in spans)
        for b in spans
    ]
    assert 2 <= max(beside) <= 4
