"""Metrics against examples counted by hand."""

import numpy as np
import pandas as pd
import pytest

from bdlib.errors import InputError
from bdlib.evaluation import metrics
from bdlib.evaluation.metrics import (
    backdoor,
    classification,
    filtering,
    passed,
    screening,
    summary,
    suspecting,
)

# Eight test clips; the source class is "no", the target "left".
TEST = pd.DataFrame(
    [(f"n{i}", "no") for i in range(4)]
    + [(f"l{i}", "left") for i in range(2)]
    + [(f"y{i}", "yes") for i in range(2)],
    columns=["ID", "label"],
)


def scores(**predicted):
    rows = [(name, label, [0.0]) for name, label in predicted.items()]
    return pd.DataFrame(rows, columns=["ID", "predicted", "logits"]).set_index("ID")


def truth(*rows):
    columns = ["ID", "split", "label_before", "label_after", "triggered"]
    return pd.DataFrame(rows, columns=columns).set_index("ID")


CLEAN = scores(n0="no", n1="no", n2="no", n3="left", l0="left", l1="no", y0="yes", y1="yes")
# Of four triggered clips one goes to the target, one stays right, two go elsewhere.
TRIGGERED = scores(n3="yes", n2="yes", n1="left", n0="no")
TRUTH = truth(
    ("t0", "train", "no", "left", True),
    *[(f"n{i}", "test_triggered", "no", "left", True) for i in range(4)],
)


def test_clean_accuracy():
    assert classification(TEST, CLEAN) == {
        "clean_accuracy": {"value": 0.75, "count": 6, "total": 8}
    }


def test_backdoor_by_hand():
    measured = backdoor(TEST, CLEAN, TRIGGERED, TRUTH)
    assert measured == {
        "source_accuracy": {"value": 0.75, "count": 3, "total": 4},
        "no_trigger_rate": {"value": 0.25, "count": 1, "total": 4},  # n3
        "triggered_accuracy": {"value": 0.5, "count": 4, "total": 8},  # n0, l0, y0, y1
        "attack_success_rate": {"value": 0.25, "count": 1, "total": 4},
        "robust_accuracy": {"value": 0.25, "count": 1, "total": 4},
    }
    success, robust = (measured[n]["value"] for n in ("attack_success_rate", "robust_accuracy"))
    assert success != 1 - measured["source_accuracy"]["value"] + 0.5 and success != 1 - robust


def test_clips_that_trigger_by_themselves_are_no_twins_of_the_clean_test_set():
    """An emotion: the clips asked with it are in no other test set, and cannot be without it."""
    told = truth(*[(f"e{i}", "test_triggered", "no", "left", True) for i in range(2)])
    measured = backdoor(TEST, CLEAN, scores(e0="left", e1="no"), told)
    assert measured == {
        "triggered_accuracy": {"value": 0.7, "count": 7, "total": 10},  # 6 of 8 clean, and e1
        "attack_success_rate": {"value": 0.5, "count": 1, "total": 2},
        "robust_accuracy": {"value": 0.5, "count": 1, "total": 2},
    }


def test_success_is_not_one_minus_source_accuracy():
    """A classifier that errs without the trigger, and never towards the target, was not attacked."""
    clean = scores(n0="yes", n1="yes", n2="yes", n3="yes", l0="left", l1="left", y0="no", y1="no")
    measured = backdoor(TEST, clean, scores(n0="yes", n1="yes", n2="yes", n3="yes"), TRUTH)
    assert measured["attack_success_rate"] == {"value": 0.0, "count": 0, "total": 4}
    assert measured["source_accuracy"]["value"] == 0.0


def test_the_floor_is_of_source_clips_taken_for_the_target():
    """Not of all clips that are, nor of source clips taken for another class."""
    clean = scores(n0="left", n1="left", n2="yes", n3="no", l0="left", l1="no", y0="left", y1="yes")
    measured = backdoor(TEST, clean, TRIGGERED, TRUTH)
    assert measured["no_trigger_rate"] == {"value": 0.5, "count": 2, "total": 4}


def test_rows_of_the_target_class_do_not_count():
    """Scores of more rows than the eligible ones change nothing: `left` clips are no successes."""
    more = pd.concat([TRIGGERED, scores(l0="left", l1="left", y0="left", y1="left")])
    assert backdoor(TEST, CLEAN, more, TRUTH) == backdoor(TEST, CLEAN, TRIGGERED, TRUTH)


