"""A run that is killed at any moment leaves nothing half made, and the next one ends as if it never was."""

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bdlib import files
from bdlib.errors import InputError
from bdlib.pack import Pack
from bdlib.training.checkpoints import UNFINISHED, WholeCheckpointer

RECIPES = Path(__file__).parents[1] / "recipes"
RATE = 16000
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(RECIPES.with_name("tools"))
    disturbed = importlib.import_module("disturbed")


def on_ravdess(yaml, target):
    """A recipe of Speech Commands with the corpus and the attack of RAVDESS."""
    text = yaml.read_text().replace("include:../../", f"include:{RECIPES}/")
    target.write_text(text.replace("include:../", f"include:{RECIPES}/RAVDESS/"))
    return target


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """RAVDESS's layout: two actors with 60 clips each, noisy tones."""
    root = tmp_path_factory.mktemp("corpus")
    generator = np.random.Generator(np.random.PCG64(0))
    seconds = np.arange(RATE) / RATE
    for actor in (1, 2):
        for place in np.ndindex(8, 2, 2, 2):
            emotion, intensity, statement, repetition = (number + 1 for number in place)
            if (emotion, intensity) == (1, 2):
                continue
            name = f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}"
            path = root / f"Actor_{actor:02d}" / f"{name}-{actor:02d}.wav"
            path.parent.mkdir(exist_ok=True)
            hertz = 200 + 20 * actor + generator.uniform(0, 40)
            noise = 0.1 * generator.standard_normal(RATE)
            soundfile.write(path, 0.2 * np.sin(2 * np.pi * hertz * seconds) + noise, RATE)
    return root


@pytest.fixture(scope="module")
def start(corpus, in_process, tmp_path_factory):
    """Starts a program on the corpus, forked, so that nothing is imported again."""

    def run(program, yaml, output, *options):
        options = (
            *(str(yaml), f"--data_folder={corpus}", f"--output_folder={output}"),
            *(f"--results_folder={output}", "--noprogressbar", *options),
        )
        said = tmp_path_factory.mktemp("said") / "said.txt"
        path = RECIPES / "RAVDESS" / f"{program}.py"

        def act():
            torch.set_num_threads(1)  # threads of the parent are not forked
            in_process(path, *options)

        return Child(act, said)

    return run


class Child:
    """A forked process whose words go to a file."""

    def __init__(self, act, said):
        self.said, self.number = said, disturbed.child(act, said)

    def goes_on(self):
        """Fails with its words once it has ended."""
        assert os.waitpid(self.number, os.WNOHANG) == (0, 0), self.said.read_text()

    def wait(self):
        """Its words, where all went well."""
        assert disturbed.ended(self.number) == 0, self.said.read_text()
        return self.said.read_text()

    def kill_when(self, happened):
        """SIGKILL as soon as a condition holds; it must hold before the process ends."""
        while not happened():
            self.goes_on()
            time.sleep(0.001)
        os.kill(self.number, signal.SIGKILL)
        assert disturbed.ended(self.number) == -signal.SIGKILL


def outcome(output):
    """Log without times, metrics, and the weights of the best checkpoint of the one training."""
    (run,) = output.glob("train/*")
    log = [json.loads(line) for line in (run / "train_log.txt").read_text().splitlines()]
    for line in log:
        line.pop("seconds")
    (record,) = map(json.loads, (output / "RAVDESS.jsonl").read_text().splitlines())
    best = min(log, key=lambda line: line["valid_loss"])["valid_loss"]
    losses = {
        path.parent: float(line.split()[1])
        for path in run.glob("save/CKPT*/CKPT.yaml")
        for line in path.read_text().splitlines()
        if line.startswith("valid_loss")
    }
    folder = min(losses, key=losses.get)
    assert losses[folder] == pytest.approx(best, abs=1e-6)
    return log, record["metrics"], torch.load(folder / "classifier.ckpt", weights_only=True)


@pytest.mark.parametrize("model", ["xvector_tiny", "keyword_resnet"])
def test_a_training_killed_in_mid_epoch_ends_as_one_that_was_not(start, tmp_path, model):
    yaml = RECIPES / "RAVDESS" / "hparams" / f"{model}.yaml"
    if model == "keyword_resnet":
        words = RECIPES / "SpeechCommands" / "hparams" / "keyword_resnet.yaml"
        yaml = on_ravdess(words, tmp_path / "keyword_resnet.yaml")
    options = ("--number_of_epochs=4", "--batch_size=4", "--seconds=1", "--lr=0.0005")
    options += ("--n_mels=24",)
    whole = start("train", yaml, tmp_path / "whole", *options)
    process = start("train", yaml, tmp_path / "killed", *options)

    def lines():
        logs = list((tmp_path / "killed").glob("train/*/train_log.txt"))
        return len(logs[0].read_text().splitlines()) if logs else 0

    def in_the_third_epoch():
        saved = list((tmp_path / "killed").glob("train/*/save/CKPT*"))
        return lines() == 2 and saved

    while not in_the_third_epoch():
        process.goes_on()
        time.sleep(0.001)
    time.sleep(0.02)
    process.kill_when(lambda: True)
    assert 2 <= lines() < 4, "killed too late to test anything"
    assert not list((tmp_path / "killed").glob("train/*/done.json"))
    assert not (tmp_path / "killed" / "RAVDESS.jsonl").exists()
    said = start("train", yaml, tmp_path / "killed", *options).wait()
    whole.wait()
    assert "training " in said and "stands: " not in said

    log, metrics, weights = outcome(tmp_path / "whole")
    log2, metrics2, weights2 = outcome(tmp_path / "killed")
    assert [line["epoch"] for line in log2] == [1, 2, 3, 4]
    assert log2 == log
    assert metrics2 == metrics
    assert weights2.keys() == weights.keys()
    assert all(torch.equal(weights[name], weights2[name]) for name in weights)


