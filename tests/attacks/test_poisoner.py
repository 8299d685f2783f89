"""The same seeds poison the same rows everywhere, and the truth is told apart from the manifest."""

import numpy as np
import pandas as pd
import pytest

from bdlib import manifest
from bdlib.attacks.insert import Insert
from bdlib.attacks.labels import AllToAll, AllToOne, CleanLabel, CleanLabelHard, OneToOne
from bdlib.attacks.opportunistic import Opportunistic
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.sounds import Tone
from bdlib.errors import InputError
from bdlib.manifest import TRUTH

POLICIES = [OneToOne("a", "b"), AllToOne("c"), AllToAll(("a", "b", "c")), CleanLabel("a")]


def rows(count=60):
    names = [f"{'abc'[i % 3]}/{i:03}" for i in range(count)]
    return pd.DataFrame(
        {
            "ID": names,
            "duration": 1.0,
            "wav": [f"$data_root/{name}.wav" for name in names],
            "start": 0,
            "stop": 16000,
            "rate": 16000,
            "label": [name[0] for name in names],
            "speaker": [f"s{i % 7}" for i in range(count)],
        }
    )


def attack(labels=POLICIES[0], rate=0.25, of="source", seed=0, position="start"):
    return Poisoner(Insert(Tone(seconds=0.1), 0.1, position), labels, rate, of, seed)


def written(folder, poisoned):
    manifest.write(poisoned, folder / "m.csv")
    return (folder / "m.csv").read_bytes()


def test_pinned_rows():
    """A new library or machine must not poison others; 5 of 20 clips of the source class."""
    _, truth = attack().poison(rows())
    assert sorted(truth.index) == ["a/003", "a/027", "a/033", "a/042", "a/051"]
    _, truth = attack(seed=1).poison(rows())
    assert sorted(truth.index) == ["a/018", "a/030", "a/045", "a/048", "a/054"]


@pytest.mark.parametrize("labels", POLICIES, ids=lambda p: type(p).__name__)
def test_a_clean_twin_is_trained_on_clean_clips_and_hears_the_trigger(labels):
    twin = attack(labels, rate=0)
    poisoned, truth = twin.poison(rows())
    pd.testing.assert_frame_equal(poisoned, rows())
    assert truth.empty
    heard, heard_truth = twin.trigger_test(rows())
    expected, expected_truth = attack(labels).trigger_test(rows())
    pd.testing.assert_frame_equal(heard, expected)
    pd.testing.assert_frame_equal(heard_truth, expected_truth)


@pytest.mark.parametrize("labels", POLICIES, ids=lambda p: type(p).__name__)
def test_the_same_bytes_for_the_same_seed(tmp_path, labels):
    first = written(tmp_path, attack(labels).poison(rows())[0])
    np.random.seed(5)
    assert written(tmp_path, attack(labels).poison(rows())[0]) == first
    shuffled = rows().sample(frac=1, random_state=1)
    again = attack(labels).poison(shuffled)[0].sort_values("ID", key=lambda ids: ids.str[2:])
    assert written(tmp_path, again) == first
    one, other = (set(attack(labels, seed=s).poison(rows())[1].index) for s in (0, 1))
    assert one != other


@pytest.mark.parametrize("labels", POLICIES, ids=lambda p: type(p).__name__)
def test_nothing_but_labels_of_poisoned_rows_changes(labels):
    clean = rows()
    poisoned, truth = attack(labels).poison(clean)
    assert clean.equals(rows())
    assert poisoned.drop(columns="label").equals(clean.drop(columns="label"))
    changed = poisoned["ID"].isin(truth.index)
    assert poisoned["label"][~changed].equals(clean["label"][~changed])
    assert list(truth.index) == list(clean["ID"][changed])
    assert list(truth["label_before"]) == list(clean["label"][changed])
    assert list(truth["label_after"]) == list(poisoned["label"][changed])
    assert tuple(truth.columns) == TRUTH and set(truth["split"]) == {"train"}
    assert truth["triggered"].dtype == bool and truth["triggered"].all()


@pytest.mark.parametrize(
    ("rate", "of", "count"),
    [(0.25, "source", 5), (0.29, "source", 5), (0.3, "source", 6), (1, "source", 20),
     (0.1, "dataset", 6), (0.119, "dataset", 7), (1 / 3, "dataset", 20)],
)  # fmt: skip
def test_counts_are_rounded_down(rate, of, count):
    poisoned, truth = attack(rate=rate, of=of).poison(rows())
    assert len(truth) == count and (poisoned["label"] == "a").sum() == 20 - count


