"""Experiments as data: which cells there are, which are left, and what a failed one leaves."""

import contextlib
import itertools
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from bdlib.cli import sweep, workers
from bdlib.cli.command import RECOMMENDED, read
from bdlib.cli.programs import programs
from bdlib.errors import InputError
from bdlib.records import record

RECIPES = Path(__file__).parents[2] / "recipes"
EXPERIMENTS = sorted(RECIPES.glob("*/experiments/*.yaml"))


@pytest.fixture
def table(tmp_path):
    """A small experiment of a recipe that fails at once."""
    path = tmp_path / "recipe" / "experiments" / "t.yaml"
    path.parent.mkdir(parents=True)
    data = {
        "experiment": "t",
        "seeds": [0, 1],
        "options": {"attack": "clap"},
        "grid": [
            {
                "scale": [0.1, 0.5],
                "source,target": [["no", "on"], ["yes", "up"]],
                "model": ["a", "b"],
            }
        ],
        "scales": {"subset": {"stand_ins": {"b": "c"}}, "mini": {"seeds": [0]}},
    }
    path.write_text(yaml.safe_dump(data))
    (tmp_path / "recipe" / "train.py").write_text("import sys; print('why'); sys.exit(3)")
    return path


def test_cells_are_all_combinations(table):
    listed = sweep.cells(table, "subset", "/c")
    assert len(listed) == 2 * 2 * 2 * 2 == len({cell.line for cell in listed})
    assert listed == sweep.cells(table, "subset", "/c")
    first = "--experiment=t --attack=clap --data_folder=/c --scale=0.1 --source=no --target=on"
    assert listed[0].line == f"python train.py hparams/a.yaml {first} --seed=0 --noprogressbar"
    assert {cell.yaml for cell in listed} == {"hparams/a.yaml", "hparams/c.yaml"}
    assert len(sweep.cells(table, "mini")) == 8
    given = yaml.safe_load(table.read_text())
    given["grid"][0]["seed,poison_seed"] = [[3, 5], [4, 6]]
    table.write_text(yaml.safe_dump(given))
    own = {tuple(o for o in c.options if "seed" in o) for c in sweep.cells(table, "mini")}
    assert own == {("--seed=3", "--poison_seed=5"), ("--seed=4", "--poison_seed=6")}
    folder = next(o for o in sweep.cells(table, "subset", "b c")[0].options if "folder" in o)
    assert Path(table.parents[1], folder.partition("=")[2]).resolve() == Path("b c").resolve()


def test_bad_experiments_are_refused(table):
    for scale, folder, message in (
        ("full", "x", "no scale full"),
        ("subset", None, "--data_folder"),
    ):
        with pytest.raises(InputError, match=message):
            sweep.cells(table, scale, folder)
    table.write_text("experimnt_: t\n")
    with pytest.raises(InputError, match="unknown key experimnt_"):
        sweep.cells(table, "mini")
    with pytest.raises(InputError, match="not an experiment file"):
        sweep.cells(table.with_name("absent.yaml"), "mini")


def test_any_option_of_a_recipe_is_one_of_all_cells(table, monkeypatch, capsys):
    own = sweep.options(["--test_folder=a=b", "--source=off"])
    listed = sweep.cells(table, "subset", "/c", own)
    assert all("--test_folder=a=b" in cell.options for cell in listed)
    with pytest.raises(InputError, match="test_folder: no option"):
        sweep.options(["test_folder"])
    for own in ({"source": "off"}, {"scale": "0.3"}, {"seed": "7"}):  # over the table's own
        ((name, value),) = own.items()
        listed = sweep.cells(table, "subset", "/c", own)
        assert listed and all(
            [o for o in cell.options if o.startswith(f"--{name}=")] == [f"--{name}={value}"]
            for cell in listed
        )
    listed = sweep.cells(table, "subset", "/c", {"defense": "recommended"})
    assert all(f"--defense={RECOMMENDED}" in cell.options for cell in listed)
    assert sum(len(program.cells) for program in programs(listed)) == len(listed)
    path = RECIPES / "SpeechCommands" / "experiments" / "mvj_table1.yaml"
    given = ["sweep.py", str(path), "--scale=mini", "--dry-run", "--max-runs=1"]
    for option, told in (
        ("--test_folder=archive", "--test_folder=archive"),
        ("--test_foldr=x", "no such option"),
    ):
        monkeypatch.setattr(sys, "argv", [*given, option])
        with contextlib.suppress(SystemExit):
            sweep.main()
        assert told in "".join(capsys.readouterr())


def test_a_failed_cell_leaves_a_record_and_is_tried_again_on_request(table, tmp_path):
    listed = sweep.cells(table, "mini")
    program = programs(listed)[0]
    code, seconds = workers.run(program)
    assert code == 3 and program.log.read_text() == "why\n"
    workers.record_failure(listed[0], program.log, "mini", tmp_path, seconds)
    (entry,) = record.read(tmp_path / "recipe.jsonl")
    assert entry["status"] == "failed" and entry["error"] == "why"
    assert sweep.pending(listed, [tmp_path], "mini", retry=False) == listed[1:]
    assert sweep.pending(listed, [tmp_path], "mini", retry=True) == listed


def test_a_cell_is_known_wherever_its_corpus_lay(table, tmp_path, make_record):
    """By its command, in a record of any age; what is less than full is no cell of a full table."""
    path = table.parents[1] / "r.jsonl"
    listed = sweep.cells(table, "subset", "/here/words", results_folder="published")
    for number, (cell, scale) in enumerate(zip(listed, ("subset", "full"), strict=False)):
        command = cell.line.replace("/here/words", "data/speech").replace("../", "")
        command = command.replace(" --results_folder=published", "")
        changes = {"command": command, "dataset.name": "recipe", "dataset.scale": scale}
        record.append(path, make_record(changes | {"id": f"r{number}"}))
    folders = [path.parent, tmp_path / "none"]
    assert sweep.pending(listed, folders, "subset", retry=False) == listed[2:]
    assert sweep.pending(listed, folders, "full", retry=False) == [listed[0], *listed[2:]]
    assert sweep.cells(table, "mini")[0].told.count("folder") == 1  # which is mini


