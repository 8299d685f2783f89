"""The experiment files of MVJ hold every cell that the paper prints, and the recipes keep its rules."""

from pathlib import Path

import pytest

from bdlib.cli.cells import cells
from bdlib.report.published import read_published
from bdlib.stages.document import Document

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "SpeechCommands"
EXPERIMENTS = RECIPE / "experiments"
PUBLISHED = [n for n in read_published(ROOT / "results" / "paper") if n.source.startswith("Sustek")]
TRAININGS = ("mvd", "mvj", "mvd_semisup", "mvj_semisup")  # defenses that are a model's own training
VIEWS = ("base_wrn", "base_views_wrn", *TRAININGS, "jem")


def options_of(cell):
    """What a cell is about, with the yaml's stem as `model`."""
    given = dict(option[2:].split("=", 1) for option in cell.options if "=" in option)
    return {"model": Path(cell.yaml).stem, **given}


@pytest.fixture(scope="module")
def full():
    """The cells of each experiment file with all of the corpus."""
    paths = sorted(EXPERIMENTS.glob("mvj_*.yaml"))
    return {path.stem: [*map(options_of, cells(path, "full", "/c"))] for path in paths}


def wanted(number):
    """The options of a published number's cell; None where there must be no such option."""
    if not number.attack:
        return {"model": number.model, "attack": "none", "defense": None}
    at_test_time = number.defense not in ("", *TRAININGS)
    return {
        "model": number.model,
        "attack": number.attack,
        "source": number.source_class,
        "target": number.target_class,
        "of": number.of,
        **{key: str(getattr(number, key)) for key in ("scale", "rate") if getattr(number, key)},
        "defense": "feature_noise" if at_test_time else None,
        "selection": "oracle" if at_test_time else None,
    }


def has(options, number):
    steps = number.defense == "feature_noise_step"
    return ("step_size" in options) == steps and all(
        options.get(key) == value for key, value in wanted(number).items()
    )


@pytest.mark.parametrize(
    "number",
    PUBLISHED,
    ids=lambda n: "-".join([n.source[-1], n.model, n.attack, n.defense, n.metric]),
)
def test_every_published_cell_is_in_an_experiment_file(full, number):
    """That of its own table; the example of a footnote may stand in any."""
    _, _, table = number.source.rpartition("Table ")
    files = [f"mvj_table{table}"] if "Table" in number.source else list(full)
    seeds = {options["seed"] for file in files for options in full[file] if has(options, number)}
    assert {"0", "1", "2"} <= seeds


def test_published_levels_of_noise_and_steps_are_several(full):
    """The paper gives none, so a cell of each is more than one run."""
    for number in PUBLISHED:
        if number.defense.startswith("feature_noise"):
            runs = [o for o in full["mvj_table4"] if has(o, number) and o["seed"] == "0"]
            assert len(runs) == (7 if number.defense == "feature_noise" else 7 * 6)


@pytest.mark.parametrize("path", sorted((RECIPE / "hparams").glob("*.yaml")), ids=lambda p: p.stem)
def test_recipes_of_the_paper_keep_the_last_epoch(path):
    """And Base hears a clip in one view, of the length that a clip has by default."""
    settings = Document(path).plain()
    model, name = settings["model"], path.stem.replace("_small", "")
    kept = "last" if name in (*VIEWS, "resnet50", "smallcnn_abl") else "best"
    assert model.get("keep", "best") == kept
    if name in VIEWS:
        assert model["view_frames"] == (100 if name == "base_wrn" else 61)
        assert settings["corpus"]["seconds"] == 1.0
