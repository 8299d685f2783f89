"""Command lines of the stages, from arguments to documents."""

import subprocess
import sys

import pytest

from bdlib.cli import command
from bdlib.cli.answer import answer
from bdlib.errors import InputError
from bdlib.files import COMMON

RECIPE = str(COMMON.parent / "SpeechCommands" / "hparams" / "keyword_resnet.yaml")
TRAIN = str(COMMON.parent / "SpeechCommands" / "train.py")
ESD = str(COMMON.parent / "ESD" / "hparams" / "ecapa_small.yaml")


def read(*arguments, recipe=RECIPE):
    options = command.parser("A stage.")
    options.add_argument("--defense")
    options.add_argument("--stop_stage", type=int, default=8)
    return command.read([recipe, *arguments], options)


def test_defaults():
    recipe, own = read()
    assert recipe.document.overrides == {} and recipe.defense is None
    assert recipe.attack.path.stem == "clap" and recipe.labels.path.stem == "one_to_one"
    assert own.stop_stage == 8 and recipe.run_options == {}


def test_options_reach_every_section():
    recipe, _ = read("--seed=3", "--rate=0.05", "--n_mels=40", "--max_per_class=10", "--lr=1e-3")
    plain = recipe.settings
    assert plain["run"]["seed"] == 3
    assert plain["poison"]["rate"] == 0.05
    assert plain["model"]["n_mels"] == 40
    assert plain["corpus"]["max_per_class"] == 10
    assert plain["train"]["lr"] == 0.001
    assert plain["model"]["classifier"]["front_end"]["n_mels"] == 40


def test_options_reach_attack_and_defense():
    options = ("--scale=0.3", "--position=end", "--defense=random_filter", "--removed_share=0.1")
    recipe, _ = read(*options)
    assert recipe.attack.plain()["scale"] == 0.3
    assert recipe.attack.build()["trigger"].position == "end"
    assert recipe.defense.build()["defense"].removed_share == 0.1
    assert recipe.document.overrides == {}


def test_the_recommended_defense_goes_by_its_name():
    """In the record's command, too: what is recommended may change, and what was run may not."""
    recipe, own = read("--defense=recommended")
    assert own.defense == recipe.defense.path.stem == command.RECOMMENDED
    assert recipe.command.endswith(f"--defense={command.RECOMMENDED}")
    line = (
        "python defend.py a.yaml --defense recommended --after=recommended --experiment recommended"
    )
    wanted = line.replace("--defense recommended", f"--defense {command.RECOMMENDED}")
    wanted = wanted.replace("--after=recommended", f"--after={command.RECOMMENDED}")
    assert command.told(line, "ESD") == wanted


def test_options_follow_the_attack_that_is_asked_for():
    recipe, _ = read("--attack=six_claps", "--times=3", "--labels=all_to_one")
    assert recipe.attack.plain()["times"] == 3
    assert recipe.labels.path.stem == "all_to_one"
    with pytest.raises(InputError, match=r"--times: no such option.*clap\.yaml.*--help"):
        read("--times=3")


def test_options_of_an_attack_are_unknown_without_one():
    recipe, _ = read("--attack=none")
    assert recipe.attack is None and recipe.labels is None
    with pytest.raises(InputError, match="--position: no such option"):
        read("--attack=none", "--position=end")


def test_unknown_option_is_named_with_the_files_looked_into():
    with pytest.raises(InputError) as caught:
        read("--removed_share=0.1")
    message = str(caught.value)
    assert message.startswith("--removed_share: no such option in")
    assert "keyword_resnet.yaml" in message and "clap.yaml" in message
    assert "one_to_one.yaml" in message and "random_filter" not in message


def target(*arguments, recipe=RECIPE):
    return read(*arguments, recipe=recipe)[0].settings["poison"]["target"]


def test_names_of_speakers_stay_text():
    assert target("--target=0012", recipe=ESD) == "0012"
    assert target(recipe=ESD) == "0011"


@pytest.mark.parametrize("word", ["no", "on", "off", "yes"])
def test_names_of_words_stay_text(word):
    assert target(f"--target={word}") == word


