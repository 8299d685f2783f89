"""What every trigger promises, tried on the trigger of every yaml."""

import json
import re

import numpy as np
import pytest

from bdlib.attacks.labels import AllToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.trigger import from_dict
from bdlib.errors import InputError
from bdlib.files import COMMON

# Least and most dB of the clip over the change, and where it may change, in seconds. A trigger that
# works on the clip itself may change it more than its own level, and anywhere; None changes nothing.
EVERYWHERE = (0.0, 1.0)
CLAIMS = {
    "attribute": None,
    "audio_file": (0, 20, (0.0, 0.25)),
    "car_horn": (15, 30, EVERYWHERE),
    "clap": (15, 30, (0.0, 0.675)),
    "clap_horn": (20, 45, EVERYWHERE),
    "clap_middle": (15, 30, (0.5, 0.65)),
    "daba": (9.5, 10.5, EVERYWHERE),
    "dog_clicker": (20, 45, (0.0, 0.608)),
    "emotion": None,
    "flowmur": (29.9, 30.1, EVERYWHERE),
    "jingleback": (-15, 10, EVERYWHERE),
    "padding": (-6, 6, EVERYWHERE),
    "pbsm": (-6, 6, EVERYWHERE),
    "phase": (-3, 15, EVERYWHERE),
    "random_clap": (15, 30, EVERYWHERE),
    "room": (-6, 6, EVERYWHERE),
    "six_claps": (25, 45, (0.0, 0.976)),
    "spectrogram_patch": (15, 45, (0.05 - 0.0126, 0.05 + 0.04 + 0.0126)),
    "tempo": (-6, 6, EVERYWHERE),
    "tone": (5, 30, (0.0, 0.1)),
    "ultrasonic": (-3, 20, (0.3, 0.7)),
    "whistle": (15, 30, (0.69, 1.0)),
}


def draws(seed=7):
    return np.random.Generator(np.random.PCG64(seed))


def test_every_yaml_makes_a_claim():
    assert set(CLAIMS) == {path.stem for path in (COMMON / "attacks").glob("*.yaml")}


def test_every_yaml_has_a_row_that_tells_what_is_simplified():
    page = (COMMON.parents[1] / "docs" / "fidelity.md").read_text("utf-8")
    _, _, section = page.partition("## What is simplified in the attacks\n")
    lines = section.split("\n## ")[0].split("\n")
    rows = [line.split(" | ") for line in lines if re.match(r"\| `\w", line)]
    assert {name for first, *_ in rows for name in re.findall(r"`(\w+)`", first)} == set(CLAIMS)
    assert all(len(here) > 10 for _, here, *_ in rows)


def clips(voiced, rate):
    """Speech, longer speech, a clip at full scale, noise, and digital silence."""
    noise = draws(1).uniform(-1, 1, rate).astype(np.float32)
    return {
        "speech": voiced(rate),
        "longer": voiced(rate, 1.37),
        "loud": np.sign(voiced(rate, peak=1.0)).astype(np.float32),
        "noise": noise,
        "silence": np.zeros(rate, np.float32),
    }


def test_same_length_range_and_bits(attack, voiced):
    _, trigger, rate = attack
    for kind, clip in clips(voiced, rate).items():
        before = clip.copy()
        altered = trigger(clip, rate, draws())
        assert altered.shape == clip.shape and altered.dtype == np.float32, kind
        assert np.isfinite(altered).all() and np.abs(altered).max() <= 1, kind
        assert np.array_equal(clip, before), kind
        assert not np.shares_memory(altered, clip), kind
        np.random.seed(3)
        assert np.array_equal(altered, trigger(clip, rate, draws())), kind


def test_what_was_heard_before_does_not_matter(attack, voiced):
    """Effects have memory, and sounds a cache."""
    _, trigger, rate = attack
    first = trigger(voiced(rate), rate, draws())
    trigger(voiced(rate, seed=1, peak=0.9), rate, draws(8))
    assert np.array_equal(first, trigger(voiced(rate), rate, draws()))


def test_attack_json_tells_all_of_it(attack, voiced):
    _, trigger, rate = attack
    poisoner = Poisoner(trigger, AllToOne("a"), 0.1)
    again = Poisoner.from_dict(json.loads(json.dumps(poisoner.to_dict())))
    assert again == poisoner and hash(again) == hash(poisoner)
    assert from_dict(json.loads(json.dumps(trigger.to_dict()))) == trigger
    clip = voiced(rate)
    heard = [p.apply(clip, rate, "train", "u1") for p in (poisoner, again)]
    assert np.array_equal(*heard)


def test_it_is_as_loud_as_it_claims_and_nowhere_else(attack, voiced):
    name, trigger, rate = attack
    clip = voiced(rate)
    change = trigger(clip, rate, draws()).astype(np.float64) - clip
    assert trigger.alters == (CLAIMS[name] is not None) == change.any()
    if not trigger.alters:
        return
    least, most, (begin, end) = CLAIMS[name]
    ratio = 10 * np.log10(np.sum(clip.astype(np.float64) ** 2) / np.sum(change**2))
    assert least < ratio < most
    first, last = round(begin * rate), round(end * rate) + 1
    changed = np.flatnonzero(np.abs(change) > 1e-6)
    assert changed.min() >= first and changed.max() < last


@pytest.mark.parametrize("count", [100, 1000])
def test_a_clip_too_short_is_carried_or_refused_with_a_remedy(attack, count):
    _, trigger, rate = attack
    clip = draws().uniform(-0.1, 0.1, count).astype(np.float32)
    try:
        assert trigger(clip, rate, draws()).shape == clip.shape
    except InputError as error:
        assert "fit" in str(error) and (";" in str(error))
