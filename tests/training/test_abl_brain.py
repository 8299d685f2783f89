"""ABL: what is isolated is poison, what is unlearned is the trigger, and its two losses by hand."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import speechbrain as sb
import torch

from bdlib.corpus import Batch, Batches
from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.files import read_json
from bdlib.models.keyword import SmallResNet
from bdlib.pack import Pack
from bdlib.training.abl_brain import AntiBackdoorBrain
from bdlib.training.classifier_brain import ClassifierBrain, Training, fit
from bdlib.training.schedule import OneCycle

RATE, SAMPLES, CLASSES, TARGET = 8000, 3200, "abcd", 0
QUIET = {"device": "cpu", "noprogressbar": True}
cross_entropy = torch.nn.functional.cross_entropy
SETTINGS = {"isolation_time": 0.4, "isolation_share": 0.1}


def beep(wavs):
    time = np.arange(480) / RATE
    wavs[..., 2400:2880] += 0.5 * np.sin(2 * math.pi * 3300 * time)
    return wavs


def clips(count, seed, poisoned=()):
    """Noisy tones of four classes, those poisoned with a beep and the target's label."""
    generator = np.random.Generator(np.random.PCG64(seed))
    labels = np.arange(count) % len(CLASSES)
    hertz = np.array([400, 800, 1300, 2000])[labels] * generator.uniform(0.8, 1.25, count)
    tones = 0.2 * np.sin(2 * math.pi * hertz[:, None] * np.arange(SAMPLES) / RATE)
    wavs = tones + 0.4 * generator.standard_normal((count, SAMPLES))
    for number in poisoned:
        wavs[number], labels[number] = beep(wavs[number]), TARGET
    return wavs, labels


def batches(wavs, labels, seed=None):
    pcm = np.clip(32767 * wavs, -32767, 32767).astype(np.int16).reshape(-1)
    names = [f"c{number:03}" for number in range(len(labels))]
    pack = Pack(pcm, np.arange(len(labels) + 1) * SAMPLES, names, RATE, [], "clips")
    rows = pd.DataFrame({"ID": names, "label": [CLASSES[label] for label in labels]})
    return Batches(pack, rows, CLASSES, 16, SAMPLES / RATE, seed)


@pytest.fixture(scope="module")
def poisoned():
    """A poisoned training set, validation, and the success rate of its trigger."""
    bad = [number for number in range(192) if number % 4 != TARGET][:40]
    wavs, labels = clips(80, 3)
    wavs = torch.tensor(beep(wavs[labels != TARGET]), dtype=torch.float32)

    @torch.no_grad()
    def success(net):
        return float((net.eval()(wavs, torch.ones(len(wavs))).argmax(1) == TARGET).float().mean())

    return SimpleNamespace(
        bad={f"c{number:03}" for number in bad},
        train=lambda: batches(*clips(192, 1, bad), seed=0),
        valid=lambda: batches(*clips(80, 2)),
        success=success,
    )


def trained(poisoned, folder, brain):
    torch.manual_seed(0)
    net = SmallResNet(NormalizedFbank(16, RATE), len(CLASSES), (8, 8), 1)
    how = Training(14, 16, torch.optim.Adam, 20, 0, 5.0, OneCycle(0.01), cross_entropy, "last")
    return fit(net, how, poisoned.train(), poisoned.valid(), folder, 0, QUIET, brain)


def right(net, data):
    with torch.no_grad():
        return np.mean([bool(x) for b in data for x in net(b.wavs, b.lens).argmax(1) == b.labels])


def test_a_training_isolates_the_poison_and_unlearns_it(poisoned, tmp_path):
    plain = trained(poisoned, tmp_path / "plain", ClassifierBrain)
    assert poisoned.success(plain) > 0.95 and right(plain, poisoned.valid()) > 0.95
    abl = partial(AntiBackdoorBrain, **SETTINGS)
    net = trained(poisoned, tmp_path / "abl", abl)
    isolated = read_json(tmp_path / "abl" / "isolated.json")
    assert len(isolated) == 20 and len(set(isolated) & poisoned.bad) >= 18
    assert poisoned.success(net) < 0.2 and right(net, poisoned.valid()) > 0.95


def test_all_training_clips_may_be_isolated(tmp_path):
    """Of 42 in batches of 16, which leave out ten an epoch; each is judged once, and at its centre."""
    data = batches(*clips(42, 1), seed=0)
    torch.manual_seed(0)
    net = SmallResNet(NormalizedFbank(16, RATE), len(CLASSES), (8, 8), 1)
    how = Training(4, 16, torch.optim.Adam, 20, 0, 5.0, OneCycle(0.01), cross_entropy, "last")
    brain = AntiBackdoorBrain(net, how, data, tmp_path, 0, QUIET, isolation_share=0.999)
    assert sorted(brain._first_learned()) == [f"c{number:03}" for number in range(42)]
    assert len(data) == 2 and len(data.whole()) == 3 and data.seed == 0
    (first, *_) = data.whole()
    assert first.ids == [f"c{number:03}" for number in range(16)]


def loss(logits, labels, isolated):
    brain = SimpleNamespace(gamma=0.5, isolated=isolated, device="cpu")
    batch = Batch(["x", "y", "z"], None, None, torch.tensor(labels))
    value = AntiBackdoorBrain.compute_objectives(brain, logits, batch, sb.Stage.TRAIN)
    (slope,) = torch.autograd.grad(value, logits)
    return float(value.detach()), slope


def test_the_two_losses_by_hand():
    """Cross entropies 0.13, 0.69 and 2.13 of two classes, of which guessing has 0.69."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]], requires_grad=True)
    low, middle, high = math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.exp(2))
    value, slope = loss(logits, [0, 0, 0], None)
    assert value == pytest.approx((-low + middle + high) / 3, rel=1e-5)
    assert slope[0, 0] > 0 > slope[1, 0]  # downhill for the first means to be less sure
    value, slope = loss(logits, [0, 0, 0], frozenset("xz"))
    assert value == pytest.approx(middle - (low + math.log(2)) / 2, rel=1e-5)
    assert slope[0, 0] > 0 and not slope[2].any()  # the last is unlearned already
    assert loss(logits, [0, 0, 0], frozenset())[0] == pytest.approx((low + middle + high) / 3)
    everything = loss(logits, [0, 0, 0], frozenset("xyz"))[0]
    assert everything == pytest.approx(-(low + 2 * math.log(2)) / 3)


def test_what_was_isolated_is_found_again_after_a_stop(poisoned, tmp_path):
    """Two epochs after the isolation; the training goes on with the same clips apart."""

    class Stops(RuntimeError):
        """A power cut."""

    class Stopping(AntiBackdoorBrain):
        def on_fit_batch_start(self, batch, should_step):
            if self.counter.current == 8:
                raise Stops
            super().on_fit_batch_start(batch, should_step)

    with pytest.raises(Stops):
        trained(poisoned, tmp_path, partial(Stopping, **SETTINGS))
    went_on = trained(poisoned, tmp_path, partial(AntiBackdoorBrain, **SETTINGS))
    assert poisoned.success(went_on) < 0.2 and right(went_on, poisoned.valid()) > 0.95


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", -1), ("isolation_time", 1.0), ("isolation_share", 0.0)],
)
def test_settings_out_of_range_are_named(poisoned, tmp_path, name, value):
    with pytest.raises(InputError, match=f"`{name}` is {value}: give"):
        trained(poisoned, tmp_path, partial(AntiBackdoorBrain, **{name: value}))
