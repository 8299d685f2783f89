"""What the hours of docs/hours.md count: trainings once, and operations as the benches do."""

import importlib
import math
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "SpeechCommands"
EMOTIONS = ROOT / "recipes" / "RAVDESS"


@pytest.fixture(scope="module")
def hours():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools" / "bench")
        return importlib.import_module("shared.hours")


@pytest.mark.parametrize(
    ("recipe", "experiment", "runs", "trainings"),
    # Guards share the training of their classifier; each of six filters trains once more; the 48 clean
    # twins of eight triggers are six; nets without an emotion are asked with two targets.
    [
        (RECIPE, "mvj_table1", 36, 36),
        (RECIPE, "mvj_table4", 1170, 36),
        (RECIPE, "vae_pls", 21, 21),
        (RECIPE, "mvj_cpu", 210, 168),
        (EMOTIONS, "emoback_floor", 144, 72),
    ],
)
def test_a_training_counts_once(hours, recipe, experiment, runs, trainings):
    listed = tuple(hours.cells(recipe / "experiments" / f"{experiment}.yaml", "full", "data"))
    assert len(listed) == runs
    assert len(hours.Work(recipe.name, "full", listed).trainings) == trainings


def test_operations_are_those_of_the_published_nets(hours):
    """27.3 and 67.1 billion multiply-adds a view and a clip; MVJ with its samples of 26 epochs."""
    counted = {name: hours.operations(RECIPE / "hparams" / f"{name}.yaml")
               for name in ("mvd", "mvj", "base_wrn")}  # fmt: skip
    assert math.isclose(counted["mvd"]["training"], 3 * 2 * 27.3e9, rel_tol=0.01)
    passes = 3 * 70 + 2 * 6 * (20 + 13) + 6  # over 64 clips
    ratio = counted["mvj"]["training"] / counted["mvd"]["training"]
    assert math.isclose(ratio, passes / (3 * 64))
    assert math.isclose(counted["base_wrn"]["training"], 3 * 2 * 67.1e9, rel_tol=0.02)
    assert math.isclose(counted["mvd"]["scoring"], 2 * 67.1e9, rel_tol=0.01)


def test_a_training_on_record_tells_of_its_size_once(hours, monkeypatch):
    """Of 2 epochs over 10 clips: 1 s a clip and epoch, told thrice by guards, and 3 s in another run."""

    def run(seconds, seed, batch=16, device="cpu"):
        settings = {"model": {"depth": 10}, "train": {"batch_size": batch}}
        about = {"name": "m", "epochs": 2, "clips": 10, "settings": settings}
        runtime = {"train_s": 20 * seconds, "device": device}
        return {"model": about, "seed": seed, "time": "t", "runtime": runtime}

    some = [
        run(1, 0),
        run(1, 0),
        run(1, 0),
        run(3, 1),
        run(9, 2, batch=64),
        run(9, 3, device="cuda"),
    ]
    monkeypatch.setattr(hours, "records", lambda: some)
    assert hours.measured.__wrapped__("m", "core", (16, 10)) == 2
    assert hours.measured.__wrapped__("m", "core", (16, 16)) is None


def test_hours_of_records_and_of_arithmetic(hours, monkeypatch):
    """Ten seconds a clip and epoch, 36 trainings of 26 or 20 epochs; else a rate that is assumed."""
    listed = tuple(hours.cells(RECIPE / "experiments" / "mvj_table1.yaml", "full", "data"))
    work = hours.Work("SpeechCommands", "full", listed)
    monkeypatch.setattr(hours, "measured", lambda *asked: 0.01)
    total = 12 * (20 + 26 + 26) * 85511 * 0.01 / 3600
    assert work.hours("core") == f"{total:,.0f} (m)"
    monkeypatch.setattr(hours, "measured", lambda *asked: None)
    monkeypatch.setattr(hours, "operations", lambda path: {"training": 5e8, "scoring": 1e9})
    assert work.hours("core") == f"{total:,.0f} (a)"


def test_clips_are_of_the_data_set_that_is_asked(hours, monkeypatch):
    """Experiments of two data sets may have one name."""

    def run(dataset, experiment, scale, clips):
        told = {"dataset": {"name": dataset, "scale": scale}, "experiment": experiment}
        return told | {"model": {"clips": clips}}

    some = [
        run("RAVDESS", "leaderboard", "full", 1008),
        run("SpeechCommands", "leaderboard", "subset", 5141),
        run("SpeechCommands", "leaderboard", "subset", 5000),
        run("SpeechCommands", "once", "subset", 9000),
    ]
    monkeypatch.setattr(hours, "records", lambda: some)
    asked = hours.recorded_clips.__wrapped__
    assert asked("SpeechCommands", "leaderboard", "full") == 0
    assert asked("SpeechCommands", "leaderboard", "subset") == 5141
    assert asked("RAVDESS", "leaderboard", "full") == 1008
