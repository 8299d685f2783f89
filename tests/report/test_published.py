"""The published numbers are what the papers print, and stand beside the right runs."""

from collections import Counter
from pathlib import Path

import pytest

from bdlib.errors import InputError
from bdlib.report.groups import group_records
from bdlib.report.labels import attack_label
from bdlib.report.published import beside, read_published, standing
from bdlib.report.table import Footnotes, Grid

PAPER = Path(__file__).parents[2] / "results" / "paper"
WORDS = ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes"]
CLASSES = {*WORDS, "_silence_", "_unknown_", "male", "female", ""}


@pytest.fixture(scope="module")
def published():
    return read_published(PAPER)


def value(published, source, metric, **fields):
    """The one number of a source with these fields."""
    found = [
        number.value
        for number in published
        if number.source.startswith(source)
        and number.metric == metric
        and all(getattr(number, key) == wanted for key, wanted in fields.items())
    ]
    assert len(found) == 1, found
    return found[0]


def test_every_number_is_there_and_is_a_share(published):
    assert Counter(number.source.split()[0] for number in published) == {
        "Armory": 22 * (2 + 6 * 4),  # triggers x defenses, seven rates
        "Sustek": 3 + 18 + 12 + 18 + 2 * (3 * 6 + 5 * 4) + 1,  # Tables 1 to 4, footnote 8
        "Mehlman": 11,
        "Schoof": 26,
    }
    assert all(0 <= number.value <= 1 for number in published)
    assert {n.source_class for n in published} | {n.target_class for n in published} <= CLASSES
    keys = [(n.source, n.dataset, n.model, n.attack, n.scale, n.rate, n.source_class,
             n.target_class, n.defense, n.metric, n.note) for n in published]  # fmt: skip
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "source, metric, fields, expected",
    [
        ("Sustek et al. 2023, Table 1", "attack_success_rate", {"model": "mvj", "scale": 0.5}, 0.699),
        ("Sustek et al. 2023, Table 1", "clean_accuracy", {"model": "mvd"}, 0.951),
        ("Sustek et al. 2023, Table 1", "triggered_accuracy", {"model": "resnet50", "scale": 0.02}, 0.865),
        ("Sustek et al. 2023, Table 2", "attack_success_rate", {"model": "mvd", "source_class": "no"}, 0.104),
        ("Sustek et al. 2023, Table 3", "attack_success_rate", {"model": "mvj", "attack": "whistle"}, 0.044),
        ("Sustek et al. 2023, Table 4", "triggered_accuracy",
         {"attack": "clap_horn", "model": "mvj_semisup",
          "note": "low noise and one Langevin step, chosen by an oracle"}, 0.901),
        ("Sustek et al. 2023, Table 4", "attack_success_rate",
         {"attack": "random_clap", "model": "base_wrn",
          "note": "clap at a random position; high noise, chosen by an oracle"}, 0.463),
        ("Sustek et al. 2023, footnote 8", "attack_success_rate", {"model": "base_wrn"}, 0.98),
        ("Armory", "attack_success_rate",
         {"attack": "clap", "rate": 0.1, "defense": "spectral_signatures"}, 0.019),
        ("Armory", "source_accuracy", {"attack": "car_horn", "rate": 0.3, "defense": "dp_instahide"}, 0.907),
        ("Armory", "clean_accuracy", {"attack": "dog_clicker", "rate": 0.05, "defense": ""}, 0.875),
        ("Armory", "triggered_accuracy",
         {"attack": "whistle", "rate": 0.005, "defense": "perfect_filter_oracle"}, 0.919),
        ("Mehlman et al. 2024, Figure 4", "class_auc", {}, 0.9617),
        ("Mehlman et al. 2024, Section 4.3", "attack_success_rate", {"defense": "vae_pls"}, 0.05),
        ("Schoof et al. 2024", "attack_success_rate",
         {"dataset": "ESD zh-speaker", "model": "ecapa", "attack": "emotion_neutral",
          "target_class": "male"}, 0.987),
        ("Schoof et al. 2024", "attack_success_rate", {"rate": 0.05}, 0.452),
    ],
)  # fmt: skip
def test_numbers_of_the_papers(published, source, metric, fields, expected):
    assert value(published, source, metric, **fields) == expected


def test_an_undefended_base_loses_about_the_source_class(published):
    """Armory: where nearly all triggered clips go to the target, accuracy falls by their share."""
    base = [n for n in published if n.source.startswith("Armory") and n.defense == "" and n.rate]
    clean = {(n.attack, n.rate): n.value for n in base if n.metric == "clean_accuracy"}
    triggered = {(n.attack, n.rate): n.value for n in base if n.metric == "triggered_accuracy"}
    assert len(clean) == len(triggered) == 24
    assert all(0.05 < clean[key] - triggered[key] < 0.1 for key in clean)


def group_of(make_record, changes=None):
    return group_records([make_record(changes)])[0]


def shown(of, group, published, *more):
    """A cell as it reads when its marks are settled, and its notes."""
    footnotes = Footnotes()
    cell = of(group, published, *more, footnotes)
    ((grid,), notes) = footnotes.settle([Grid("", ("",), ((cell,),))])
    return grid.rows[0][0], notes


def test_the_same_experiment_is_found(make_record, published):
    text, notes = shown(beside, group_of(make_record), published)
    assert text == (
        "clean 93.9, triggered 85.7, ASR 99.8 [1]; triggered 86.9, ASR 99.8 [2]; "
        "clean 89.0, ASR 100.0 [3]"
    )
    assert [note.split(",")[0] for note in notes] == [
        "[1] Armory 0.16.6 (2023)", "[2] Sustek et al. 2023", "[3] Mehlman et al. 2024"
    ]  # fmt: skip


