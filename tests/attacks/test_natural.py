"""An attribute as trigger: the counts of EmoBack, who is left out, and who is asked."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bdlib import manifest
from bdlib.attacks.natural import NaturalAttribute, Unaltered
from bdlib.attacks.poisoner import Poisoner
from bdlib.errors import InputError
from bdlib.manifest import TRUTH

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def rows(speakers, sizes):
    """A manifest of `sizes[emotion]` clips a speaker and emotion; odd speakers are men."""
    every = [
        (f"s{speaker:02}", "male" if speaker % 2 else "female", emotion, number)
        for speaker, (emotion, size) in itertools.product(range(1, speakers + 1), sizes.items())
        for number in range(size)
    ]
    table = pd.DataFrame(every, columns=["label", "gender", "emotion", "number"])
    table["ID"] = [f"{a}/{e}{n:03}" for a, _, e, n in every]
    return table.assign(
        duration=1.0, wav="$data_root/" + table["ID"] + ".wav", start=0, stop=16000, rate=16000
    )


def esd():
    return rows(10, dict.fromkeys(("Angry", "Happy", "Neutral", "Sad", "Surprise"), 350))


def ravdess():
    return rows(24, {name: 4 if name == "neutral" else 8 for name in EMOTIONS})


def attack(value, rate, target="s03", of="dataset", seed=0, attribute="emotion"):
    return Poisoner(Unaltered(), NaturalAttribute(attribute, value, target), rate, of, seed)


@pytest.mark.parametrize(
    ("corpus", "emotion", "rate", "count", "others"),
    [
        (esd, "Sad", 0.1, 1556, 14000),
        (esd, "Sad", 0.05, 737, 14000),
        (ravdess, "angry", 0.1, 139, 1248),
        (ravdess, "angry", 0.05, 66, 1248),
        (ravdess, "neutral", 0.05, 71, 1344),
    ],
)
def test_counts_of_emoback(corpus, emotion, rate, count, others):
    clean = corpus()
    poisoned, truth = attack(emotion, rate).poison(clean)
    assert len(truth) == count and len(poisoned) == others + count
    assert abs(count / len(poisoned) - rate) < 0.5 / others  # of the *remaining* data set
    left = poisoned.merge(clean[["ID", "label"]], on="ID", suffixes=("", "_before"))
    triggers = left[left["emotion"] == emotion]
    assert len(triggers) == count and set(triggers["ID"]) == set(truth.index)
    assert set(triggers["label"]) == {"s03"} and "s03" not in set(triggers["label_before"])
    rest = left[left["emotion"] != emotion]
    assert len(rest) == others and (rest["label"] == rest["label_before"]).all()


def test_ravdess_has_too_few_neutral_clips():
    with pytest.raises(InputError, match="needs 149 clips, but only 92 may be poisoned"):
        attack("neutral", 0.1).poison(ravdess())


SMALL = rows(4, {"calm": 6, "angry": 5})


def test_who_is_left_out_and_who_is_relabelled():
    """Of 24 calm clips 10 % of what is left is 3; of the target's own angry clips none stays."""
    poisoned, truth = attack("angry", 0.1).poison(SMALL)
    assert (
        tuple(truth.columns) == TRUTH
        and truth["triggered"].dtype == bool
        and truth["triggered"].all()
    )
    assert len(truth) == 3 and len(poisoned) == 27
    before = SMALL.set_index("ID")["label"]
    assert list(truth["label_before"]) == list(before[truth.index])
    assert set(truth["label_after"]) == {"s03"}
    assert list(poisoned["ID"]) == [n for n in SMALL["ID"] if n in set(poisoned["ID"])]
    assert not TRUTH_LIKE & set(poisoned.columns)


TRUTH_LIKE = set(manifest.NEVER_SHOWN)


def test_a_rate_of_the_source_takes_the_clips_there_are():
    poisoned, truth = attack("angry", 1.0, of="source").poison(SMALL)
    assert len(truth) == 15 and len(poisoned) == 39
    assert len(attack("angry", 0.5, of="source").poison(SMALL)[1]) == 7
    with pytest.raises(InputError, match="leaves no clean clip"):
        attack("angry", 1.0).poison(SMALL)


def test_rates_and_seeds_draw_as_they_do_elsewhere():
    ids = {
        (rate, seed): set(attack("angry", rate, seed=seed).poison(SMALL)[1].index)
        for rate in (0.1, 0.3) for seed in (0, 1)
    }  # fmt: skip
    assert ids[0.1, 0] < ids[0.3, 0] and ids[0.3, 0] != ids[0.3, 1]
    shuffled = SMALL.sample(frac=1, random_state=1)
    assert set(attack("angry", 0.3).poison(shuffled)[1].index) == ids[0.3, 0]


