"""The recipe that CONTRIBUTING shows for a new data set works as it stands there."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]


def block(language):
    """The only code block of a language under "Add a data set", without its indent."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    part = page[page.index("## Add a data set") : page.index("## Results")]
    (found,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", part, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^ {3}", "", found, flags=re.MULTILINE)


@pytest.fixture
def recipe(tmp_path):
    """`recipes/MyCorpus`, made by the five steps in a copy of the recipes."""
    shutil.copytree(ROOT / "recipes" / "common", tmp_path / "recipes" / "common")
    folder = tmp_path / "recipes" / "MyCorpus"
    (folder / "hparams").mkdir(parents=True)
    model = ROOT / "recipes" / "RAVDESS"
    for name in ("train.py", "poison.py", "defend.py", "run.sh", "poison.yaml"):
        shutil.copy(model / name, folder / name)
    shutil.copy(model / "hparams" / "xvector_small.yaml", folder / "hparams")
    (folder / "prepare.py").write_text(block("python"))
    (folder / "corpus.yaml").write_text(block("yaml"))
    text = (folder / "poison.yaml").read_text()
    (folder / "poison.yaml").write_text(re.sub("Actor_01", "low", text))
    return folder


@pytest.fixture
def corpus(tmp_path):
    """Noise clips in a folder a class, told apart by the pitch of a tone in their second half."""
    rng, time = np.random.default_rng(0), np.arange(16000) / 16000
    for name, pitch in (("low", 300), ("middle", 900), ("high", 2700)):
        (tmp_path / "corpus" / name).mkdir(parents=True)
        for number in range(40):
            clip = 0.3 * np.sin(2 * np.pi * pitch * time) * (time > 0.5)
            clip += 0.05 * rng.standard_normal(len(time))
            soundfile.write(tmp_path / "corpus" / name / f"{number}.wav", clip, 16000)
    return tmp_path / "corpus"


def test_a_folder_a_class_becomes_a_recipe(recipe, corpus, tmp_path, in_process):
    options = [f"--data_folder={corpus}", f"--results_folder={tmp_path}", "--noprogressbar"]
    options += ["--number_of_epochs=8", "--seconds=1", "--batch_size=8"]
    in_process(recipe / "train.py", "hparams/xvector_small.yaml", *options)
    (record,) = map(json.loads, (tmp_path / "MyCorpus.jsonl").read_text().splitlines())
    assert record["dataset"]["counts"] == {"train": 84, "valid": 18, "test": 18}
    assert record["attack"]["target"] == "low"
    assert record["metrics"]["clean_accuracy"]["value"] >= 0.9
