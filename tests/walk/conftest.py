"""Folders and corpora that the walks of recipes share, so that each is made once."""

import json
import os
import shutil
from pathlib import Path

import pytest

from bdlib import mini

RECIPES = Path(__file__).parents[2] / "recipes"
JUDGED = {"left", "no", "off", "on", "up", "yes"}  # enough of these for filters that judge classes


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


@pytest.fixture(scope="session")
def handful(tmp_path_factory, exp):
    """A few clips of every class of each mini corpus, for models too large to train here."""
    folders = {}
    for recipe in mini.DATASETS:
        whole = mini.make(recipe, exp / "mini" / recipe)
        folders[recipe] = tmp_path_factory.mktemp("handful") / recipe
        seen: dict[tuple, int] = {}
        for path in sorted(whole.rglob("*.wav")):
            parts = path.relative_to(whole).parts
            key = (parts[0], path.stem.split("-")[2] if recipe == "RAVDESS" else parts[-2])
            seen[key] = seen.get(key, 0) + 1
            most = 60 if key[0] in JUDGED else 16 if recipe == "SpeechCommands" else 4
            if seen[key] <= most and not (recipe == "RAVDESS" and parts[0] > "Actor_03"):
                target = folders[recipe] / path.relative_to(whole)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        for name in ("mini.json", "validation_list.txt", "testing_list.txt"):
            if (whole / name).exists():
                shutil.copy(whole / name, folders[recipe] / name)
    return folders
