"""`tools/gpu.sh` on a CPU, all of it small; and what ends its parts."""

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bdlib.errors import InputError

ROOT = Path(__file__).parents[1]
MODELS = {path.stem.replace("_small", "") for path in ROOT.glob("recipes/*/hparams/*.yaml")}


def module(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools" / "bench")
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def processes():
    return module("gpu.processes")


@pytest.fixture(scope="module")
def lines():
    return module("shared.lines")


def test_everything_small_and_a_table(tmp_path, few_words, lines):
    """What stands is not measured again; what was cut off is, and a line cut short harms nothing."""
    stands = {"part": "peak", "status": "ok", "seconds": 1, "device_asked": "cpu", "quick": True,
              "says": "stood before"}  # fmt: skip
    before = map(json.dumps, (stands, stands | {"part": "smoke", "status": "cut off"}))
    (tmp_path / "gpu.jsonl").write_text("\n".join([*before, '{"part": "mvj']))
    corpus = few_words(tmp_path / "few", 16)
    done = subprocess.run(
        [ROOT / "tools/gpu.sh", "--device=cpu", "--quick", f"--output={tmp_path}", f"--data_folder={corpus}"],
        env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    _, _, *measured = lines.read(tmp_path / "gpu.jsonl")
    assert not done.returncode and {line["status"] for line in measured} == {"ok"}, done
    found = {line["part"]: line for line in measured}
    parts = ("device", "throughput_mvd_small", "mvj_step", "trainings", "smoke", "train_mvd_small")
    assert tuple(found) == parts
    stepped = {Path(name).stem.replace("_small", "") for name in found["smoke"]["steps"]}
    assert stepped == MODELS and not found["smoke"]["failed"]
    throughput = found["throughput_mvd_small"]
    assert throughput["clips_per_s"] > 0 and 0 < throughput["share_of_matmul_peak"] < 2
    # 3 (4 + 2) + 2 * 2 * 2 + 2 passes over 3 * 4
    assert found["mvj_step"]["arithmetic_ratio"] == 2.333 and found["mvj_step"]["ratio"] > 1
    assert set(found["trainings"]["per_hour"]) == {"1", "2"}
    record = json.loads((tmp_path / "records" / "SpeechCommands.jsonl").read_text())
    assert record["id"] == found["train_mvd_small"]["record"]
    table = done.stdout.partition("ended")[2]
    assert all(line["says"] in table for line in (stands, *measured))


def test_models_that_nothing_stepped_come_first():
    """So that a step of every yaml that is cut off leaves out what is known or alike."""
    parts = module("gpu.parts")
    names = [path.stem.replace("_small", "") for path in parts.recipes(False)]
    first = names[: len(MODELS) - len(parts.PUBLISHED)]
    assert set(first) == MODELS - set(parts.PUBLISHED)
    assert len(names) == len(list(ROOT.glob("recipes/*/hparams/*.yaml")))


def hanging(args, tell):
    """A part that tells something, and then never ends."""
    tell(known=args)
    time.sleep(60)


def failing(args, tell):
    """A part that fails, after it told something."""
    tell(known=args)
    raise InputError("no such thing")


def test_a_part_is_cut_off_at_its_limit(processes, tmp_path):
    told = processes.alone(hanging, 3, tmp_path / "part", 0.5, "fork")
    assert told["status"] == "cut off" and told["known"] == 3 and told["seconds"] < 10


def test_a_part_that_fails_says_why(processes, tmp_path):
    told = processes.alone(failing, 3, tmp_path / "part", 30, "fork")
    assert told["status"] == "failed" and told["known"] == 3 and told["error"] == "no such thing"


def test_no_part_outlives_the_program(processes, tmp_path):
    part = (hanging, os.getpid(), tmp_path / "part", 60, "fork")
    program = multiprocessing.get_context("fork").Process(target=processes.alone, args=part)
    program.start()
    while (
        not (tmp_path / "part.json").exists() or "known" not in (tmp_path / "part.json").read_text()
    ):
        time.sleep(0.02)
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    program.kill()
    program.join()
    assert len(children) == 1
    for _ in range(100):
        if not Path(f"/proc/{children[0]}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the part goes on")


def meeting(ready, bad):
    """One of several, which are all ready or all fail."""
    if bad:
        raise ValueError("out of memory")
    ready()
    return 1.5


def test_processes_wait_for_each_other(processes):
    assert processes.together(meeting, 3, "fork", False) == [1.5] * 3
    with pytest.raises(RuntimeError, match="2 of 2 processes failed"):
        processes.together(meeting, 2, "fork", True)


def test_epochs_are_as_many_as_fit(tmp_path):
    """100 clips at 10, 5 and 50 a second take 1.3 * 32 s an epoch; four fifths of the time are used."""
    real, args = module("gpu.real"), importlib.import_module("argparse").Namespace
    for number in range(100):
        (tmp_path / f"{number}.wav").touch()
    speeds = {f"throughput_{name}": {"clips_per_s": value}
              for name, value in (("mvd", 10), ("mvj", 5), ("resnet50", 50))}  # fmt: skip
    given = args(data_folder=str(tmp_path), quick=False)
    made = real.parts(given, speeds, 1040)
    assert list(made) == ["train_mvd", "train_mvj", "train_resnet50"]
    assert {
        work.func.args[0] if hasattr(work.func, "args") else work.args[0]
        for work, _ in made.values()
    } == {20}
    del speeds["throughput_mvj"]
    assert not real.parts(given, speeds, 1040)
    assert not real.parts(args(data_folder=None, quick=False), speeds, 1040)
