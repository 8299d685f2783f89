"""Recipe yaml and options: where an option lands, and what is refused."""

import pytest

from bdlib.errors import InputError
from bdlib.stages import document
from bdlib.stages.document import Document, common, known
from bdlib.stages.recipe import parse
from bdlib.stages.vetting import vet

YAML = """
lr: 0.01
top: !ref <lr>
run:
    seed: 0
    folder: exp
model:
    width: 4
    widths: [1, 2, 3]
    layer: !new:torch.nn.Linear
        in_features: !ref <model[width]>
        out_features: 2
train: !include:train.yaml
    epochs: 5
"""
TRAIN = """
epochs: 1
folder: elsewhere
rate: 0.5
half: !ref <rate> / 2
optimizer: !name:torch.optim.Adam
    weight_decay: !ref <rate>
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "train.yaml").write_text(TRAIN)
    (tmp_path / "recipe.yaml").write_text(YAML)
    return Document(tmp_path / "recipe.yaml")


def test_plain_resolves_references_and_builds_nothing(recipe):
    plain = recipe.plain()
    assert plain["top"] == 0.01 and plain["train"]["epochs"] == 5
    assert plain["train"]["half"] == 0.25
    assert plain["model"]["layer"]["in_features"] == 4
    assert "torch.nn.Linear" in plain["model"]["layer"]["()"]
    assert "torch.optim.Adam" in plain["train"]["optimizer"]["()"]


def test_settings_are_read_once_and_again_when_a_file_changes(recipe, tmp_path, monkeypatch):
    """One that is included, too; what is done with the settings changes none that are asked for later."""
    resolved, resolve = [], document.resolve_references
    monkeypatch.setattr(
        document, "resolve_references", lambda *given: resolved.append(given) or resolve(*given)
    )
    recipe.plain()["run"]["seed"] = 9
    assert recipe.plain()["run"]["seed"] == 0 and len(resolved) == 1
    (tmp_path / "train.yaml").write_text(TRAIN.replace("rate: 0.5", "rate: 0.7"))
    assert recipe.plain()["train"]["half"] == 0.35 and len(resolved) == 2
    assert recipe.place("seed", 1) and recipe.plain()["run"]["seed"] == 1


def test_build_constructs(recipe):
    built = recipe.build()
    assert built["model"]["layer"].weight.shape == (2, 4)
    weight = [built["model"]["layer"].weight]
    assert built["train"]["optimizer"](weight).param_groups[0]["weight_decay"] == 0.5


def test_options_find_their_section_and_references_follow(recipe):
    for key, value in {"lr": 1, "seed": 7, "width": 8, "widths": [9], "rate": 0.2}.items():
        assert recipe.place(key, value)
    plain, built = recipe.plain(), recipe.build()
    assert plain["lr"] == plain["top"] == 1
    assert plain["run"] == {"seed": 7, "folder": "exp"}
    assert plain["model"]["widths"] == [9]
    assert plain["model"]["layer"]["in_features"] == 8
    assert built["model"]["layer"].weight.shape == (2, 8)
    assert plain["train"]["half"] == 0.1
    assert plain["train"]["optimizer"]["weight_decay"] == 0.2


def test_ambiguous_option_names_both_sections(recipe):
    with pytest.raises(InputError, match=r"--folder.*recipe\.yaml.*run or train"):
        recipe.place("folder", "x")


@pytest.mark.parametrize("key", ["nothing", "model", "in_features"])
def test_unknown_options_and_whole_sections_are_not_taken(recipe, key):
    assert not recipe.place(key, 1)
    assert recipe.overrides == {}


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml.* cannot be read"):
        Document(tmp_path / "none.yaml").plain()
    for text in ("a: [1, 2\n", "a: !ref <b>\n", "a: b: c\n"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match=r"bad\.yaml: not a recipe yaml") as caught:
            Document(tmp_path / "bad.yaml").plain()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: !new:torch.nn.no.such.Thing\n",
        "a: !new:torch.nn.Linear\n    width: 3\n",
        "a: !new:torch.nn.NoSuchLayer\n",
    ],
)
def test_what_cannot_be_built_is_one_line(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=r"bad\.yaml: cannot be built") as caught:
        Document(tmp_path / "bad.yaml").build()
    assert "\n" not in str(caught.value)


def test_an_input_error_from_an_object_keeps_its_words(tmp_path):
    (tmp_path / "bad.yaml").write_text(
        "a: !new:bdlib.models.wide_resnet.WideResNet\n"
        "    front_end: !new:bdlib.features.KaldiFbank\n"
        "    n_classes: 3\n    depth: 17\n"
    )
    with pytest.raises(InputError, match=r"^`depth` is 17"):
        Document(tmp_path / "bad.yaml").build()


def test_classes_called_yes_no_on_and_off_stay_words(tmp_path):
    """YAML 1.1 would read them as truth values; two of them are classes of Speech Commands."""
    (tmp_path / "a.yaml").write_text("source: no\ntarget: on\nother: yes\nflag: true\n")
    assert Document(tmp_path / "a.yaml").plain() == {
        "source": "no", "target": "on", "other": "yes", "flag": True
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0011", "0011"),
        ("left", "left"),
        ("no", "no"),
        ("on", "on"),
        ("3", 3),
        ("0", 0),
        ("0.05", 0.05),
        ("1e-3", 1e-3),
        ("True", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("[64, 64]", [64, 64]),
    ],
)
def test_values_of_options(text, value):
    parsed = parse(f"key: {text}\n")["key"]
    assert parsed == value and type(parsed) is type(value)


def test_no_options():
    assert parse("") == {}


def test_common_files_by_name_and_by_path(tmp_path):
    assert common("attacks", "clap").path.name == "clap.yaml"
    own = tmp_path / "own.yaml"
    own.write_text("scale: 1.0\n")
    assert common("attacks", str(own)).plain() == {"scale": 1.0}


@pytest.mark.parametrize("kind", ["attacks", "labels", "defenses", "models"])
def test_unknown_name_lists_those_known(kind):
    names = known(kind).split()
    assert len(names) > 2
    with pytest.raises(InputError, match="loud_bang") as caught:
        common(kind, "loud_bang")
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("kind", ["attacks", "labels", "defenses", "models"])
def test_every_common_file_reads(kind):
    for name in known(kind).split():
        assert common(kind, name).plain()


def test_yaml_of_the_recipe_that_is_started_is_code_and_from_elsewhere_is_not(
    tmp_path, monkeypatch
):
    recipe = tmp_path / "recipes" / "Mine"
    recipe.mkdir(parents=True)
    for folder in (recipe, tmp_path):
        (folder / "x.yaml").write_text("made: !new:pathlib.Path\n")
    monkeypatch.chdir(recipe)
    for is_a_recipe in (True, False):
        if is_a_recipe:
            (recipe / "prepare.py").touch()
            vet(recipe / "x.yaml")
        else:
            (recipe / "prepare.py").unlink()
            with pytest.raises(InputError, match=r"pathlib\.Path is refused"):
                vet(recipe / "x.yaml")
        with pytest.raises(InputError, match=r"pathlib\.Path is refused"):
            vet(tmp_path / "x.yaml")