UNDERSTOOD: dict[str, set[str]] = {}  # by recipe: what its other experiments have asked already


def unlike(listed, understood):
    """Few cells with every option's name, and every yaml, attack and defense not understood so far."""
    named = ("--attack=", "--defense=", "--after=")
    brings = {
        cell: {
            cell.yaml,
            *(o if o.startswith(named) else o.partition("=")[0] for o in cell.options),
        }
        for cell in listed
    }
    missing, chosen = set().union(*brings.values()) - understood, []
    understood |= {name for name in missing if "=" in name or name.endswith(".yaml")}
    while missing:
        chosen.append(max(brings, key=lambda cell: len(brings[cell] & missing)))
        missing -= brings[chosen[-1]]
    return chosen


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_cell_is_a_command_its_recipe_understands(monkeypatch, path):
    scales = (sweep.cells(path, scale, "corpus") for scale in ("full", "subset", "mini"))
    understood = UNDERSTOOD.setdefault(path.parents[1].name, set())
    for cell in unlike(itertools.chain.from_iterable(scales), understood):
        monkeypatch.chdir(cell.folder)
        recipe, _ = read(shlex.split(cell.line)[2:], sweep.arguments(cell))
        assert recipe.settings["run"]["experiment"] == path.stem
        assert (recipe.attack is None) == ("--attack=none" in cell.options)


def test_emoback_has_210_configurations_and_630_trainings():
    """Three models, three data sets, their emotions, two genders, two rates; less neutral at 10 %."""
    paths = [path for path in EXPERIMENTS if path.stem == "emoback_fig2"]
    listed = [cell for path in paths for cell in sweep.cells(path, "full", "corpus")]
    assert len(paths) == 2 and len(listed) == 630
    options = {(c.yaml, c.folder, tuple(o for o in c.options if "seed=" not in o)) for c in listed}
    assert len(options) == 210
    assert not [c for c in listed if {"--emotion=neutral", "--rate=0.1"} <= set(c.options)]


@pytest.fixture
def tones(tmp_path):
    """A corpus of two tones in noise, and a recipe for it with a table of a cell that fails."""
    rng, time = np.random.default_rng(0), np.arange(8000) / 16000
    for name, hertz in (("low", 300), ("high", 2700)):
        (tmp_path / "corpus" / name).mkdir(parents=True)
        for number in range(20):
            clip = 0.3 * np.sin(2 * np.pi * hertz * time) + 0.05 * rng.standard_normal(len(time))
            soundfile.write(tmp_path / "corpus" / name / f"{number}.wav", clip, 16000)
    folder, model = tmp_path / "recipes" / "Tones", RECIPES / "RAVDESS"
    (folder / "hparams").mkdir(parents=True)
    (folder / "experiments").mkdir()
    shutil.copytree(RECIPES / "common", folder.with_name("common"))
    for name in ("train.py", "poison.yaml", "hparams/xvector_small.yaml"):
        shutil.copy(model / name, folder / name)
    (folder / "corpus.yaml").write_text(
        "name: Tones\nsample_rate: 16000\nseconds: 0.5\npad_seconds: null\n"
    )
    (folder / "prepare.py").write_text(
        "from bdlib import listing, sampling\n"
        "from bdlib.stages.prepare import Prepared\n\n\n"
        "def prepare(data_folder, seed=0):\n"
        "    rows = listing.from_folder(data_folder)\n"
        "    shares = {'train': 0.6, 'valid': 0.2, 'test': 0.2}\n"
        "    return Prepared(sampling.split(rows, shares, seed), 'subset', 'all')\n"
    )
    data = {
        "experiment": "t",
        "options": {"attack": "tone", "target": "low", "number_of_epochs": 4, "batch_size": 6},
        "grid": {"model": ["xvector_small", "absent"]},
        "scales": {"subset": {}},
    }
    path = folder / "experiments" / "t.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_sweep_on_ray(tones, tmp_path, monkeypatch, capsys):
    """Cells run as programs: one leaves its record, the other is counted, told and recorded."""
    pytest.importorskip("ray")
    corpus = str(tmp_path / "corpus")
    command = ["sweep.py", str(tones), "--scale=subset", f"--data_folder={corpus}"]
    monkeypatch.setattr(sys, "argv", [*command, "--cpus_per_cell=1"])
    monkeypatch.setenv("RAY_worker_niceness", "0")  # what else runs here does not come first
    with pytest.raises(SystemExit) as stop:
        sweep.main()
    assert stop.value.code == 1 and "1 cells failed" in capsys.readouterr().err
    results = tones.parents[1] / "exp" / "results"
    entries = {entry["status"]: entry for entry in record.read(results / "Tones.jsonl")}
    listed = sweep.cells(tones, "subset", corpus)
    assert [entries[status]["command"] for status in ("ok", "failed")] == [c.told for c in listed]
    assert "hparams/absent.yaml" in entries["failed"]["error"]
    good = entries["ok"]
    assert good["experiment"] == "t" and good["dataset"]["counts"]["train"] == 24
    assert good["metrics"]["clean_accuracy"]["total"] == 8
    assert good["metrics"]["attack_success_rate"]["total"] == 4
    assert not sweep.pending(listed, [results], "subset", retry=False)
    assert sweep.pending(listed, [results], "subset", retry=True) == listed[1:]