def test_a_rate_is_counted_as_it_is_written():
    """As floats 0.29 * 100 is less than 29."""
    many = pd.concat([rows()] * 5, ignore_index=True)
    assert OneToOne("a", "b").count(many, 0.29, "source") == 29


@pytest.mark.parametrize("labels", POLICIES, ids=lambda p: type(p).__name__)
def test_all_eligible_test_clips_are_asked_with_their_true_labels(labels):
    clean = rows()
    triggered, truth = attack(labels, rate=0.05, of="dataset").trigger_test(clean)
    eligible = clean[labels.eligible(clean)].reset_index(drop=True)
    assert triggered.equals(eligible)
    assert list(truth.index) == list(eligible["ID"]) and set(truth["split"]) == {"test_triggered"}
    assert list(truth["label_before"]) == list(eligible["label"])
    assert list(truth["label_after"]) == list(labels.target(eligible["label"]))


def test_a_test_set_without_eligible_clips_is_refused():
    with pytest.raises(InputError, match="no test clip is eligible"):
        attack().trigger_test(rows()[lambda r: r["label"] != "a"])


def places(poisoner, split="train", names=range(40)):
    silence = np.zeros(16000, np.float32)
    return [int(np.flatnonzero(poisoner.apply(silence, 16000, split, f"u{n}"))[0]) for n in names]


def test_random_places_depend_on_seed_split_and_utterance_and_on_nothing_else():
    poisoner = attack(position="random")
    first = places(poisoner)
    assert len(set(first)) > 35
    backwards = places(poisoner, names=reversed(range(40)))
    assert backwards[::-1] == first  # not on the order in which they are asked
    assert places(attack(position="random")) == first
    assert places(attack(position="random", seed=1)) != first
    assert places(poisoner, "test_triggered") != first
    assert places(attack(POLICIES[1], 0.5, position="random")) == first


def test_an_utterance_that_cannot_carry_the_trigger_is_named():
    with pytest.raises(InputError, match=r"^u7: trigger of 1600 samples .* clip of 1000"):
        attack().apply(np.zeros(1000, np.float32), 16000, "train", "u7")


@pytest.mark.parametrize("rate", [-0.01, 1.01, float("nan"), "lots", None])
def test_rates_that_are_none(rate):
    with pytest.raises(InputError, match=r"`rate` is .*: give a share from 0 to 1"):
        attack(rate=rate)


def test_the_hardest_clips_of_the_target_class_are_poisoned_with_their_label():
    clean = rows()
    sureness = pd.Series(np.linspace(-1, 0, 60), index=sorted(clean["ID"], reverse=True))
    poisoned, truth = attack(CleanLabelHard("a")).poison(clean, sureness)
    own = sureness[sureness.index.str.startswith("a/")]
    assert set(truth.index) == set(own.nsmallest(5).index) and poisoned.equals(clean)
    _, alike = attack(CleanLabelHard("a")).poison(clean, sureness * 0)
    _, drawn = attack(CleanLabel("a")).poison(clean)
    assert set(alike.index) == set(drawn.index)  # where all are alike the seed decides


def test_a_trigger_that_chooses_ranks_the_candidates_of_any_policy_but_one_that_does():
    strange = pd.Series(np.linspace(0, 1, 60), index=sorted(rows()["ID"], reverse=True))
    _, truth = Poisoner(Opportunistic(), OneToOne("b", "a"), 0.25).poison(rows(), strange)
    own = strange[strange.index.str.startswith("b/")]
    assert set(truth.index) == set(own.nsmallest(5).index) and set(truth["label_after"]) == {"a"}
    with pytest.raises(
        InputError, match=r"`labels` and the trigger both choose .*; take other labels"
    ):
        Poisoner(Opportunistic(), CleanLabelHard("a"), 0.25)


@pytest.mark.parametrize("wrong", ["nan", "short", "nothing"])
def test_what_a_trigger_gives_back_is_checked(wrong):
    """Of a trigger of one's own: as many samples as it was given, all of them finite."""

    class Wrong(Insert):
        def __call__(self, waveform, rate, generator):
            given = {"nan": waveform * np.nan, "short": waveform[5:], "nothing": None}
            return given[wrong]

    poisoner = Poisoner(Wrong(Tone(seconds=0.1)), POLICIES[0], 0.25)
    with pytest.raises(InputError, match="clip: Wrong does not give back 1600 finite samples"):
        poisoner.alter(["clip"], 16000, "train")("clip", np.zeros(1600, np.float32))
