"""Bad input gets one line that names the file, the row and the remedy, exit code 1, nothing half made."""

import contextlib
import errno
import hashlib
import importlib.util
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bdlib import files, listing
from bdlib.cli import defend, poison, prepare, train
from bdlib.manifest import SPLITS
from bdlib.seals import SEAL, write_sealed
from bdlib.stages.prepare import Prepared

pytestmark = pytest.mark.usefixtures("unpainted")
RECIPE = Path(__file__).parents[1] / "recipes" / "RAVDESS"
SPEAKERS = f"!include:{RECIPE.parent}/common/models/xvector_small.yaml {{}}"
VIEWS = (
    f"!include:{RECIPE.parent}/SpeechCommands/hparams/models/mvd.yaml "
    "{n_mels: 40, depth: 16, width: 1}"
)
XVECTOR = RECIPE / "hparams" / "xvector_small.yaml"
PROGRAMS = {"prepare": prepare, "poison": poison, "train": train, "defend": defend}
QUICK = ("--number_of_epochs=1", "--batch_size=16", "--seconds=1", "--noprogressbar")
RATE = 16000


spec = importlib.util.spec_from_file_location("prepare_ravdess", RECIPE / "prepare.py")
ravdess = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ravdess)


def clip_path(root, actor, emotion=1, statement=1, repetition=1):
    stem = f"03-01-{emotion:02d}-01-{statement:02d}-{repetition:02d}-{actor:02d}"
    return root / f"Actor_{actor:02d}" / f"{stem}.wav"


def tone(hertz, seconds=1.0, level=0.3):
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def build(root, seconds=1.0):
    """Two actors with 32 clips each, tones of different pitch."""
    for actor in (1, 2):
        for place in np.ndindex(8, 2, 2):
            path = clip_path(root, actor, *(number + 1 for number in place))
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(200 * actor + 10 * sum(place), seconds), RATE)
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def own(corpus, tmp_path):
    """A copy of the corpus to spoil."""
    return shutil.copytree(corpus, tmp_path / "own")


@pytest.fixture
def exp(tmp_path):
    return tmp_path / "exp"


@pytest.fixture
def call(monkeypatch, capsys, exp):
    """Runs a program in this process; gives exit code, output and the lines on stderr."""

    def run(program, *options, yaml=XVECTOR, recipe=ravdess.prepare):
        folders = (f"--output_folder={exp}", f"--results_folder={exp}/results")
        given = [option.partition("=")[0] for option in options]
        folders = [option for option in folders if option.partition("=")[0] not in given]
        quick = QUICK if yaml == XVECTOR else ()
        quick = [option for option in quick if option.partition("=")[0] not in given]
        monkeypatch.setattr(
            sys, "argv", [f"{program}.py", str(yaml), *quick, *folders, *map(str, options)]
        )
        capsys.readouterr()
        code = 0
        try:
            PROGRAMS[program].main(recipe)
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return run


