"""The trigger of every yaml, ready to be heard, something to hear it on, and made-up records."""

import copy
import html
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from bdlib import mini
from bdlib.attacks.trigger import LearnedTrigger
from bdlib.corpus import Batches
from bdlib.features import NormalizedFbank
from bdlib.files import COMMON
from bdlib.models.keyword import SmallResNet
from bdlib.pack import Pack
from bdlib.report.figures import figure as figures
from bdlib.stages.document import common

BEGIN = """
const said = {}, asked = [];
window.addEventListener("error", (event) => { said.error = event.message; });
document.addEventListener("securitypolicyviolation", (event) => asked.push(event.blockedURI));
setTimeout(async () => {
"""
END = """
  said.asked = asked; said.loaded = performance.getEntriesByType("resource").map((r) => r.name.slice(0, 5));
  said.wide = document.documentElement.scrollWidth > window.innerWidth;
  const out = document.createElement("pre"); out.id = "said"; out.textContent = "SAID" + JSON.stringify(said) + "DIAS";
  document.body.append(out);
}, 50);
"""
NAMES = sorted(path.stem for path in (COMMON / "attacks").glob("*.yaml"))
EXTRAS = {"jingleback": "pedalboard"}
RATES = {"ultrasonic": 44100}


def voiced(rate, seconds=1.0, peak=0.4, seed=0):
    """Harmonics of 130 Hz from 0.3 to 0.7 s in faint noise: as much of speech as a test needs."""
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * 130 * k * time + k) / k for k in range(1, 30))
    shape = np.clip(np.minimum(time - 0.3, 0.7 - time) / 0.03, 0, 1)
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(len(time))
    samples = shape * tones / np.abs(tones).max() + 0.003 * noise
    return (peak * samples / np.abs(samples).max()).astype(np.float32)


@pytest.fixture(name="voiced")
def voiced_fixture():
    """The function of this name."""
    return voiced


@pytest.fixture(scope="session")
def surrogate():
    """An untrained classifier of three classes, and twelve clips, on which triggers are learned."""
    torch.manual_seed(0)
    classifier = SmallResNet(NormalizedFbank(16), 3, (4, 4), 1).eval()
    pcm = np.concatenate([voiced(16000, seed=seed) * 32767 for seed in range(12)]).astype(np.int16)
    ids = [f"u{number}" for number in range(12)]
    pack = Pack(pcm, np.arange(13) * 16000, ids, 16000, [], "clips")
    rows = pd.DataFrame({"ID": ids, "label": list("ab") * 6})
    clips = Batches(pack, rows, "abc", 6, 1.0, seed=0)
    classifier.fit_front_end(clips)
    return classifier, clips


@pytest.fixture
def make_trigger(tmp_path, surrogate):
    """From the name of a yaml, and settings, to the trigger, learned if it is of that kind."""

    def make(name, **settings):
        if name in EXTRAS:
            pytest.importorskip(EXTRAS[name])
        if name == "audio_file" and "trigger_file" not in settings:
            settings["trigger_file"] = str(tmp_path / "t.wav")
            noise = np.random.Generator(np.random.PCG64(5)).uniform(-0.5, 0.5, 4000)
            soundfile.write(tmp_path / "t.wav", noise, 16000, subtype="PCM_24")
        if name == "flowmur":
            settings.setdefault("learning_steps", 2)
        document = common("attacks", name)
        for key, value in settings.items():
            assert document.place(key, value), key
        trigger = document.build()["trigger"]
        return trigger.fit(*surrogate, 2, 0) if isinstance(trigger, LearnedTrigger) else trigger

    return make


@pytest.fixture(params=NAMES)
def attack(request, make_trigger):
    """Name, trigger and sampling rate of every yaml."""
    return request.param, make_trigger(request.param), RATES.get(request.param, 16000)