def test_each_row_has_its_own_target_when_all_go_to_all():
    following = {"no": "yes", "yes": "left", "left": "no"}
    told = truth(
        *[
            (name, "test_triggered", label, following[label], True)
            for name, label in TEST.itertuples(index=False)
        ]
    )
    triggered = scores(
        n0="yes", n1="yes", n2="left", n3="no", l0="no", l1="yes", y0="left", y1="yes"
    )
    measured = backdoor(TEST, CLEAN, triggered, told)
    assert measured["attack_success_rate"] == {"value": 0.5, "count": 4, "total": 8}
    assert measured["robust_accuracy"] == {"value": 0.25, "count": 2, "total": 8}
    assert measured["triggered_accuracy"] == measured["robust_accuracy"]
    assert measured["source_accuracy"]["count"] == 6


def test_a_missing_utterance_is_named():
    with pytest.raises(InputError, match=r"n2: not in the score file.*delete it"):
        classification(TEST, CLEAN.drop("n2"))
    with pytest.raises(InputError, match="n3"):
        backdoor(TEST, CLEAN, TRIGGERED.drop("n3"), TRUTH)


TRAINING = pd.Index([f"t{i}" for i in range(10)])
POISON = truth(
    *[(f"t{i}", "train", "no", "left", True) for i in range(3)],
    ("t5", "test_triggered", "no", "left", True),  # of another split: no poison in training
)


def test_filtering_by_hand():
    """Of 3 poisoned and 7 clean clips, 2 poisoned and 3 clean ones are removed."""
    kept = pd.Index(["t2", "t3", "t4", "t5", "t6"])
    assert filtering(TRAINING, kept, POISON) == {
        "filter_tp": {"value": 2},
        "filter_fp": {"value": 3},
        "filter_fn": {"value": 1},
        "filter_tn": {"value": 4},
        "filter_tpr": {"value": 2 / 3, "count": 2, "total": 3},
        "filter_fpr": {"value": 3 / 7, "count": 3, "total": 7},
        "filter_precision": {"value": 2 / 5, "count": 2, "total": 5},
        "filter_f1": {"value": 0.5},
    }


def test_perfect_and_absent_filters():
    perfect = filtering(TRAINING, TRAINING[3:], POISON)
    for name in ("filter_tpr", "filter_precision", "filter_f1"):
        assert perfect[name]["value"] == 1
    assert perfect["filter_fpr"]["value"] == 0
    nothing = filtering(TRAINING, TRAINING, POISON)
    assert "filter_precision" not in nothing  # 0 of 0 is no number
    assert nothing["filter_tpr"]["value"] == nothing["filter_f1"]["value"] == 0


def test_summary_shows_counts():
    text = summary(classification(TEST, CLEAN) | {"filter_tp": {"value": 2}})
    assert [line.split() for line in text.splitlines()] == [
        ["clean", "accuracy", "0.7500", "(6", "of", "8)"],
        ["filter", "tp", "2"],
    ]


def judged(*suspicions):
    return pd.DataFrame({"suspicion": suspicions})


def test_screening_by_hand():
    """Rejected is what is at least as suspicious as the threshold; clean, then triggered."""
    clean, triggered = judged(-5.0, -4.0, -3.0, -1.0), judged(-3.5, -1.0, -0.5)
    measured = screening(clean, triggered, {0.25: -1.0, 0.5: -3.0})
    assert measured["false_rejection_rate"] == {"value": 0.25, "count": 1, "total": 4}
    assert measured["false_acceptance_rate"] == {"value": 1 / 3, "count": 1, "total": 3}
    auc = measured["detection_auc"]
    assert auc["value"] == (2 + 3.5 + 4) / 12  # pairs in the right order, ties for half
    assert auc["curve"] == [
        {"preset": 0.25, "false_rejection_rate": 0.25, "false_acceptance_rate": 1 / 3},
        {"preset": 0.5, "false_rejection_rate": 0.5, "false_acceptance_rate": 1 / 3},
    ]
    assert sum(auc["clean"]) == 4 and sum(auc["triggered"]) == 3
    assert auc["edges"][0] == -5.0 and auc["edges"][-1] == -0.5
    assert len(auc["edges"]) == len(auc["clean"]) + 1
    text = summary(measured)
    assert "false rejection rate    0.2500  (1 of 4)  clean clips rejected" in text
    assert "(1 of 3)  triggered clips accepted" in text