def tree(folder):
    """Files below a folder with digests of their contents."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def refused(call, exp):
    """Asserts that a program refuses its input in one line with these words."""

    def run(program, *options, words, leaves=(), **settings):
        before = tree(exp)
        code, _, lines = call(program, *options, **settings)
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        for word in words:
            assert str(word) in lines[0], (word, lines[0])
        assert code == 1
        after = tree(exp)
        assert before.items() <= after.items()
        assert {name.split("/")[0] for name in after.keys() - before.keys()} <= set(leaves)
        assert not list(exp.rglob(".*"))
        return lines[0]

    return run


def whole(corpus, made):
    """Arguments of a run of all stages of `train.py`."""
    places = (f"--output_folder={made}", f"--results_folder={made}/results")
    return [str(XVECTOR), *QUICK, f"--data_folder={corpus}", *places]


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """Output of a whole run under attack."""
    made = tmp_path_factory.mktemp("trained") / "exp"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(RECIPE)
        patch.setattr(sys, "argv", ["train.py", *whole(corpus, made)])
        train.main(ravdess.prepare)
    return made


@pytest.fixture
def standing(trained, exp):
    """A copy of that output to spoil, at the output folder of this test."""
    return shutil.copytree(trained, exp)


def only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


# --- the data folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_data_folder(refused, program):
    extra = ["--defense=random_filter"] if program == "defend" else []
    refused(program, *extra, words=["give --data_folder, the corpus folder"])


def test_missing_or_wrong_data_folder(refused, tmp_path):
    refused(
        "train", f"--data_folder={tmp_path}/no", words=[f"{tmp_path}/no: no such", "--data_folder"]
    )
    (tmp_path / "wrong").mkdir()
    refused(
        "train",
        f"--data_folder={tmp_path}/wrong",
        words=[f"{tmp_path}/wrong: no clips", "Audio_Speech_Actors_01-24.zip"],
    )


def test_as_a_user_types_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "prepare.py", "hparams/xvector_small.yaml", f"--data_folder={tmp_path}/no",
         f"--output_folder={tmp_path}/exp"],
        cwd=RECIPE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {tmp_path}/no: no such folder; --data_folder must hold the RAVDESS corpus\n"
    )
    assert not (tmp_path / "exp").exists()


def test_empty_class(refused, own, tmp_path):
    shutil.rmtree(own / "Actor_02")
    (own / "Actor_02").mkdir()
    refused("prepare", f"--data_folder={own}", words=[own, "Actor_01 alone", "at least two"])
    for name in ("no", "yes"):
        (tmp_path / "words" / name).mkdir(parents=True)
    soundfile.write(tmp_path / "words" / "no" / "a.wav", tone(200), RATE)
    refused(
        "prepare",
        f"--data_folder={tmp_path}/words",
        recipe=from_folder,
        words=[f"{tmp_path}/words/yes: class without audio", "remove the folder"],
    )


def from_folder(data_folder, label="speaker", sentence_disjoint=False):
    rows = listing.from_folder(data_folder)
    return Prepared(dict.fromkeys(SPLITS, rows), "subset", "own")


def from_csv(data_folder, label="speaker", sentence_disjoint=False):
    rows = listing.from_csv(data_folder / "list.csv", data_folder)
    return Prepared(dict.fromkeys(SPLITS, rows), "subset", "own")


# --- audio


def not_audio(path):
    path.write_text("hello")


def no_bytes(path):
    path.write_bytes(b"")


def no_samples(path):
    soundfile.write(path, np.zeros(0), RATE)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:20000])


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (not_audio, "not readable as audio"),
        (no_bytes, "not readable as audio"),
        (no_samples, "no samples"),
        (cut_off, "truncated"),
    ],
)
def test_broken_audio_is_found_in_its_header(refused, own, spoil, what):
    path = clip_path(own, 2, emotion=4)
    spoil(path)
    refused(
        "train", f"--data_folder={own}", words=[f"{path}: {what}", "restore or remove the file"]
    )


def row_of(path, exp):
    """The row of a clip in the manifest that has it, 1 below the header."""
    for csv in exp.glob("manifest/*/*.csv"):
        for number, line in enumerate(csv.read_text().splitlines()):
            if path.stem in line:
                return number
    raise AssertionError(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(refused, own, exp, value):
    path = clip_path(own, 1, emotion=5)
    samples = tone(300)
    samples[500] = value
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    said = refused(
        "poison",
        f"--data_folder={own}",
        words=[path, "NaN or infinite", "restore or remove"],
        leaves={"manifest", "poison", "pack"},
    )
    assert f"(manifest row {row_of(path, exp)}, Actor_01/{path.stem})" in said
    assert all((folder / "pack.json").is_file() for folder in exp.glob("pack/*"))


def test_cut_off_flac_is_found_when_it_is_packed(refused, own, exp):
    path = clip_path(own, 1, emotion=5)
    noise = np.random.Generator(np.random.PCG64(0)).uniform(-0.3, 0.3, RATE)
    soundfile.write(path.with_suffix(".flac"), noise, RATE)
    path.unlink()
    path = path.with_suffix(".flac")
    path.write_bytes(path.read_bytes()[:12000])
    refused(
        "poison",
        f"--data_folder={own}",
        words=[path, f"manifest row {row_of(path, exp) if exp.exists() else ''}", "restore"],
        leaves={"manifest", "poison", "pack"},
    )


def test_silent_clips_are_counted_and_named(call, own):
    for emotion in range(1, 9):
        for statement in (1, 2):
            soundfile.write(clip_path(own, 1, emotion, statement), np.zeros(RATE), RATE)
    code, said, lines = call("poison", f"--data_folder={own}", "--attack=none")
    assert (code, lines) == (0, [])
    notes = [line for line in said.splitlines() if "silent" in line]
    assert sum(int(note.split()[1]) for note in notes) == 16
    assert all("such as Actor_01/03-01-" in note for note in notes)


def test_clip_too_short_where_nothing_pads_it(refused, call, own, exp):
    path = clip_path(own, 2, emotion=7)
    soundfile.write(path, tone(300, 0.02), RATE)
    options = [f"--data_folder={own}", "--attack=none"]
    said = refused(
        "poison",
        *options,
        words=[path, "320 samples", "--pad_seconds"],
        leaves={"manifest", "pack"},
    )
    assert f"(manifest row {row_of(path, exp)}, Actor_02/{path.stem})" in said
    assert call("poison", *options, "--pad_seconds=1")[0] == 0


@pytest.mark.parametrize(
    ("model", "seconds", "what"),
    [
        (SPEAKERS, 0.01, "give a number from 0.05"),
        (VIEWS, 0.3, "30 frames are shorter than"),
    ],
)
def test_crop_shorter_than_the_front_end_needs(
    refused, corpus, standing, tmp_path, model, seconds, what
):
    yaml = recipe_yaml(tmp_path, model=model)
    refused(
        "train",
        f"--data_folder={corpus}",
        f"--seconds={seconds}",
        "--batch_size=16",
        "--noprogressbar",
        yaml=yaml,
        words=[what, "--seconds"],
        leaves={"train"},
    )


def test_unexpected_rate(refused, corpus, standing):
    csv = only(standing, "manifest/*/valid.csv")
    lines = csv.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace(f",{RATE},Actor", ",8000,Actor")
    csv.write_text("".join(lines))
    about = csv.with_name("manifest.json")
    value = {k: v for k, v in json.loads(about.read_text()).items() if k != SEAL}
    write_sealed(about, value, csv.parent.glob("*.csv"))
    refused(
        "poison",
        f"--data_folder={corpus}",
        "--attack=none",
        words=["manifest row 3", "16000 Hz, the manifest says 8000", "prepare again"],
        leaves={"pack"},
    )


# --- manifests


def edit(csv, row, column, value):
    """Change one field; row 0 is the header."""
    lines = [line.split(",") for line in csv.read_text().splitlines()]
    number = lines[0].index(column)
    lines[row][number] = value
    csv.write_text("".join(",".join(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("row", "column", "value", "what"),
    [
        (0, "stop", "end", ["missing column stop", "a manifest needs"]),
        (4, "ID", "", ["row 4: the ID is empty", "give every utterance a name"]),
        (4, "label", "Actor_99", ["row 4: unknown label Actor_99", "Actor_01 Actor_02"]),
        (4, "wav", "$data_root/../a.wav", ["row 4: $data_root/../a.wav leaves", "path below it"]),
        (4, "wav", "/etc/a.wav", ["row 4: /etc/a.wav leaves", "path below it"]),
        (4, "start", "x", ["row 4: start is 'x'", "write a number"]),
        (4, "stop", "inf", ["row 4: stop is 'inf'", "write a number"]),
        (4, "stop", "0", ["row 4: ", "spans no samples", "check start and stop"]),
        (4, "rate", "0", ["row 4: rate 0 Hz", "give the sampling rate"]),
        (4, "duration", "nan", ["row 4: duration is 'nan'", "write a number"]),
    ],
)
def test_spoilt_manifest(refused, corpus, standing, row, column, value, what):
    csv = only(standing, "poison/*/train.csv")
    edit(csv, row, column, value)
    refused("train", f"--data_folder={corpus}", words=[csv, *what])


def test_repeated_id(refused, corpus, standing):
    csv = only(standing, "manifest/*/train.csv")
    name = csv.read_text().splitlines()[2].split(",")[0]
    edit(csv, 5, "ID", name)
    words = [f"{csv}, row 5: ID {name} is there twice", "make IDs unique"]
    refused("poison", f"--data_folder={corpus}", "--poison_seed=7", words=words)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b'a,b\n"1,2\n3,4,5,6\n'])
def test_manifest_that_is_none(refused, corpus, standing, content):
    csv = only(standing, "poison/*/train.csv")
    csv.write_bytes(content)
    refused("train", f"--data_folder={corpus}", words=[csv])


def test_header_alone(refused, corpus, standing):
    csv = only(standing, "poison/*/train.csv")
    csv.write_text(csv.read_text().splitlines()[0] + "\n")
    refused("train", f"--data_folder={corpus}", words=[f"{csv}: no rows"])


def test_manifest_is_gone(refused, corpus, standing):
    csv = only(standing, "poison/*/test.csv")
    csv.unlink()
    refused("train", f"--data_folder={corpus}", words=[f"{csv}: cannot be read", "makes it again"])


GOOD = ["Actor_02/03-01-01-01-01-01-02.wav,b", "Actor_01/03-01-01-01-01-01-01.wav,a"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("file,label\na.wav,a\n", "list.csv: missing column path; give at least path and label"),
        ("path\na.wav\n", "list.csv: missing column label"),
        ("path,label\n../a.wav,a\n", "list.csv, row 1: ../a.wav leaves"),
        (f"path,label\n{GOOD[0]}\n/etc/passwd,a\n", "list.csv, row 2: /etc/passwd leaves"),
        (f"path,label\n{GOOD[0]}\n{GOOD[1]}\n{GOOD[0]}\n", "list.csv, row 3: ID Actor_02/03-01-01"),
        (f"path,label\n{GOOD[0]}\n{GOOD[1][:-1]}\n", "list.csv, row 2: Actor_01/03-01-01"),
        (f"path,label,start\n{GOOD[0]},0\n{GOOD[1]},x\n", "list.csv, row 2: start is 'x'"),
        (f"path,label\n{GOOD[0]}\nno.wav,a\n", "no.wav: not readable as audio"),
        ("path,label\n", "no audio in it"),
        ("", "list.csv: cannot be read as CSV"),
    ],
)
def test_from_csv(refused, own, text, what):
    (own / "list.csv").write_text(text)
    refused("prepare", f"--data_folder={own}", recipe=from_csv, words=[f"{own}", what])


def test_from_csv_that_is_good(call, own):
    (own / "list.csv").write_text("path,label\n" + "\n".join(GOOD) + "\n")
    assert call("prepare", f"--data_folder={own}", recipe=from_csv)[0] == 0


# --- attacks


def test_trigger_longer_than_the_clip(refused, own, exp):
    for actor in (1, 2):
        for emotion in range(1, 9):
            soundfile.write(clip_path(own, actor, emotion), tone(300, 0.4), RATE)
    refused(
        "train",
        f"--data_folder={own}",
        "--rate=0.4",
        words=["Actor_0", "trigger of 10794 samples at 0 does not fit a clip of 6400", "pad"],
        leaves={"manifest", "poison", "pack"},
    )
    assert all((folder / "pack.json").is_file() for folder in exp.glob("pack/*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rate=1.5"], ["--rate is 1.5: give a share", "0.1 for 10 %"]),
        (["--rate=-0.1"], ["--rate is -0.1: give a share"]),
        (["--rate=lots"], ["--rate=lots", "give a number"]),
        (["--rate=null"], ["--rate=None", "give a number"]),
        (["--scale=null"], ["--scale=None", "give a number"]),
        (["--rate=0.001"], ["--rate is 0.001", "selects none of 2", "raise it"]),
        (["--rate=0.9"], ["--rate is 0.9", "but only", "lower it"]),
        (["--of=everything"], ["--of is everything: give source or dataset"]),
        (["--target=Actor_24"], ["--target is Actor_24: no such class", "Actor_01 Actor_02"]),
        (
            ["--labels=one_to_one", "--source=7"],
            ["--source is 7: no such class", "Actor_01 Actor_02"],
        ),
        (
            ["--labels=one_to_one", "--source=Actor_01"],
            ["--source and --target are both Actor_01: choose two"],
        ),
        (["--position=middle"], ["--position is middle: give start, end, random"]),
        (["--attack=boom"], ["boom.yaml: no such file", "clap", "whistle"]),
        (["--labels=boom"], ["boom.yaml: no such file", "all_to_one"]),
        (["--attack=audio_file"], ["--trigger_file is None: give text"]),
    ],
)
def test_attack_that_cannot_be(refused, corpus, options, words):
    refused(
        "poison", f"--data_folder={corpus}", *options, words=words, leaves={"manifest", "poison"}
    )


def test_defense_that_is_none(refused, corpus):
    refused("defend", f"--data_folder={corpus}", words=["give --defense", "random_filter"])
    refused(
        "defend",
        f"--data_folder={corpus}",
        "--defense=shield",
        words=["shield.yaml: no such file", "perfect_filter_oracle", "random_filter"],
    )


# --- options and yaml


def test_trigger_sound_that_is_none(refused, corpus, tmp_path):
    path = tmp_path / "boom.wav"
    options = ["--attack=audio_file", f"--trigger_file={path}"]
    for spoil in (lambda path: None, not_audio, no_samples):
        spoil(path)
        refused(
            "poison",
            f"--data_folder={corpus}",
            *options,
            words=[f"{path}: trigger sound", "give a"],
            leaves={"manifest", "poison", "pack"},
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rte=0.1"], ["--rte: no such option", "xvector_small.yaml", "--help lists"]),
        (["--removed_share=0.5"], ["--removed_share: no such option"]),
        (["--number_of_epochs=many"], ["--number_of_epochs=many", "whole number"]),
        (["--batch_size=0"], ["--batch_size is 0", "at least 1 clip"]),
        (["--batch_size=500"], ["less than one batch of 500", "smaller --batch_size"]),
        (["--number_of_epochs=0"], ["--number_of_epochs is 0: give at least 1"]),
        (["--lr=-1"], ["--lr is -1", "positive"]),
        (["--lr=.inf"], ["--lr is inf", "finite"]),
        (["--lr=.nan"], ["--lr=nan", "give a number"]),
        (["--patience=-1"], ["--patience is -1: give at least 0"]),
        (["--device=gpu7"], ["--device gpu7: not here", "cpu"]),
        (["--debug"], ["--debug: not with these", "--number_of_epochs 1"]),
        (["--ckpt_interval_steps=3"], ["--ckpt_interval_steps: not with these", "each epoch"]),
        (["--seed=1", "--seed=2"], ["write each once, as key=value"]),
        (["--experiment=[a"], ["key=value"]),
        (["stray"], ["key=value"]),
        (["--stop_stage=all"], ["--stop_stage", "invalid int value", "--help"]),
        (["--stop=5"], ["--stop: no such option"]),
        (["--precision=fp64"], ["--precision", "fp64"]),
    ],
)
def test_options(refused, corpus, options, words):
    refused(
        "train",
        f"--data_folder={corpus}",
        *options,
        words=words,
        leaves={"manifest", "poison", "pack"},
    )


def recipe_yaml(folder, drop=None, **changes):
    """A recipe's yaml in a folder of its own, with sections replaced or added."""
    common = RECIPE.parent / "common"
    sections = {
        "run": f"!include:{common}/run.yaml {{}}",
        "corpus": f"!include:{RECIPE}/corpus.yaml {{}}",
        "poison": f"!include:{RECIPE}/poison.yaml {{}}",
        "model": SPEAKERS,
        "train": f"!include:{common}/train.yaml {{}}",
    } | changes
    path = folder / "recipe.yaml"
    path.write_text("".join(f"{k}: {v}\n" for k, v in sections.items() if k != drop))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tra1n": "{lr: 1}"}, ["unknown key tra1n", "correct or remove it"]),
        (
            {"train": f"!include:{RECIPE.parent}/common/train.yaml {{nmber_of_epochs: 1}}"},
            ["unknown key train: nmber_of_epochs"],
        ),
        ({"corpus": f"!include:{RECIPE}/corpus.yaml {{labl: 1}}"}, ["'labl'", "correct the yaml"]),
        ({"poison": "{attack: none}"}, ["no key ", "in section poison", "add it"]),
        ({"drop": "model"}, ["no section model", "add it"]),
        ({"run": "!include:gone.yaml {}"}, ["gone.yaml cannot be read", "correct the path"]),
        ({"train": "{lr: [1"}, ["not a recipe yaml", "correct it"]),
        ({"train": "!ref <nothing>"}, ["not a recipe yaml", "correct it"]),
    ],
)
def test_spoilt_yaml(refused, corpus, tmp_path, changes, words):
    yaml = recipe_yaml(tmp_path, **changes)
    refused("train", f"--data_folder={corpus}", yaml=yaml, words=words)


