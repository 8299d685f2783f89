"""Command lines of the stages, from arguments to documents."""

import pytest

from bdlib.cli import command
from bdlib.errors import InputError
from bdlib.stages.recipe import COMMON

RECIPE = str(COMMON.parent / "SpeechCommands" / "hparams" / "keyword_resnet.yaml")
ESD = str(COMMON.parent / "ESD" / "hparams" / "ecapa_small.yaml")


def read(*arguments, recipe=RECIPE):
    options = command.parser("A stage.")
    options.add_argument("--defense")
    options.add_argument("--stop_stage", type=int, default=8)
    return command.read([recipe, *arguments], options)


def test_defaults():
    asked = read()
    assert asked.recipe.overrides == {} and asked.defense is None
    assert asked.attack.path.stem == "clap" and asked.labels.path.stem == "one_to_one"
    assert asked.extra.stop_stage == 8


def test_options_reach_every_section():
    asked = read("--seed=3", "--rate=0.05", "--n_mels=40", "--max_per_class=10", "--lr=1e-3")
    plain = asked.recipe.plain()
    assert plain["run"]["seed"] == 3
    assert plain["poison"]["rate"] == 0.05
    assert plain["model"]["n_mels"] == 40
    assert plain["corpus"]["max_per_class"] == 10
    assert plain["train"]["lr"] == 0.001
    assert plain["model"]["classifier"]["front_end"]["n_mels"] == 40


def test_options_reach_attack_and_defense():
    asked = read("--scale=0.3", "--position=end", "--defense=random_filter", "--removed_share=0.1")
    assert asked.attack.plain()["scale"] == 0.3
    assert asked.attack.build()["trigger"].position == "end"
    assert asked.defense.build()["defense"].removed_share == 0.1
    assert asked.recipe.overrides == {}


def test_options_follow_the_attack_that_is_asked_for():
    asked = read("--attack=six_claps", "--times=3", "--labels=all_to_one")
    assert asked.attack.plain()["times"] == 3
    assert asked.labels.path.stem == "all_to_one"
    with pytest.raises(InputError, match=r"--times: no such option.*clap\.yaml.*--help"):
        read("--times=3")


def test_options_of_an_attack_are_unknown_without_one():
    asked = read("--attack=none")
    assert asked.attack is None and asked.labels is None
    with pytest.raises(InputError, match="--position: no such option"):
        read("--attack=none", "--position=end")


def test_unknown_option_is_named_with_the_files_looked_into():
    with pytest.raises(InputError) as caught:
        read("--removed_share=0.1")
    message = str(caught.value)
    assert message.startswith("--removed_share: no such option in")
    assert "keyword_resnet.yaml" in message and "clap.yaml" in message
    assert "one_to_one.yaml" in message and "random_filter" not in message


def test_names_of_speakers_stay_text():
    assert read("--target=0012", recipe=ESD).recipe.plain()["poison"]["target"] == "0012"
    assert read(recipe=ESD).recipe.plain()["poison"]["target"] == "0011"


@pytest.mark.parametrize("word", ["no", "on", "off", "yes"])
def test_names_of_words_stay_text(word):
    assert read(f"--target={word}").recipe.plain()["poison"]["target"] == word


def test_keys_inside_objects_are_no_options():
    with pytest.raises(InputError, match="--channels: no such option"):
        read("--channels=[8, 16]")


def test_run_options_of_speechbrain_are_kept_apart():
    asked = read("--device=cpu", "--seed=4")
    assert asked.run_opts["device"] == "cpu"
    assert asked.recipe.plain()["run"]["seed"] == 4


@pytest.mark.parametrize("argument", ["--rate=often", "--seed=1.5", "--stop_stage=last"])
def test_values_of_the_wrong_kind_are_named(argument):
    key = argument[2:].split("=")[0]
    with pytest.raises(InputError, match=key):
        read(argument)


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ("--attack=bang", "clap"),
        ("--labels=bang", "all_to_one"),
        ("--defense=bang", "random_filter"),
    ],
)
def test_unknown_names_list_those_known(argument, names):
    with pytest.raises(InputError, match=rf"bang\.yaml: no such file.*{names}"):
        read(argument)


def test_missing_recipe():
    with pytest.raises(InputError, match=r"none\.yaml"):
        read(recipe="hparams/none.yaml")


def test_an_input_error_becomes_one_line_and_exit_code_1(capsys):
    def fails():
        raise InputError("a.csv, row 3: no label; add one")

    with pytest.raises(SystemExit) as caught:
        command.guarded(fails)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: a.csv, row 3: no label; add one\n"


def test_other_errors_are_not_hidden():
    def fails():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        command.guarded(fails)


def test_an_interrupt_exits_with_130(capsys):
    def stops():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        command.guarded(stops)
    assert caught.value.code == 130 and "goes on" in capsys.readouterr().err


def test_help_shows_the_keys_of_all_files(capsys):
    with pytest.raises(SystemExit) as caught:
        read("--help", "--defense=random_filter")
    shown = capsys.readouterr().out
    assert not caught.value.code
    for text in ("number_of_epochs", "removed_share", "clap.yaml", "--stop_stage"):
        assert text in shown