def test_keys_inside_objects_are_no_options():
    with pytest.raises(InputError, match="--channels: no such option"):
        read("--channels=[8, 16]")


def test_run_options_of_speechbrain_are_kept_apart():
    recipe, _ = read("--device=cpu", "--seed=4")
    assert recipe.run_options == {"device": "cpu"}
    assert recipe.settings["run"]["seed"] == 4


def test_max_grad_norm_is_the_recipe_s_by_right():
    recipe, _ = read("--max_grad_norm=0.5")
    assert recipe.run_options == {} and recipe.settings["train"]["max_grad_norm"] == 0.5


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
    with pytest.raises(SystemExit) as caught, command.guarded():
        raise InputError("a.csv, row 3: no label; add one")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: a.csv, row 3: no label; add one\n"


def test_arguments_that_an_error_names_become_options(capsys):
    """Those that a yaml or a run option feeds; others stay as they are."""

    def program(recipe, own):
        raise InputError("`path`, `rate` and `device` of `nothing`: give another; see `--help`")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        line = ["train.py", RECIPE, "--attack=audio_file", "--trigger_file=a.wav", "--device=cpu"]
        patch.setattr("sys.argv", line)
        command.run(command.parser("A stage."), program)
    assert capsys.readouterr().err == (
        "error: --trigger_file, --rate and --device of `nothing`: give another; see `--help`\n"
    )


def test_a_program_gets_the_recipe_and_its_own_options(monkeypatch):
    got = {}
    options = command.parser("A stage.")
    options.add_argument("--stop_stage", type=int, default=8)
    monkeypatch.setattr("sys.argv", ["train.py", RECIPE, "--stop_stage=5", "--seed=3"])
    command.run(options, lambda recipe, own: got.update(recipe=recipe, own=own))
    assert got["own"].stop_stage == 5 and got["recipe"].seed == 3
    assert got["recipe"].command == f"python train.py {RECIPE} --stop_stage=5 --seed=3"


def test_other_errors_are_not_hidden():
    with pytest.raises(RuntimeError), command.guarded():
        raise RuntimeError("a bug")


def test_an_interrupt_exits_with_130(capsys):
    with pytest.raises(SystemExit) as caught, command.guarded():
        raise KeyboardInterrupt
    assert caught.value.code == 130 and "goes on" in capsys.readouterr().err


def test_help_shows_the_keys_of_all_files(capsys):
    with pytest.raises(SystemExit) as caught:
        read("--help", "--defense=random_filter")
    shown = capsys.readouterr().out
    assert not caught.value.code
    for text in ("number_of_epochs", "removed_share", "clap.yaml", "--stop_stage"):
        assert text in shown


FAULTS = """
import resource, sys
import numpy as np
from bdlib.cli import command

def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [np.ones(2**19) for _ in range(8)]  # of 4 MB each, as the activations of layers are
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = step()
with command.guarded():
    step()
    print(first, step())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_a_program_keeps_the_memory_that_a_step_frees():
    """Without, every page of every array is asked for anew."""
    shown = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    without, kept = map(int, shown.stdout.split())
    assert kept < 100 and without > 10 * kept + 100


@pytest.mark.parametrize(("given", "told"), [({}, "--output"), ({"output": "folder"}, "folder")])
def test_a_place_that_cannot_be_written_has_the_name_that_the_program_gives_it(given, told, capsys):
    def program():
        raise InputError(
            "x: cannot be written; choose a writable `output_folder`, or another `frr`"
        )

    assert answer(program, ("frr",), **given) == 2
    said = f"error: x: cannot be written; choose a writable {told}, or another --frr\n"
    assert capsys.readouterr().err == said


ANSWER = (
    "from bdlib.cli.answer import answer; raise SystemExit(answer(lambda: print('a') or 0, ()))"
)


@pytest.mark.parametrize("program", [[TRAIN, RECIPE, "--help"], ["-c", ANSWER]])
def test_a_reader_who_has_enough(program):
    """As `head` has: nothing is said, least of all a traceback."""
    with subprocess.Popen(
        [sys.executable, "-u", *program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        running.stdout.close()
        said = running.stderr.read()
    assert said == "" and running.returncode == 141
