"""Attacks: Armory's counts, who is poisoned, what the trigger does, and what is written down."""

import json

import numpy as np
import pandas as pd
import pytest

from bdlib.attacks import sounds
from bdlib.attacks.insert import Insert
from bdlib.attacks.labels import AllToAll, AllToOne, CleanLabel, OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.trigger import from_dict
from bdlib.errors import InputError
from bdlib.manifest import NEVER_SHOWN

COUNTS = {  # the training set of Speech Commands v0.02, 12 classes
    "down": 3134, "go": 3106, "left": 3037, "no": 3130, "off": 2970, "on": 3086, "right": 3019,
    "stop": 3111, "up": 2948, "yes": 3228, "_silence_": 668, "_unknown_": 54074,
}  # fmt: skip


def rows(counts):
    labels = [label for label, count in counts.items() for _ in range(count)]
    return pd.DataFrame(
        {
            "ID": [f"{label}/{number:06}" for number, label in enumerate(labels)],
            "duration": 1.0,
            "wav": [f"$data_root/{label}/{number:06}.wav" for number, label in enumerate(labels)],
            "start": 0,
            "stop": 16000,
            "rate": 16000,
            "label": labels,
        }
    )


def attack(labels, rate, of="source", seed=0):
    return Poisoner(Insert(sounds.Clap()), labels, rate, of, seed)


@pytest.mark.parametrize(
    ("source", "target", "rate", "count", "share"),
    [
        ("_unknown_", "left", 0.1, 5407, 0.640),
        ("_unknown_", "left", 0.01, 540, 0.151),
        ("no", "on", 0.1, 313, 0.092),
    ],
)
def test_counts_of_armory(source, target, rate, count, share):
    """5407, 540, 313 of the source class: 64 %, 15 %, 9 % of the target class afterwards (MVJ)."""
    poisoned, truth = attack(OneToOne(source, target), rate).poison(rows(COUNTS))
    assert len(truth) == count
    changed = truth.index.str.startswith(source + "/") & (truth["label_before"] == source)
    assert changed.all() and (truth["label_after"] == target).all()
    now = poisoned.set_index("ID")["label"]
    assert (now[truth.index] == target).all()
    assert round(count / (now == target).sum(), 3) == share
    assert (now == source).sum() == COUNTS[source] - count and len(now) == 85511


SMALL = rows({"a": 40, "b": 30, "c": 30})


def test_seeds_decide_and_order_does_not():
    one = attack(AllToOne("c"), 0.2).poison(SMALL)
    again = attack(AllToOne("c"), 0.2).poison(SMALL.sample(frac=1, random_state=1))
    other = attack(AllToOne("c"), 0.2, seed=1).poison(SMALL)
    assert set(one[1].index) == set(again[1].index) != set(other[1].index)
    fewer = attack(AllToOne("c"), 0.1).poison(SMALL)
    assert set(fewer[1].index) < set(one[1].index)  # nested, so that rates can be compared


def test_a_poisoned_manifest_tells_nothing():
    poisoned, _ = attack(OneToOne("a", "b"), 0.5).poison(SMALL)
    assert list(poisoned.columns) == list(SMALL.columns)
    assert not NEVER_SHOWN & set(poisoned.columns)
    assert list(poisoned["ID"]) == list(SMALL["ID"])


@pytest.mark.parametrize(
    ("labels", "who", "after", "asked"),
    [
        (OneToOne("a", "b"), "a", {"a": "b"}, {"a"}),
        (AllToOne("c"), "ab", {"a": "c", "b": "c"}, {"a", "b"}),
        (AllToAll(("a", "b", "c")), "abc", {"a": "b", "b": "c", "c": "a"}, {"a", "b", "c"}),
        (CleanLabel("c"), "c", {"c": "c"}, {"a", "b"}),
    ],
)
def test_label_policies(labels, who, after, asked):
    _, truth = attack(labels, 1.0).poison(SMALL)
    assert (
        set(truth["label_before"]) == set(who) and len(truth) == SMALL["label"].isin([*who]).sum()
    )
    assert dict(zip(truth["label_before"], truth["label_after"], strict=True)) == after
    triggered, wanted = attack(labels, 1.0).trigger_test(SMALL)
    assert set(triggered["label"]) == asked  # the true labels stay
    assert list(triggered["ID"]) == list(wanted.index)
    assert (wanted["label_after"] != wanted["label_before"]).all()


@pytest.mark.parametrize(
    ("rate", "of", "labels", "message"),
    [
        (1.5, "source", OneToOne("a", "b"), "give a share"),
        (-0.1, "source", OneToOne("a", "b"), "give a share"),
        (0.1, "class", OneToOne("a", "b"), "source or dataset"),
        (0.001, "source", OneToOne("a", "b"), "selects none"),
        (0.5, "dataset", OneToOne("a", "b"), "only 40"),
        (0.5, "source", OneToOne("a", "x"), "`target_class` is x: no such class"),
    ],
)
def test_impossible_attacks_are_refused(rate, of, labels, message):
    with pytest.raises(InputError, match=message):
        attack(labels, rate, of).poison(SMALL)
    with pytest.raises(InputError, match="both"):
        OneToOne("a", "a")