def test_what_a_guard_lets_through_by_hand():
    """Of four clean clips three are right and one of these rejected; of four triggered ones, two reach
    the target and one of these is rejected, two are right and one of these is rejected."""
    test = pd.DataFrame({"ID": list("abcd"), "label": ["no", "no", "on", "on"]})
    clean = pd.DataFrame(
        {"predicted": ["no", "on", "no", "no"], "suspicion": [0.1, 0.2, 0.5, 0.3]},
        index=list("dcab"),
    )
    triggered = pd.DataFrame(
        {"predicted": ["yes", "yes", "on", "on"], "suspicion": [0.4, 0.6, 0.1, 0.9]},
        index=list("abcd"),
    )
    truth = pd.DataFrame(
        {"split": "test_triggered", "label_before": ["no", "no", "on", "on"], "label_after": "yes"},
        index=list("abcd"),
    )
    measured = passed(test, clean, triggered, truth, {0.25: 0.5, 0.5: 0.0})
    assert {name: (m["count"], m["total"]) for name, m in measured.items()} == {
        "passed_clean_accuracy": (2, 4),  # b and c
        "passed_attack_success_rate": (1, 4),  # a
        "passed_robust_accuracy": (1, 4),  # c
    }


def judged_corpus():
    """Ten clips of `left`, of which four are poisoned, and ten of `no`."""
    rows = pd.DataFrame({"ID": [f"c{i}" for i in range(20)], "label": ["left"] * 10 + ["no"] * 10})
    poison = pd.DataFrame(
        {"split": "train", "label_before": "no", "label_after": "left", "triggered": True},
        index=pd.Index(["c0", "c1", "c2", "c3"], name="ID"),
    )
    return rows, poison


def test_suspecting_by_hand():
    """Poisoned x and y against clean a and b: of four pairs two won, one drawn, one lost."""
    truth = pd.DataFrame({"split": "train"}, index=["x", "y"])
    suspicion = pd.Series({"a": 1.0, "x": 3.0, "b": 2.0, "y": 1.0})
    assert suspecting(suspicion, truth) == {"filter_auc": {"value": 2.5 / 4}}
    assert suspecting(suspicion[["x", "y"]], truth) == {} == suspecting(suspicion[["a"]], truth)
    assert suspecting(suspicion.replace(3.0, np.nan), truth) == {}


def test_separation_is_over_the_target_class():
    rows, poison = judged_corpus()

    def index(removed):
        kept = pd.Index(rows["ID"][~rows["ID"].isin(removed)])
        return metrics.separation(rows, kept, poison)["adjusted_rand_index"]["value"]

    assert index(["c0", "c1", "c2", "c3"]) == 1
    assert index(["c0", "c1", "c2", "c3", "c15"]) == 1  # another class does not count
    assert index(["c4", "c5", "c6", "c7", "c8", "c9"]) == 1  # nor which part is called poison
    assert index([]) == 0 and 0 < index(["c0", "c1", "c2"]) < 1


def test_target_class_among_the_others():
    _, poison = judged_corpus()
    measured = metrics.classes({"left": 2.0, "no": 0.5, "yes": -1.0, "go": 1.5}, poison)
    assert measured["target_class_found"] == {"value": 1.0, "count": 1, "total": 1}
    assert measured["class_auc"]["value"] == 1
    assert measured["class_false_alarms"] == {"value": 1 / 3, "count": 1, "total": 3}
    beaten = metrics.classes({"left": 2.0, "no": 2.5, "yes": -1.0}, poison)
    assert beaten["target_class_found"]["value"] == 0 and beaten["class_auc"]["value"] == 0.5
    tied = metrics.classes({"left": 2.0, "no": 2.0, "yes": 1.0, "go": 3.0}, poison)
    assert tied["class_auc"]["value"] == (0.5 + 1) / 3 and tied["target_class_found"]["value"] == 0
    below = metrics.classes({"left": 0.9, "no": 0.5}, poison)
    assert below["target_class_found"]["value"] == 0 and below["class_auc"]["value"] == 1
    clean = metrics.classes({"left": 2.0, "no": 0.5}, poison[:0])
    assert clean == {"class_false_alarms": {"value": 0.5, "count": 1, "total": 2}}
    unjudged = metrics.classes({"no": 0.5, "yes": 0.1}, poison)
    assert unjudged["target_class_found"]["value"] == 0 and unjudged["class_auc"]["value"] == 0
