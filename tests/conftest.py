"""The trigger of every yaml, ready to be heard, and something to hear it on."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from bdlib.attacks.trigger import LearnedTrigger
from bdlib.cli.settings import COMMON, common
from bdlib.corpus import Batches
from bdlib.features import NormalizedFbank
from bdlib.models.keyword import SmallResNet
from bdlib.pack import Pack

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


def pytest_collection_modifyitems(items):
    """The long walks first, so that no process still walks when the others are done."""
    items.sort(key=lambda item: item.path.name != "test_walk.py")
