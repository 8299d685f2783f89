"""Clips that a small net can tell apart, and a small net."""

import numpy as np
import pytest
import soundfile
import torch

from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.features import NormalizedFbank
from bdlib.models.keyword import SmallResNet

CLASSES, RATE = ("high", "low", "middle"), 16000
HERTZ = dict(zip(CLASSES, (3000, 300, 900), strict=True))


def tones(folder, count, seed=0, seconds=0.2):
    """A folder a class, of tones in noise."""
    draw = np.random.Generator(np.random.PCG64(seed))
    time = np.arange(round(seconds * RATE)) / RATE
    for name, hertz in HERTZ.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            tone = np.sin(2 * np.pi * hertz * draw.uniform(0.8, 1.2) * time)
            samples = draw.uniform(0.02, 0.3) * tone + 0.05 * draw.standard_normal(len(time))
            soundfile.write(folder / name / f"{number}.wav", samples, RATE, subtype="PCM_16")
    return folder


@pytest.fixture(name="tones", scope="session")
def tones_fixture():
    """The function of this name."""
    return tones


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """An untrained net of the three classes, which can be written and read."""
    torch.manual_seed(1)
    settings = {
        "()": "!name:bdlib.models.keyword.SmallResNet",
        "front_end": {"()": "!new:bdlib.features.NormalizedFbank", "n_mels": 16},
        "channels": [8, 8],
        "blocks": 1,
    }
    net = SmallResNet(NormalizedFbank(16), 3, (8, 8), 1).eval()
    net.front_end.mean.fill_(-8)
    net.front_end.deviation.fill_(3)
    (path := tmp_path_factory.mktemp("net") / "net.safetensors").touch()
    return Checkpoint(net, CLASSES, path, RATE, 0.2, settings)
