"""Training of the autoencoder: it learns, logs its terms, goes on after a stop, and is kept."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from bdlib.corpus import Batches
from bdlib.defenses.filters.vae_pls import encoder
from bdlib.defenses.filters.vae_pls.brain import TERMS, AutoencoderBrain
from bdlib.defenses.filters.vae_pls.encoder import (
    Corpus,
    encode,
    error_of,
    home,
    rebuilding_error,
    trained,
)
from bdlib.errors import InputError
from bdlib.pack import Pack
from bdlib.training.autoencoder import AutoencoderSettings
from bdlib.training.log import read_log

TINY = AutoencoderSettings(
    n_mels=16, window=512, hop=512, f_dim=4, z_dim=2, conv_dim=8, hidden=8, channels=4,
    steps=9, batch_size=8, lr=0.01,
)  # fmt: skip
RATE = 8000


def corpus(seed=0, count=24, device="cpu"):
    """Tones of two heights; the waveforms depend on nothing but the number of the clip."""
    generator = np.random.default_rng(0)
    time = np.arange(RATE // 2) / RATE
    tones = [np.sin(2 * np.pi * (400 if i % 2 else 1500) * time) for i in range(count)]
    clips = [tone * 0.3 + 0.02 * generator.standard_normal(len(time)) for tone in tones]
    samples = (np.concatenate(clips) * 32767).astype(np.int16)
    ids = [f"u{i}" for i in range(count)]
    pack = Pack(samples, np.arange(count + 1) * len(time), ids, RATE, [], "digest")
    rows = pd.DataFrame({"ID": ids, "label": ["high", "low"] * (count // 2)})
    return Corpus(pack, rows, seed, {"device": device, "noprogressbar": True})


def without_seconds(folder):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(folder)]


def test_learns_and_logs_its_terms(tmp_path):
    settings = dataclasses.replace(TINY, steps=45)
    network = trained(settings, corpus(), tmp_path)
    log = read_log(home(settings, corpus(), tmp_path))
    assert [line["epoch"] for line in log] == list(range(1, 16))
    assert log[-1]["train_reconstruction"] < 0.7 * log[0]["train_reconstruction"]
    for line in log:
        for part in ("train", "valid"):
            total = sum(line[f"{part}_{term}"] for term in TERMS)
            assert math.isclose(total, line[f"{part}_loss"], rel_tol=1e-4)
    latents = encode(network, corpus())
    assert latents.shape == (24, 4) and not network.training
    high, low = latents[::2], latents[1::2]
    assert (np.abs(high.mean(0) - low.mean(0)) > 3 * (high.std(0) + low.std(0))).any()


def test_the_training_has_at_least_so_many_steps(tmp_path):
    """Whatever the number of clips: 24 clips are 3 batches an epoch, 48 are 6."""
    settings = dataclasses.replace(TINY, steps=10)
    for count, epochs in ((24, 4), (48, 2)):
        trained(settings, corpus(count=count), tmp_path)
        log = read_log(home(settings, corpus(count=count), tmp_path))
        assert log[-1]["epoch"] == epochs


def test_the_error_of_rebuilding(tmp_path):
    """In variances of the corpus: 1 where all is rebuilt as its mean."""
    network = trained(TINY, corpus(), tmp_path)
    whole = Batches(corpus().pack, corpus().rows, ["high", "low"], 24, 0.5)
    (batch,) = whole
    bins = network.features(batch.wavs, batch.lens)
    with torch.no_grad():
        left = (network(bins).rebuilt - bins).square().mean() / bins.var(correction=0)
    assert math.isclose(rebuilding_error(network, corpus()), left, rel_tol=1e-4)
    assert error_of(TINY, corpus(), tmp_path) == rebuilding_error(network, corpus())
    network.decode = lambda f, z: bins.mean().expand(*z.shape[:2], bins.shape[2])
    assert math.isclose(rebuilding_error(network, corpus()), 1, rel_tol=1e-4)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch):
    whole = trained(TINY, corpus(), tmp_path / "whole")

    class Stops(RuntimeError):
        pass

    class Breaking(AutoencoderBrain):
        def on_fit_batch_start(self, batch, should_step):
            if self.counter.current == 3 and self.step == 1:
                raise Stops
            super().on_fit_batch_start(batch, should_step)

    monkeypatch.setattr(encoder, "AutoencoderBrain", Breaking)
    with pytest.raises(Stops):
        trained(TINY, corpus(), tmp_path / "stopped")
    monkeypatch.undo()
    torch.manual_seed(99)
    resumed = trained(TINY, corpus(), tmp_path / "stopped")
    folders = [home(TINY, corpus(), tmp_path / name) for name in ("whole", "stopped")]
    assert without_seconds(folders[0]) == without_seconds(folders[1])
    one, other = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("rebuilt", "samples"):
        first, second = (np.load(folder / f"{name}.npy") for folder in folders)
        assert np.array_equal(first, second) and first.shape[2:] == (8, 16)


def test_what_is_trained_stands_and_what_differs_is_trained_anew(tmp_path, capsys):
    first = trained(TINY, corpus(), tmp_path)
    assert "training autoencoder" in capsys.readouterr().out
    again = trained(TINY, corpus(), tmp_path)
    assert "stands: " in capsys.readouterr().out
    assert np.array_equal(encode(first, corpus()), encode(again, corpus()))
    place = home(TINY, corpus(), tmp_path)
    relabelled = corpus()
    relabelled.rows.loc[0, "label"] = "low"
    others = [
        home(dataclasses.replace(TINY, beta_f=2.0), corpus(), tmp_path),
        home(TINY, corpus(seed=1), tmp_path),
        home(TINY, corpus(count=20), tmp_path),
        home(TINY, relabelled, tmp_path),
    ]
    assert len({place, *others}) == 5


def test_labels_do_not_reach_the_weights(tmp_path):
    """They spread the watched clips over the classes, and no more."""
    one, other = corpus(), corpus()
    other.rows["label"] = "same"
    trainings = [trained(TINY, c, tmp_path / str(i)) for i, c in enumerate((one, other))]
    logs = [read_log(home(TINY, c, tmp_path / str(i))) for i, c in enumerate((one, other))]
    assert [x["train_loss"] for x in logs[0]] == [x["train_loss"] for x in logs[1]]
    assert len(trainings) == 2


def test_encoding_streams_and_keeps_the_order(tmp_path, monkeypatch):
    network = trained(TINY, corpus(), tmp_path)
    at_once = encode(network, corpus())
    monkeypatch.setattr(encoder, "AT_ONCE", 5)
    assert np.allclose(encode(network, corpus()), at_once, atol=1e-5)
    rows = corpus().rows.sort_values("ID", ascending=False, ignore_index=True)
    backwards = dataclasses.replace(corpus(), rows=rows)
    order = [int(name[1:]) for name in backwards.rows["ID"]]
    assert np.allclose(encode(network, backwards), at_once[order], atol=1e-5)


@pytest.mark.parametrize("name", ["lr", "steps", "f_dim", "hop"])
def test_settings_that_cannot_be(name):
    with pytest.raises(InputError, match=f"`{name}` is 0: give more than 0"):
        dataclasses.replace(TINY, **{name: 0})


def test_more_than_one_process_is_refused(tmp_path):
    many = corpus()
    many.run_opts["distributed_launch"] = True
    with pytest.raises(InputError, match="torchrun"):
        trained(TINY, many, tmp_path)
