"""A learned sound: it moves clips to the target wherever it is, and is learned alike each time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bdlib.attacks.flowmur import FlowMur
from bdlib.errors import InputError

RATE = 16000
LOUD = FlowMur(seconds=0.3, snr_db=0.0, noise_db=20.0, steps=30, learning_rate=0.02)


def draws(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def loss(classifier, trigger, clips, target):
    """Mean cross-entropy of the target on clips with the sound at places of their own."""
    heard = [trigger(clip, RATE, draws(number)) for number, clip in enumerate(clips)]
    wavs = torch.from_numpy(np.stack(heard))
    with torch.no_grad():
        logits = classifier(wavs, torch.ones(len(wavs)))
    wanted = torch.full((len(wavs),), target)
    return float(torch.nn.functional.cross_entropy(logits, wanted))


@pytest.mark.parametrize("target", [0, 2])
def test_what_was_learned_moves_other_clips_to_the_target(surrogate, voiced, target):
    classifier, clips = surrogate
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    hosts = [voiced(RATE, seed=100 + number) for number in range(8)]
    start = replace(LOUD, steps=1, learning_rate=1e-9).fit(classifier, clips, target, 0)
    learned = LOUD.fit(classifier, clips, target, 0)
    other = LOUD.fit(classifier, clips, 1, 0)
    losses = [loss(classifier, one, hosts, target) for one in (learned, start, other)]
    assert losses[0] < losses[1] - 0.02 and losses[0] < losses[2] - 0.02
    after = classifier.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_the_seed_decides(surrogate):
    quick = replace(LOUD, steps=2)
    one, again = quick.fit(*surrogate, 0, 1), quick.fit(*surrogate, 0, 1)
    assert one == again != quick.fit(*surrogate, 0, 2)


def test_it_is_learned_as_it_is_played(surrogate, voiced):
    """The same sound at the same place, as far below the clip, in learning and in the attack."""
    trigger = replace(LOUD, steps=1, snr_db=12.0).fit(*surrogate, 0, 0)
    clip = voiced(RATE)
    change = trigger(clip, RATE, draws()) - clip
    first = int(np.flatnonzero(change)[0])
    assert 10 * np.log10(np.sum(clip**2) / np.sum(change**2)) == pytest.approx(12.0, abs=0.01)
    silent = replace(trigger, noise_db=200.0)
    sound = torch.from_numpy(change[first : first + 4800])
    rows = torch.from_numpy(np.stack([clip] * 40))
    played = silent._played(rows, 7 * sound, torch.Generator().manual_seed(0)).numpy() - clip
    places = [int(np.flatnonzero(np.abs(row) > 1e-6)[0]) for row in played]
    assert len(set(places)) > 30 and min(places) < 2500 and max(places) > 8500
    for row, place in zip(played, places, strict=True):
        window = row[max(place - 3, 0) : place + 4803]
        assert np.correlate(window, sound.numpy(), "valid").max() == pytest.approx(
            float(sound @ sound), rel=1e-2
        )


def test_another_rate_and_a_clip_too_short(surrogate, voiced):
    trigger = replace(LOUD, steps=1).fit(*surrogate, 0, 0)
    clip = voiced(44100)
    changed = np.flatnonzero(trigger(clip, 44100, draws()) - clip)
    assert trigger.rate == RATE and abs(changed[-1] - changed[0] - 0.3 * 44100) < 10
    with pytest.raises(InputError, match=r"4800 samples does not fit a clip of 4000.*`seconds`"):
        trigger(np.zeros(4000, np.float32), RATE, draws())
    with pytest.raises(InputError, match="nothing learned yet"):
        LOUD(voiced(RATE), RATE, draws())


@pytest.mark.parametrize("name", ["seconds", "steps", "learning_rate", "snr_db", "noise_db"])
def test_settings_out_of_range(name):
    with pytest.raises(InputError, match=f"`{name}`"):
        FlowMur(**{name: 0 if name in ("seconds", "steps", "learning_rate") else float("nan")})


def test_a_sound_longer_than_the_clips_is_not_learned(surrogate):
    with pytest.raises(InputError, match=r"`seconds` is 9: longer than the clips"):
        replace(LOUD, seconds=9).fit(*surrogate, 0, 0)
