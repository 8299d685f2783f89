"""Programs of a sweep on Ray: how many at once, and that none is lost or doubled where workers are."""

import fcntl
import importlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
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

lines = [sys.argv]
for n, word in enumerate(sys.argv):
    if word.startswith("--levels="):
        lines = [[*sys.argv[:n], level, *sys.argv[n + 1 :]] for level in word[9:].split(" ; ")]
for line in lines:
    command, began = shlex.join(["python", *line]), time.time()
    time.sleep(0.4)
    if "--quantum=0 --seed=1" in command:
        raise SystemExit("no quantum")
    if "--quantum=32 --seed=2" in command and not Path("stopped").exists():
        Path("stopped").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    entry = json.loads(Path("entry.json").read_text())
    entry |= {"id": digest(command), "command": command}
    where = [os.environ["CUDA_VISIBLE_DEVICES"], os.environ["RAY_RAYLET_PID"]]
    entry["runtime"] |= {"where": where, "from": began, "to": time.time()}
    record.append("exp/results/recipe.jsonl", entry)
    print("recorded in there")
"""


@pytest.fixture
def lost(monkeypatch):
    """The tool."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("lost_workers")


@pytest.fixture
def table(tmp_path, make_record):
    """A table of 20 cells, 10 programs, one of which fails and one is stopped once; and its recipe."""
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


def test_a_program_that_is_stopped_has_not_failed(table):
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


def test_a_program_that_runs_elsewhere_is_waited_for(table):
    """Whoever holds the log: another sweep, or a program that outlives its worker for a moment."""
    first, *_ = programs(cells(table, "mini"))
    (table.parents[1] / "train.py").write_text("print('mine')")
    first.log.parent.mkdir(parents=True)
    with ThreadPoolExecutor() as pool, first.log.open("w") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        running = pool.submit(workers.run, first)
        log.write("another's")
        log.flush()
        with pytest.raises(TimeoutError):
            running.result(0.5)
        assert first.log.read_text() == "another's" and first.state == "running"
        fcntl.flock(log, fcntl.LOCK_UN)
        assert running.result(60)[0] == 0
    assert first.log.read_text() == "mine\n" and first.state == "begun"


def test_lost_workers_and_a_lost_sweep_leave_one_record_a_cell(table, lost):
    """Two nodes of one GPU, two programs on each; one node loses its workers, then the driver dies."""
    pytest.importorskip("ray")
    results = table.parents[1] / "exp" / "results" / "recipe.jsonl"
    listed = cells(table, "mini")
    with lost.two_nodes(num_cpus=1, num_gpus=1) as (address, raylet):
        command = [*lost.SWEEP, str(table), "--scale=mini", f"--address={address}"]
        command += ["--gpus-per-cell=0.5"]
        happened = lost.disturbed(command, raylet, results, listed)
    assert happened["killed_workers"] > 0
    assert 10 <= happened["records_when_the_sweep_was_killed"] < 20
    assert sum(map(int, re.findall(r"(\d+) (?:begun|running)", happened["then"]))) > 0
    found = {entry["command"]: entry for entry in record.read(results)}
    assert len(results.read_bytes().splitlines()) == len(found) == len(listed) == 20
    bad = [cell for cell in listed if {"--quantum=0", "--seed=1"} <= set(cell.options)]
    for cell in listed:
        entry = found[cell.told]
        assert (entry["status"], cell.told) == ("failed" if cell in bad else "ok", cell.told)
        assert cell in bad or entry["id"] == digest(cell.line)
    assert found[bad[0].told]["error"].endswith("no quantum")
    assert (table.parents[1] / "stopped").exists()
    spans = [entry["runtime"] for entry in found.values() if entry["status"] == "ok"]
    assert {gpu for gpu, _ in (span["where"] for span in spans)} == {"0"}
    assert len({node for _, node in (span["where"] for span in spans)}) == 2
    beside = [
        sum(a["where"] == b["where"] and a["from"] <= b["from"] < a["to"] for a in spans)
        for b in spans
    ]
    assert max(beside) == 2


def test_what_differs_from_a_serial_run_is_told(lost, tmp_path, make_record):
    """Another number, another id, a record too many or too few; times are not compared."""
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    entries = [make_record({"id": f"r{n}", "command": f"c{n}"}) for n in range(5)]
    one.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    number = {"metrics.clean_accuracy": {"value": 0.5}}
    changes = ({"time": "later", "runtime.wall_s": 9}, number, {"id": "r9"}, {})
    entries = [make_record({"id": f"r{n}", "command": f"c{n}"} | changes[n]) for n in range(4)]
    entries.append(entries[3])
    other.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert lost.differences(one, other) == ["c1", "c2", "c3", "c4"]
    assert lost.differences(one, one) == []