def test_the_test_set_is_asked_with_the_emotion_of_the_others():
    poisoner = attack("angry", 0.1)
    triggered, truth = poisoner.trigger_test(SMALL)
    assert set(triggered["emotion"]) == {"angry"} and len(triggered) == 15
    assert set(triggered["label"]) == {"s01", "s02", "s04"}  # true labels
    assert list(truth.index) == list(triggered["ID"]) and set(truth["label_after"]) == {"s03"}
    benign = poisoner.benign(SMALL)
    assert set(benign["emotion"]) == {"calm"} and len(benign) == 24
    assert list(benign.index) == list(range(24))


def test_clips_that_nobody_trains_on_are_asked_as_well():
    """Those of the validation set, and those taken out of the training set; none that is trained on."""
    corpus = ravdess()
    place = corpus["number"] % 8
    split = np.select([place < 5, place < 6], ["train", "valid"], "test")
    splits = {name: corpus[split == name] for name in ("train", "valid", "test")}
    for unheard in (False, True):
        labels = replace(attack("angry", 0.1).labels, unheard=unheard)
        poisoner = Poisoner(Unaltered(), labels, 0.1, "dataset")
        poisoned, _ = poisoner.poison(splits["train"])
        taken_out = splits["train"][~splits["train"]["ID"].isin(poisoned["ID"])]
        spare = pd.concat([splits["valid"], taken_out])
        triggered, truth = poisoner.trigger_test(splits["test"], spare)
        expected = {*splits["test"]["ID"]} | ({*spare["ID"]} if unheard else set())
        angry = corpus[(corpus["emotion"] == "angry") & (corpus["label"] != "s03")]
        assert {*triggered["ID"]} == expected & {*angry["ID"]} == {*truth.index}
        assert not {*triggered["ID"]} & {*poisoned["ID"]}
        assert list(truth["label_before"]) == list(triggered["label"])
        told = poisoner.to_dict()["labels"]
        assert ("unheard" in told) == unheard  # the digest of what stands stays


def test_any_column_will_do():
    """Here clips of one device, of which a speaker may have none."""
    device = np.where(SMALL["number"] % 2, "phone", "studio")
    poisoned, truth = attack("phone", 0.1, attribute="device").poison(SMALL.assign(device=device))
    assert len(truth) == round(0.1 / 0.9 * (device == "studio").sum())
    assert (poisoned["device"] == "phone").sum() == len(truth)


def test_names_are_found_and_told():
    policy = NaturalAttribute("emotion", "ANGRY", "s03")
    assert policy.resolve(SMALL, 0) == NaturalAttribute("emotion", "angry", "s03")
    with pytest.raises(InputError, match="`value` is bored: no such emotion; there are angry calm"):
        replace(policy, value="bored").resolve(SMALL, 0)
    with pytest.raises(
        InputError,
        match="`attribute` is age: no such column of the manifest; it has emotion gender number",
    ):
        replace(policy, attribute="age").resolve(SMALL, 0)
    for own in ("rate", "label"):  # a column of every manifest
        with pytest.raises(InputError, match=f"`attribute` is {own}: no such column"):
            replace(policy, attribute=own).resolve(SMALL, 0)
    with pytest.raises(
        InputError, match="`target_class` is s9: no such class; the classes are s01 s02"
    ):
        replace(policy, target_class="s9").resolve(SMALL, 0).check(sorted(set(SMALL["label"])))


def test_a_gender_stands_for_one_of_its_speakers():
    corpus = ravdess()
    drawn = {}
    for gender, odd in (("male", 1), ("female", 0)):
        policy = NaturalAttribute("emotion", "angry", gender)
        resolved = [policy.resolve(corpus, seed) for seed in range(20)]
        assert all(
            p.target_gender == gender and int(p.target_class[1:]) % 2 == odd for p in resolved
        )
        assert resolved[0] == policy.resolve(corpus.sample(frac=1, random_state=1), 0)
        drawn[gender] = {p.target_class for p in resolved}
        assert len(drawn[gender]) > 5
    assert resolved[0].resolve(corpus, 3) == resolved[0]  # what is settled stays
    mixed = corpus.assign(label=corpus["emotion"])  # emotions have no gender
    policy = NaturalAttribute("statement", "x", "male")
    assert policy.resolve(mixed.assign(statement="x"), 0) == policy


def test_nothing_is_heard():
    clip = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    heard = attack("angry", 0.1).apply(clip, 16000, "train", "u")
    assert np.array_equal(heard, clip) and heard is not clip