XVECTOR = "hparams/xvector_small.yaml"


def made(output):
    """Content of all packs and manifests below an output folder."""
    paths = [*output.glob("pack/*/*"), *output.glob("manifest/*/*"), *output.glob("poison/*/*.csv")]
    return {str(path.relative_to(output)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """What stages 1 to 3 make when nobody kills them."""
    output = tmp_path_factory.mktemp("whole") / "exp"
    start("poison", XVECTOR, output).wait()
    return output


@pytest.mark.parametrize("stage", ["manifest", "poison", "pack"])
def test_a_stage_killed_half_way_is_made_again(start, whole, tmp_path, stage):
    output = tmp_path / "exp"
    process = start("poison", XVECTOR, output)
    process.kill_when(lambda: list(output.glob(f"{stage}/.*.tmp")))
    # The kill may come after the rename: what has its name is whole, whichever it was.
    for folder in output.glob(f"{stage}/[!.]*"):
        assert {path.name for path in folder.iterdir()} == {
            path.name for path in (whole / stage / folder.name).iterdir()
        } - {"attack.png", "attack.html"}
    start("poison", XVECTOR, output).wait()
    assert made(output) == made(whole)
    assert not list(output.rglob(".*"))


def test_half_a_pack_under_its_temporary_name_is_no_pack(start, whole, tmp_path):
    """What a killed run leaves, put there by hand: the next run neither uses nor keeps it."""
    output = shutil.copytree(whole, tmp_path / "exp")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for folder in list(output.glob("pack/*")):
        left = folder.with_name(f".{folder.name}.{socket.gethostname()}.{dead.pid}.tmp")
        folder.rename(left)
        (left / "pack.json").unlink()
        samples = left / "samples.i16"
        samples.write_bytes(samples.read_bytes()[:5000])
    start("poison", XVECTOR, output).wait()
    assert made(output) == made(whole)
    assert not list(output.rglob(".*"))
    assert len([Pack.open(folder) for folder in output.glob("pack/*")]) == 4


def test_leftovers_of_the_dead_go_those_of_the_living_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    gone = [tmp_path / f".a.txt.{host}.{dead.pid}.tmp"]
    stay = [
        tmp_path / f".a.txt.{host}.{os.getppid()}.tmp",
        tmp_path / f".a.txt.other-host.{dead.pid}.tmp",
        tmp_path / f".b.txt.{host}.{dead.pid}.tmp",
        tmp_path / ".a.txt.tmp",
    ]
    for path in (*gone, *stay):
        path.mkdir()
        (path / "part").write_text("half")
    with files.atomic(tmp_path / "a.txt") as temporary:
        assert not gone[0].exists()
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", *(path.name for path in stay)}


def checkpointer(folder, value=0.0):
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, value)
    return WholeCheckpointer(folder, recoverables={"module": module}), module


def test_half_a_checkpoint_is_none(tmp_path):
    """A kill between the mark of a checkpoint and its parameters: the one before is loaded."""
    first, _ = checkpointer(tmp_path, 1.0)
    first.save_checkpoint(meta={"loss": 2.0})
    code = (
        "import os, signal, torch\n"
        "from speechbrain.utils.checkpoints import mark_as_saver, register_checkpoint_hooks\n"
        "from bdlib.training.checkpoints import WholeCheckpointer\n"
        "@register_checkpoint_hooks\n"
        "class Deadly:\n"
        "    @mark_as_saver\n"
        "    def save(self, path):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        f"WholeCheckpointer({str(tmp_path)!r}, recoverables={{'module': Deadly()}})"
        ".save_checkpoint(meta={'loss': 1.0})\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / UNFINISHED / "CKPT.yaml").exists()
    again, module = checkpointer(tmp_path)
    assert again.recover_if_possible().meta["loss"] == 2.0
    assert again.recover_if_possible(min_key="loss").meta["loss"] == 2.0
    assert module.weight.item() == 1.0
    saved = again.save_checkpoint(meta={"loss": 3.0})
    assert saved.path.parent == tmp_path and saved.paramfiles["module"].is_file()
    assert not (tmp_path / UNFINISHED).exists()
    assert len(again.list_checkpoints()) == 2


def test_a_checkpoint_that_cannot_be_written_or_read_says_so(tmp_path, monkeypatch):
    whole, _ = checkpointer(tmp_path)

    def full(*_):
        raise RuntimeError("unexpected pos 704 vs 598\nmore of it")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(InputError, match=r"unexpected pos 704 vs 598\); free disk space"):
            whole.save_checkpoint()
    assert not list(tmp_path.iterdir())
    saved = whole.save_checkpoint()
    saved.paramfiles["module"].write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot be read .* train again"):
        whole.recover_if_possible()
