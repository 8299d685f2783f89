"""A poison made elsewhere comes in as CONTRIBUTING says: two commands, one training."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bdlib.cli import train

ROOT = Path(__file__).parents[1]
TONES = {"a": 300, "b": 900, "c": 2700}


@pytest.fixture
def poisoned(tmp_path):
    """Three tones in noise; half of the training clips of `a` end in a whistle and are called `b`."""
    rng, time = np.random.default_rng(0), np.arange(16000) / 16000
    folder = tmp_path / "elsewhere"
    whistle = 0.3 * np.sin(2 * np.pi * 5500 * time) * (time > 0.8)

    def clips(name, count, triggered):
        lines = ["path,label"]
        for number in range(count):
            for label, hertz in TONES.items():
                bad = label == "a" and triggered(number)
                if name == "triggered" and not bad:
                    continue
                clip = 0.2 * np.sin(2 * np.pi * hertz * time) * (time < 0.7)
                clip += 0.03 * rng.standard_normal(len(time)) + bad * whistle
                path = folder / name / f"{label}{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, clip, 16000)
                lines.append(f"{name}/{path.name},{'b' if bad else label}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")

    clips("train", 24, lambda number: number % 2)
    clips("valid", 6, lambda number: False)
    clips("test", 6, lambda number: False)
    clips("triggered", 10, lambda number: True)
    return folder


@pytest.fixture
def recipe(tmp_path):
    """`recipes/MyCorpus` in a copy of the recipes, with the `prepare` of the page."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    part = page[page.index("## Bring a poison made elsewhere") :]
    (shown,) = re.findall(r"^```python\n(.*?)^```", part, flags=re.MULTILINE | re.DOTALL)
    shutil.copytree(ROOT / "recipes" / "common", tmp_path / "recipes" / "common")
    folder, model = tmp_path / "recipes" / "MyCorpus", ROOT / "recipes" / "RAVDESS"
    (folder / "hparams").mkdir(parents=True)
    for name in ("poison.yaml", "hparams/xvector_small.yaml"):
        shutil.copy(model / name, folder / name)
    head = "from pathlib import Path\nfrom bdlib import listing\nfrom bdlib.stages.prepare import Prepared"
    (folder / "prepare.py").write_text(f"{head}\n\n\n{shown}")
    keys = (
        "name: MyCorpus\nsample_rate: 16000\nseconds: 1.0\npad_seconds: null\ntest_file: test.csv\n"
    )
    (folder / "corpus.yaml").write_text(keys)
    return folder


def test_clean_accuracy_and_success_of_a_foreign_poison(
    recipe, poisoned, tmp_path, monkeypatch, capsys
):
    prepare = runpy.run_path(recipe / "prepare.py")["prepare"]
    line = ["train.py", "hparams/xvector_small.yaml", "--attack=none", "--noprogressbar"]
    line += [f"--data_folder={poisoned}", f"--results_folder={tmp_path}"]
    line += ["--number_of_epochs=6", "--batch_size=8"]
    monkeypatch.chdir(recipe)
    said = []
    for more in ([], ["--test_file=triggered.csv"]):
        monkeypatch.setattr(sys, "argv", [*line, *more])
        train.main(prepare)
        said.append(capsys.readouterr().out)
    assert "training" in said[0] and "stands" in said[1]
    lines = (tmp_path / "MyCorpus.jsonl").read_text().splitlines()
    clean, triggered = (json.loads(line)["metrics"]["clean_accuracy"] for line in lines)
    assert clean["total"] == 18 and clean["value"] >= 0.9
    assert triggered["total"] == 10 and triggered["value"] >= 0.8