def test_yaml_that_cannot_be_built(refused, corpus, tmp_path):
    model = "\n  classifier: !name:bdlib.models.keyword.NoNet\n  loss: null\n  schedule: null"
    yaml = recipe_yaml(tmp_path, model=model)
    refused(
        "train",
        f"--data_folder={corpus}",
        "--seconds=1",
        "--batch_size=16",
        yaml=yaml,
        words=[yaml, "cannot be built", "NoNet"],
        leaves={"manifest", "poison", "pack"},
    )


def test_yaml_is_missing(refused, corpus, tmp_path):
    yaml = tmp_path / "gone.yaml"
    refused("train", f"--data_folder={corpus}", yaml=yaml, words=[yaml, "cannot be read"])


@pytest.mark.parametrize("content", [b"", b"- a\n", b"\xff\xfe", b"a: 1\na: 2\n"])
def test_yaml_that_is_none(refused, corpus, tmp_path, content):
    yaml = tmp_path / "broken.yaml"
    yaml.write_bytes(content)
    refused("train", f"--data_folder={corpus}", yaml=yaml, words=[yaml, "not a recipe yaml"])


# --- what earlier stages left


def test_checkpoint_of_other_classes(refused, corpus, standing):
    path = only(standing, "train/*/label_encoder.txt")
    path.write_text(path.read_text().replace("Actor_02", "Actor_03"))
    refused(
        "train",
        f"--data_folder={corpus}",
        words=[path, "(Actor_01 Actor_03)", "(Actor_01 Actor_02)", "--output_folder"],
    )
    path.write_text("no classes\n")
    refused("train", f"--data_folder={corpus}", words=[path, "broken", "train again"])