def test_one_metric_stands_with_its_sources_alone(make_record, published):
    group = group_of(make_record, {"model.name": "keyword_resnet"})
    text, notes = shown(standing, group, published, "attack_success_rate")
    assert text == "99.8 [1][2]; 100.0 [3]"
    assert all("resnet50" in note for note in notes)  # another model than ours
    defense = {"name": "mvj", "stage": "training", "clean_budget": 0, "selection": "fixed"}
    mvj = group_of(make_record, {"model.name": "mvj_small", "defense": defense})
    text, notes = shown(standing, mvj, published, "attack_success_rate")
    assert text == "1.0 [1]" and "mvj" not in notes[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"attack.trigger": {"scale": 0.3}, "defense": None, "attack.target": "on"},
        {"attack.trigger": {"scale": 0.1, "position": "random"}},
        {"attack.trigger": {"scale": 0.1, "position": 0.4}},
        {"attack.rate": 0.15},
        {"attack.of": "dataset"},
        {"attack.source": "yes"},
        {"attack.target": "go"},
        {"dataset.variant": "35"},
        {"dataset.name": "RAVDESS"},
        {"defense": {"name": "x", "stage": "filter", "clean_budget": 0, "selection": "fixed"}},
    ],
)
def test_another_experiment_is_not(make_record, published, changes):
    assert shown(beside, group_of(make_record, changes), published) == ("", ())


@pytest.mark.parametrize(
    ("gender", "emotion", "wanted"),
    [("male", "Sad", "ASR 70.7 [1]"), ("female", "Surprise", "ASR 76.3 [1]"),
     ("male", "Angry", ""), (None, "Sad", "")],
)  # fmt: skip
def test_an_emotion_and_the_gender_of_a_target_are_found(
    make_record, published, gender, emotion, wanted
):
    """The paper names emotions and genders, and no speakers."""
    labels = {"attribute": "emotion", "value": emotion, "target_gender": gender}
    attack = {"name": "emotion", "trigger": {}, "labels": labels, "source": None, "target": "0011",
              "rate": 0.1, "of": "dataset", "seed": 0, "poisoned": 1088}  # fmt: skip
    dataset = {"dataset.name": "ESD", "dataset.variant": "en-speaker", "model.name": "xvector"}
    group = group_of(make_record, {**dataset, "attack": attack})
    assert shown(beside, group, published)[0] == wanted
    assert (attack_label(attack) == f"emotion_{emotion.lower()}, 10 % of the data set, any class → "
            f"0011{f' ({gender})' if gender else ''}")  # fmt: skip


def test_another_scale_finds_only_a_source_that_does_not_say_its_own(make_record, published):
    text, _ = shown(beside, group_of(make_record, {"attack.trigger.scale": 0.03}), published)
    assert text == "clean 89.0, ASR 100.0 [1]"


def test_another_model_is_named(make_record, published):
    text, _ = shown(
        beside, group_of(make_record, {"model.name": "xvector", "attack": None}), published
    )
    assert text == "clean 94.6 (resnet50) [1]"


NOISY = {
    "attack.name": "clap_horn",
    "attack.rate": 0.01,
    "attack.trigger.scale": 0.02,
    "model.name": "mvj_small",
    "defense": {
        "name": "feature_noise", "stage": "inference", "clean_budget": 0, "selection": "oracle",
        "settings": {"noise": 0.3, "step_size": 0.0},
    },
}  # fmt: skip


def test_a_stand_in_is_set_beside_the_net_it_stands_for(make_record, published):
    """The paper gives two levels of noise, without a number; a step has rows of its own."""
    text, notes = shown(beside, group_of(make_record, NOISY), published)
    assert text == "triggered 88.5, ASR 14.2 (mvj) [1]; triggered 85.8, ASR 1.0 (mvj) [2]"
    assert ["low noise" in note for note in notes] == [True, False]
    step = NOISY | {"defense": NOISY["defense"] | {"settings": {"noise": 0.3, "step_size": 1.0}}}
    text, _ = shown(beside, group_of(make_record, step), published)
    assert text == "triggered 89.0, ASR 6.9 (mvj) [1]; triggered 87.0, ASR 0.5 (mvj) [2]"


def test_equal_numbers_of_two_tables_are_shown_once(make_record, published):
    changes = {"attack.name": "clap_horn", "attack.rate": 0.01, "attack.trigger.scale": 0.02}
    text, notes = shown(beside, group_of(make_record, changes), published)
    assert text == "triggered 85.7, ASR 96.6 [1][2]"
    assert [note[4:31] for note in notes] == [
        "Sustek et al. 2023, Table 3",
        "Sustek et al. 2023, Table 4",
    ]


def test_a_wrong_row_is_named(tmp_path):
    lines = (PAPER / "mvj.csv").read_text().splitlines()
    bad = lines[5].replace("0.113", "30")
    assert bad != lines[5]
    (tmp_path / "p.csv").write_text("\n".join([*lines[:5], bad]) + "\n")
    with pytest.raises(InputError, match=r"p\.csv, row 6: value 30.0 is not between 0 and 1"):
        read_published(tmp_path)
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns must be source,"):
        read_published(tmp_path)
    assert read_published(tmp_path / "none") == []
