"""Every yaml of a classifier trains."""

import json
from pathlib import Path

import pytest

from bdlib import mini

RECIPES = Path(__file__).parents[2] / "recipes"
CLASSIFIERS = sorted(p for name in mini.DATASETS for p in RECIPES.glob(f"{name}/hparams/*.yaml"))

pytestmark = pytest.mark.usefixtures("unpainted")

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