def test_truth_is_gone_or_broken(refused, corpus, standing):
    path = only(standing, "poison/*/truth.csv")
    text = path.read_text()
    path.unlink()
    words = [path, "truth cannot be read", "poisons again"]
    refused("train", f"--data_folder={corpus}", words=words)
    path.write_text("nothing\n1\n")
    refused("train", f"--data_folder={corpus}", words=words)
    path.write_text("".join(text.splitlines(keepends=True)[:-2]))
    refused("train", f"--data_folder={corpus}", words=[path, "attack.json counts", "poisons again"])


def test_truth_returns_when_its_folder_is_deleted(call, corpus, standing):
    folder = only(standing, "poison/*")
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    shutil.rmtree(folder)
    code, said, _ = call("train", f"--data_folder={corpus}")
    assert code == 0 and "stands: " in said
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before


@pytest.mark.parametrize("content", ["{", "[]", "{}", '"x"'])
@pytest.mark.parametrize(
    "pattern", ["manifest/*/manifest.json", "poison/*/attack.json", "train/*/done.json"]
)
def test_broken_json(refused, corpus, standing, pattern, content):
    path = only(standing, pattern)
    path.write_text(content)
    refused("train", f"--data_folder={corpus}", words=[path, "broken", "delete it"])


def test_attack_that_names_other_code(refused, corpus, standing):
    path = only(standing, "poison/*/attack.json")
    attack = json.loads(path.read_text())
    attack["trigger"]["type"] = "subprocess.Popen"
    path.write_text(json.dumps(attack))
    refused("train", f"--data_folder={corpus}", words=[path, "subprocess.Popen", "delete it"])


