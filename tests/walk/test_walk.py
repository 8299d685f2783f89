"""The walk of an utterance, as a user walks it: programs in recipe folders, numbers in records."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bdlib import listing, manifest
from bdlib.pack import Pack

RECIPES = Path(__file__).parents[2] / "recipes"


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


def test_an_exported_corpus_is_what_training_hears(program, exp, tmp_path):
    yaml = ("hparams/keyword_resnet.yaml", "--max_per_class=5")
    yaml += ("--attack=whistle", "--labels=all_to_one", "--target=yes")
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
