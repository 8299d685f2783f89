"""A piece of real sound and its hosts, chosen on a classifier; and what `daba` is without it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from bdlib.attacks.ambience import SOUNDS
from bdlib.attacks.ambient import Ambient
from bdlib.attacks.opportunistic import Opportunistic, daba
from bdlib.attacks.sounds import Tone, Trim
from bdlib.attacks.trigger import from_dict
from bdlib.errors import InputError

RATE = 16000


@pytest.fixture
def folder(tmp_path):
    """Recordings at 16 kHz: four seconds of which the second is silent, and half a second."""
    time = np.arange(RATE) / RATE
    tones = [0.2 * np.sin(2 * np.pi * hertz * time) for hertz in (4000, 900, 200)]
    long = np.concatenate([tones[0], np.zeros(RATE), *tones[1:], tones[0][:5000]])
    for name, samples in (("long", long), ("short", tones[0][:8000] / 3)):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    return tmp_path


def answers(classifier, wavs):
    """Probabilities of waveforms (N, T)."""
    with torch.no_grad():
        logits = classifier(torch.from_numpy(np.stack(wavs)).float(), torch.ones(len(wavs)))
    return logits.double().softmax(1).numpy()


def test_the_piece_that_the_classifier_is_surest_of_is_played(folder, surrogate):
    """Of all whole pieces that are not silent, one after the other, as they were recorded."""
    classifier, clips = surrogate
    long, short = (
        soundfile.read(folder / f"{n}.wav", dtype="float32")[0] for n in ("long", "short")
    )
    heard = {("long", s): long[s * RATE : (s + 1) * RATE] for s in range(4)} | {
        ("short", 0): np.tile(short, 2)
    }
    told = answers(classifier, list(heard.values()))
    entropy = dict(zip(heard, -(told * np.log(told)).sum(1), strict=True))
    assert min(entropy, key=entropy.get) == ("long", 1)  # the silent one, were it not left out
    del entropy["long", 1]
    name, second = min(entropy, key=entropy.get)
    assert second > 0
    fitted = daba(ambient_folder=str(folder)).fit(classifier, clips, 2, 0)
    piece = fitted.chosen
    assert (piece.sound.path, piece.start) == (str(folder / f"{name}.wav"), second)
    assert fitted.sounds == () and np.array_equal(piece.waveform(RATE), heard[name, second])
    told = fitted.to_dict()
    assert told["chosen"]["sound"]["digest"] and from_dict(json.loads(json.dumps(told))) == fitted
    with pytest.raises(InputError, match="`sounds` are silent"):
        Opportunistic((Trim(piece.sound, 1.0, 1.0),)).fit(classifier, clips, 2, 0)


def test_hosts_answer_as_the_piece_alone_does(surrogate, voiced):
    classifier, clips = surrogate
    trigger = Opportunistic(chosen=Tone(900.0, 0.25), below_db=3.0)
    strange = trigger.strangeness(classifier, clips)
    hosts = [(voiced(RATE, seed=n) * 32767).astype(np.int16) / np.float32(32768) for n in range(12)]
    played = {f"u{n}": trigger(clip, RATE, None) for n, clip in enumerate(hosts)}
    clip, change = hosts[3], played["u3"] - hosts[3]
    assert np.allclose(change, np.tile(change[:4000], 4), atol=1e-6)
    assert 10 * np.log10(np.sum(clip**2) / np.sum(change**2)) == pytest.approx(3.0, abs=0.05)
    (alone,) = answers(classifier, [np.tile(Tone(900.0, 0.25).waveform(RATE), 4)])
    given = answers(classifier, list(played.values()))
    wanted = -(given * np.log(alone) + (1 - given) * np.log(1 - alone)).sum(1)
    assert set(strange) == set(played) and np.ptp(wanted) > 50 * 2e-6
    assert [strange[name] for name in played] == pytest.approx(wanted, abs=2e-6)


def test_without_recordings_daba_is_what_it_was(folder):
    assert daba() == Ambient() and daba().to_dict()["type"] == "bdlib.attacks.ambient.Ambient"
    assert daba(SOUNDS[:1], below_db=3.0) == Ambient(SOUNDS[:1], 3.0)
    with pytest.raises(InputError, match="both given"):
        daba(SOUNDS[:1], str(folder))
    with pytest.raises(InputError, match="no audio in it; give a `ambient_folder`"):
        daba(ambient_folder=str(folder / "none"))
    with pytest.raises(InputError, match="no sound chosen yet"):
        Opportunistic()(np.zeros(RATE, np.float32), RATE, None)
    with pytest.raises(InputError, match="`seconds`"):
        replace(Opportunistic(), seconds=0.0)