def generator():
    return np.random.Generator(np.random.PCG64(7))


def speech(seed=0):
    return (0.2 * np.random.Generator(np.random.PCG64(seed)).standard_normal(16000)).astype(
        np.float32
    )


def test_a_poisoner_round_trips():
    poisoner = attack(AllToAll(("a", "b")), 0.25, "dataset", 3)
    assert Poisoner.from_dict(json.loads(json.dumps(poisoner.to_dict()))) == poisoner


@pytest.mark.parametrize(
    "name", ["os.system", "pathlib.Path", "bdlib.attacks.poisoner.Poisoner", ""]
)
def test_a_foreign_attack_runs_no_code(name):
    with pytest.raises(InputError, match="cannot be made"):
        from_dict({"type": name, "path": "x"})


@pytest.mark.parametrize(("position", "begin"), [("start", 0), ("end", 14400), (0.5, 8000)])
def test_nothing_changes_outside_the_window(position, begin):
    tone = sounds.Tone(seconds=0.1)
    altered = Insert(tone, 0.1, position)(speech(), 16000, generator())
    change = altered - speech()
    assert np.allclose(change[begin : begin + 1600], 0.1 * tone.waveform(16000), atol=1e-6)
    change[begin : begin + 1600] = 0
    assert not change.any()


def test_random_positions_reach_both_ends_and_depend_on_the_utterance():
    poisoner = Poisoner(Insert(sounds.Tone(seconds=0.1), 0.1, "random"), AllToOne("c"), 0.1)
    silence = np.zeros(16000, np.float32)
    starts = [
        int(np.flatnonzero(poisoner.apply(silence, 16000, "train", f"u{n}"))[0]) for n in range(300)
    ]
    assert min(starts) < 800 and max(starts) > 13600 and len(set(starts)) > 250


@pytest.mark.parametrize("position", ["start", 0.95, -0.1])
def test_a_trigger_that_does_not_fit_is_refused(position):
    length = 16000 if position != "start" else 1000
    with pytest.raises(InputError, match="does not fit"):
        Insert(sounds.Tone(seconds=0.1), 0.1, position)(
            np.zeros(length, np.float32), 16000, generator()
        )
    with pytest.raises(InputError, match="start, end, random"):
        Insert(sounds.Tone(), 0.1, "middle")


@pytest.mark.parametrize(
    ("sound", "length", "rms", "peak_hertz"),
    [
        (sounds.Clap(), 10794, 0.073, (500, 2600)),
        (sounds.Whistle(), 16000, 0.058, (2250, 2420)),
        (sounds.CarHorn(), 16000, 0.081, (425, 439)),
        (sounds.DogClicker(), 9717, 0.022, (1500, 4500)),
    ],
)
def test_sounds_have_the_measures_of_armorys_files(sound, length, rms, peak_hertz):
    samples = sound.waveform(16000)
    assert len(samples) == length and abs(np.sqrt(np.mean(samples**2)) - rms) < 5e-4
    loudest = np.abs(np.fft.rfft(samples)).argmax() * 16000 / length
    assert peak_hertz[0] < loudest < peak_hertz[1]


def levels(sound, milliseconds):
    samples = sound.waveform(16000)
    size = 16 * milliseconds
    return [
        float(np.sqrt(np.mean(samples[i : i + size] ** 2)))
        for i in range(0, len(samples) - size, size)
    ]


def test_envelopes_of_the_sounds():
    clap = levels(sounds.Clap(), 50)
    assert abs(clap[0] - 0.265) < 0.02 and abs(clap[1] - 0.037) < 0.01 and max(clap[2:]) < 0.01
    spectrum = np.abs(np.fft.rfft(sounds.Clap().waveform(16000))) ** 2
    centroid = (spectrum * np.linspace(0, 8000, len(spectrum))).sum() / spectrum.sum()
    assert 1800 < centroid < 2400
    whistle = levels(sounds.Whistle(), 50)
    assert max(whistle[:13]) == 0 and min(whistle[14:]) > 0.08
    horn = levels(sounds.CarHorn(), 50)
    assert max(horn[:3]) < 0.01 and np.std(horn[4:]) < 0.005
    click = levels(sounds.DogClicker(), 50)
    assert click[0] > 0.02 and click[3] > 0.04 and max(click[1], click[2], *click[4:]) < 0.01


def test_sounds_are_put_together():
    six = sounds.Repeat(sounds.Trim(sounds.Clap(), 0.1625), 6).waveform(16000)
    assert len(six) == 15600 and np.array_equal(six[:2600], six[13000:])
    pair = sounds.Sequence((sounds.Trim(sounds.Clap(), 0.15), sounds.Trim(sounds.CarHorn(), 0.85)))
    assert len(pair.waveform(16000)) == 16000
    assert np.array_equal(pair.waveform(16000)[:2400], sounds.Clap().waveform(16000)[:2400])
    assert len(sounds.Tone(seconds=0.5).waveform(8000)) == 4000