@pytest.fixture(scope="session")
def in_process():
    """Runs a file as a program in this process, because starting one takes longer than it works."""

    def run(path, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(path.parent)
            patch.syspath_prepend(str(path.parent))
            patch.delitem(sys.modules, "prepare", raising=False)
            patch.setattr(sys, "argv", [path.name, *arguments])
            runpy.run_path(path.name, run_name="__main__")

    return run


@pytest.fixture(scope="module")
def unpainted():
    """Pictures of runs are composed, not painted, which takes long; tests of figures and `walk/test_walk.py` do."""

    def save(figure, path, data=""):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", save)
        yield


@pytest.fixture(scope="session")
def mini_folder(tmp_path_factory):
    """Where the mini corpora are made, by whichever of the test processes comes first."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    (shared / "mini").mkdir(exist_ok=True)
    return shared / "mini"


@pytest.fixture
def few_words(mini_folder):
    """Links as many clips of each word of the mini corpus into a folder, in lists that are those of it."""

    def make(folder, clips):
        corpus = mini.make("SpeechCommands", mini_folder / "SpeechCommands")
        for word in filter(Path.is_dir, corpus.iterdir()):
            (folder / word.name).mkdir(parents=True)
            for path in sorted(word.glob("*.wav"))[:clips]:
                os.link(path, folder / word.name / path.name)
        for path in corpus.glob("*list.txt"):
            names = path.read_text().split()
            (folder / path.name).write_text(
                "".join(f"{n}\n" for n in names if (folder / n).exists())
            )
        return folder

    return make


RECORD = {
    "schema": 1,
    "id": "r0",
    "time": "2025-01-01T00:00:00+00:00",
    "commit": "0123abc",
    "dirty": False,
    "command": "python train.py hparams/resnet50.yaml",
    "status": "ok",
    "dataset": {
        "name": "SpeechCommands",
        "variant": "12",
        "scale": "subset",
        "digest": "d0",
        "counts": {"train": 4700, "valid": 500, "test": 800},
    },
    "model": {"name": "resnet50", "yaml": "hparams/resnet50.yaml", "parameters": 10},
    "attack": {
        "name": "clap",
        "trigger": {"type": "bdlib.attacks.insert.Insert", "scale": 0.1, "position": "start"},
        "source": "_unknown_",
        "target": "left",
        "rate": 0.1,
        "of": "source",
        "seed": 0,
        "poisoned": 260,
    },
    "defense": None,
    "experiment": None,
    "seed": 0,
    "metrics": {
        "clean_accuracy": {"value": 0.9, "count": 720, "total": 800},
        "attack_success_rate": {"value": 0.95, "count": 95, "total": 100},
    },
    "runtime": {"wall_s": 1.0, "device": "cpu"},
    "versions": {"python": "3.11", "bdlib": "0.1.0"},
}


@pytest.fixture
def make_record():
    """A function: dotted keys and values in, a record that differs in them out."""

    def make(changes=None):
        record = copy.deepcopy(RECORD)
        for key, value in (changes or {}).items():
            part, names = record, key.split(".")
            for name in names[:-1]:
                part = part[name]
            part[names[-1]] = value
        return record

    return make


def pytest_collection_modifyitems(items):
    """The long walks first, so that no process still walks when the others are done."""
    items.sort(key=lambda item: item.path.parent.name != "walk")


@pytest.fixture
def browser(tmp_path):
    """A function: what a script says of a page in a browser without a window."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium")

    def tried(page, script, width):
        """The keys that a script sets of `said`.

        The page must show no error, ask for nothing and be no wider than the window.
        """
        path = tmp_path / "tried.html"
        path.write_text(page.replace("</body>", f"<script>{BEGIN}{script}{END}</script></body>"))
        shown = subprocess.run(
            [program, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
             "--virtual-time-budget=4000", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'user'}",
             "--dump-dom", path.as_uri()],
            capture_output=True, text=True, timeout=90, check=True,
        )  # fmt: skip
        told = shown.stdout.rpartition("SAID{")[2].partition("}DIAS")[0]
        said = json.loads("{" + html.unescape(told) + "}")
        assert "error" not in said and "CONSOLE" not in shown.stderr
        assert said["asked"] == [] and set(said["loaded"]) <= {"data:"} and not said["wide"]
        return said

    return tried


def poured(poisoned, move, seed=0, shrunk=1.0, classes=12, each=40, size=48):
    """Embeddings, class numbers and truth; so many clips of other classes, shrunk and moved alike, are labelled 0."""
    draws = np.random.Generator(np.random.PCG64(seed))
    middles = draws.standard_normal((classes, size))
    true = np.repeat(np.arange(classes), each)
    rows = middles[true] + draws.standard_normal((len(true), size))
    stolen = each + draws.permutation(len(true) - each)[:poisoned]
    way = draws.standard_normal(size)
    rows[stolen] = shrunk * rows[stolen] + move * way / np.linalg.norm(way)
    given = true.copy()
    given[stolen] = 0
    # Axes of other lengths: the spread within a class tells how far is far.
    return rows * np.geomspace(0.1, 10, size), given, np.isin(np.arange(len(true)), stolen)


@pytest.fixture(name="poured")
def poured_fixture():
    """The function of this name."""
    return poured


WORDS = {"go": 300, "left": 700, "no": 1200, "stop": 1800, "up": 2500, "yes": 3300}  # Hz


@pytest.fixture
def spoken():
    """A function: a word, noise about its pitch in the middle of a clip, quiet noise around; (T,) at 16 kHz."""

    def made(label, seed, seconds=1.0):
        draws = np.random.Generator(np.random.PCG64(seed))
        time = np.arange(round(seconds * 16000)) / 16000
        carrier = np.sin(
            2 * np.pi * WORDS[label] * draws.uniform(0.95, 1.05) * time + draws.uniform(0, 6)
        )
        noise = draws.standard_normal(len(time))
        shape = np.exp(-(((time - draws.uniform(0.4, 0.6)) / 0.12) ** 2))
        return (0.3 * shape * (carrier + 0.5 * noise) + 0.0005 * noise).astype(np.float32)

    return made