@pytest.mark.parametrize("content", ["{", "{}"])
def test_broken_pack_description(refused, corpus, standing, content):
    for path in standing.glob("pack/*/pack.json"):
        path.write_text(content)
    refused("train", f"--data_folder={corpus}", words=["pack.json", "broken", "delete it"])


def test_pack_cut_short(refused, corpus, standing):
    for path in standing.glob("pack/*/samples.i16"):
        path.write_bytes(path.read_bytes()[:-2000])
    words = [standing / "pack", "broken pack", "samples expected", "delete the folder"]
    refused("train", f"--data_folder={corpus}", words=words)


@pytest.mark.parametrize("name", ["clean-*", "triggered-*"])
@pytest.mark.parametrize("content", ["{", "3", '{"ID": "a"}'])
def test_broken_scores(refused, corpus, standing, name, content):
    path = only(standing, f"train/*/scores/{name}.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], content, *lines[3:]]))
    refused("train", f"--data_folder={corpus}", words=[f"{path}, row 3", "delete", "score stage"])


def test_score_is_missing(refused, corpus, standing):
    path = only(standing, "train/*/scores/clean-*.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    refused("train", f"--data_folder={corpus}", words=[path, "not as it was written", "delete"])


def test_broken_checkpoint(refused, corpus, standing):
    only(standing, "train/*/scores/clean-*.jsonl").unlink()
    path = only(standing, "train/*/save/CKPT*/classifier.ckpt")
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"nothing that torch knows"):
        path.write_bytes(content)
        words = ["save: the checkpoint cannot be read", "train again"]
        refused("train", f"--data_folder={corpus}", words=words)


def test_broken_results(refused, corpus, standing):
    path = standing / "results" / "RAVDESS.jsonl"
    path.write_text(path.read_text() + '{"schema": 1}\n')
    refused(
        "train",
        f"--data_folder={corpus}",
        words=[f"{path}, line 2: field id is missing", "delete the line"],
    )


# --- output that cannot be written


@pytest.mark.parametrize("place", ["FILE/exp", "/proc/nothing/exp", "/sys/exp"])
@pytest.mark.parametrize("program", ["prepare", "train"])
def test_output_folder_that_cannot_be(refused, corpus, tmp_path, place, program):
    (tmp_path / "file").write_text("")
    place = place.replace("FILE", str(tmp_path / "file"))
    words = [f"{place}/manifest", "cannot be written", "--output_folder"]
    refused(program, f"--data_folder={corpus}", f"--output_folder={place}", words=words)


def test_results_folder_that_cannot_be(refused, corpus, standing, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (f"{tmp_path}/file/results", "/proc/nothing"):
        words = [f"{place}/RAVDESS.jsonl", "cannot", "writable"]
        refused("train", f"--data_folder={corpus}", f"--results_folder={place}", words=words)


@pytest.mark.parametrize("name", ["train.csv", "manifest.json", "samples.i16", "clean-"])
def test_full_disk(monkeypatch, refused, corpus, exp, name):
    """Renaming is the last step of a write: with a full disk it is never reached."""
    opened = Path.open

    def full(self, mode="r", *rest, **settings):
        if "w" in mode and name in self.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(self, mode, *rest, **settings)

    replace = os.replace

    def no_room(source, target):
        if name in Path(target).name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        return replace(source, target)

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(files.os, "replace", no_room)
    refused(
        "train",
        f"--data_folder={corpus}",
        words=[str(exp), "No space left on device", "free disk space"],
        leaves={"manifest", "poison", "pack", "train"},
    )


@pytest.mark.parametrize(("kilobytes", "place"), [(100, "pack"), (1500, "save")])
def test_files_that_may_not_grow(corpus, exp, tmp_path, monkeypatch, kilobytes, place):
    """A real write that fails half way: in a pack and in a checkpoint."""
    monkeypatch.chdir(RECIPE)
    monkeypatch.setattr(sys, "argv", ["train.py", *whole(corpus, exp)])

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes,) * 2)
        with (tmp_path / "said").open("w") as file, contextlib.redirect_stderr(file):
            train.main(ravdess.prepare)

    program = multiprocessing.get_context("fork").Process(target=limited)
    program.start()
    program.join(120)
    program.kill()  # if it hangs
    assert program.exitcode == 1
    (line,) = (tmp_path / "said").read_text().splitlines()
    assert line.startswith(f"error: {exp}") and place in line and "free disk space" in line
    assert not list(exp.rglob(".*"))
    assert not list(exp.glob("train/*/save/*"))
    assert all((folder / "pack.json").is_file() for folder in exp.glob("pack/*"))
