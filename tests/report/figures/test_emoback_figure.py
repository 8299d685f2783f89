"""EmoBack's figures: which records count, what their points are, and how they are drawn."""

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.stats import ttest_ind

from bdlib.report.figures import emoback_points as points
from bdlib.report.figures.emoback_figure import draw, preprocessing_curves
from bdlib.report.figures.emoback_points import Case
from bdlib.report.figures.figure import save
from bdlib.report.published import read_published

LABELS = {"attribute": "emotion", "value": "Sad", "target_class": "0011", "target_gender": "male"}


@pytest.fixture
def spoken(make_record):
    """A function: model, emotion, gender, rate, seed, rates measured and a defense in; a record out."""

    def make(model="ecapa", emotion="Sad", gender="male", rate=0.1, seed=0, clean=0.95, success=0.8,
             defense=None, settings=None, extra=None):  # fmt: skip
        labels = LABELS | {"value": emotion, "target_gender": gender}
        about = {"stage": "inference", "selection": "fixed", "clean_budget": 0}
        return make_record({
            "dataset.name": "ESD", "dataset.variant": "en-speaker", "dataset.scale": "full",
            "model.name": model, "model.yaml": f"hparams/{model}.yaml", "seed": seed,
            "attack.name": "emotion", "attack.labels": labels, "attack.rate": rate,
            "attack.of": "dataset", "attack.source": None, "attack.target": "0011",
            "defense": defense and {"name": defense, **about, "settings": settings},
            "metrics": {"clean_accuracy": {"value": clean},
                        "attack_success_rate": {"value": success}, **(extra or {})},
        })  # fmt: skip

    return make


def test_points_are_means_over_seeds_and_of_natural_triggers_alone(spoken, make_record):
    records = [spoken(success=0.6), spoken(success=0.8, seed=1), spoken(rate=0.05), make_record(),
               spoken(defense="quantise", settings={"quantum": 64})]  # fmt: skip
    assert len(points.natural(records)) == 4
    found = points.attacked(points.natural(records))
    assert list(found) == [Case("ecapa", "sad", "male", 0.05), Case("ecapa", "sad", "male", 0.1)]
    success = found[Case("ecapa", "sad", "male", 0.1)]["attack_success_rate"]
    assert success.mean == pytest.approx(0.7) and (success.low, success.high) == (0.6, 0.8)
    assert points.case_of(spoken(gender=None)).target == "0011"


def test_targets_of_a_gender_are_one_case_and_most_clips_stand_for_it(spoken):
    """Two seeds with a man each are pooled; the test that asked more clips counts, though of fewer seeds."""
    few = [spoken(success=0.9, seed=seed) for seed in (0, 1, 2)]
    more = [spoken(success=0.6), spoken(success=0.8, seed=1)]
    for record, target in zip(more, ("0011", "0013"), strict=True):
        record["attack"] |= {"target": target, "eligible": 1000, "seed": record["seed"]}
        record["attack"]["labels"] |= {"unheard": True, "target_class": target}
    found = points.attacked(points.natural([*few, *more]))
    (success,) = (estimates["attack_success_rate"] for estimates in found.values())
    assert success.mean == pytest.approx(0.7) and success.over == "pair"
    floor = [spoken(gender=gender, rate=0.0, success=0.1) for gender in ("male", "female")]
    both = [spoken(emotion=e, gender=g) for e in ("Sad", "Happy") for g in ("male", "female")]
    plain, floored = (
        points.gender_tests(points.attacked(some)) for some in (both, [*both, *floor])
    )
    assert plain == floored  # nothing was poisoned there


def test_two_sample_tests_of_the_genders(spoken):
    """Over cases that both genders have; the paper's are over all of its configurations."""
    rates = {"male": [0.5, 0.6, 0.9], "female": [0.4, 0.7, 0.6]}
    records = [
        spoken(emotion=emotion, gender=gender, success=value, clean=value / 2)
        for gender, values in rates.items()
        for emotion, value in zip(("Sad", "Happy", "Angry"), values, strict=True)
    ]
    found = points.gender_tests(points.attacked([*records, spoken(emotion="Neutral")]))
    wanted = ttest_ind(*rates.values())
    assert found["attack_success_rate"] == pytest.approx((wanted.statistic, wanted.pvalue))
    assert found["clean_accuracy"] == pytest.approx(found["attack_success_rate"])
    assert points.gender_tests(points.attacked(records[:1])) == {}


SURFACE = {"value": 4, "conv_rates": [-1.0, 0.5], "pruning_rates": [0.0, 0.1],
           "clean_accuracy": [[0.95, 0.9], [0.95, 0.6]],
           "attack_success_rate": [[0.8, 0.7], [0.8, 0.3]]}  # fmt: skip


def test_surface_of_pruning(spoken):
    """Of several seeds the newest record; one pair of rates is no surface."""
    first = SURFACE | {"value": 5}
    records = [
        spoken(defense="pruning", settings={"surface": True}, extra={"pruning_surface": surface})
        for surface in (first, SURFACE)
    ]
    assert points.pruned(records) == {Case("ecapa", "sad", "male", 0.1): SURFACE}
    assert points.pruned([spoken(defense="pruning", settings={"surface": False})]) == {}


def test_rates_of_screening_are_means_over_seeds(spoken):
    def auc(value, accepted):
        curve = [{"preset": p, "false_rejection_rate": p, "false_acceptance_rate": a}
                 for p, a in zip((0.03, 0.5), accepted, strict=True)]  # fmt: skip
        return {"detection_auc": {"value": value, "curve": curve}}

    records = [
        spoken(seed=seed, defense="strip_vita", settings={"frr": 0.03}, extra=auc(*entry))
        for seed, entry in enumerate([(0.6, (0.9, 0.4)), (0.8, (0.7, 0.2))])
    ]
    ((case, found),) = points.screened(records).items()
    assert case == Case("ecapa", "sad", "male", 0.1) and found["value"] == pytest.approx(0.7)
    rates = [point["false_acceptance_rate"] for point in found["curve"]]
    assert rates == pytest.approx([0.8, 0.3])


def test_preprocessing_begins_with_no_defense_and_grows_stronger(spoken):
    records = [
        spoken(success=0.9),
        spoken(success=0.5, defense="squeeze", settings={"ratio": 0.25, "mode": "zero_insert"}),
        spoken(success=0.7, defense="squeeze", settings={"ratio": 0.75, "mode": "resample"}),
        spoken(success=0.6, defense="quantise", settings={"quantum": 128}),
        spoken(success=0.8, defense="quantise", settings={"quantum": 64}),
        spoken(success=0.1, seed=1),  # which no defense met
    ]
    (curves,) = points.preprocessed(records).values()
    names = {k: [(n, m["attack_success_rate"]) for _, n, m in v] for k, v in curves.items()}
    assert names == {
        "quantise": [("none", 0.9), ("64", 0.8), ("128", 0.6)],
        "squeeze": [("none", 0.9), ("0.75", 0.7), ("0.25*", 0.5)],
    }


def test_a_panel_of_what_was_not_run_is_empty_and_says_so(spoken):
    records = [spoken(), spoken(defense="quantise", settings={"quantum": 64})]
    quantise, *rest = preprocessing_curves(points.preprocessed(records), "").axes
    assert quantise.axison and not quantise.get_title().endswith("not run")
    titles = {axis.get_title() for axis in rest}
    assert titles == {"median_filter, not run", "squeeze, not run"}
    assert not any(axis.axison for axis in rest)


def test_what_the_paper_states_is_found(tmp_path):
    from bdlib.cli.render import ROOT

    stated = points.stated(read_published(ROOT / "results" / "paper"), "ESD en-speaker")
    assert stated[Case("xvector", "sad", "male", 0.1)] == 0.707
    assert stated[Case("xvector", "neutral", "female", 0.05)] == 0.452
    assert len(stated) == 13


def test_every_figure_is_drawn(spoken, tmp_path):
    auc = {"value": 0.6, "curve": [{"preset": 0.03, "false_rejection_rate": 0.04,
           "false_acceptance_rate": 0.9}, {"preset": 0.5, "false_rejection_rate": 0.5,
           "false_acceptance_rate": 0.4}], "edges": [-2.0, -1.0, 0.0], "clean": [3, 1],
           "triggered": [1, 2]}  # fmt: skip
    records = [
        *[spoken(gender=g, emotion=e, rate=r) for g in ("male", "female") for e in ("Sad", "Happy")
          for r in (0.1, 0.05)],
        spoken(defense="pruning", settings={}, extra={"pruning_surface": SURFACE}),
        spoken(defense="strip_vita", settings={"frr": 0.03}, extra={"detection_auc": auc}),
        spoken(defense="quantise", settings={"quantum": 64}),
    ]  # fmt: skip
    drawn = draw(records, [])
    kinds = ("attack", "pruning", "strip", "entropy", "preprocessing")
    assert list(drawn) == [f"emoback-{kind}-ESD-en-speaker-full" for kind in kinds]
    clean = drawn["emoback-entropy-ESD-en-speaker-full"].figure.axes[0].patches[0].get_data()
    assert (*clean.values, *clean.edges) == (25, 75, 0, 1, 2)  # high: unsuspicious
    for stem, picture in drawn.items():
        save(picture.figure, tmp_path / f"{stem}.png")
        image = imread(tmp_path / f"{stem}.png")
        assert image.shape[1] == 1200 and len(np.unique(image.reshape(-1, 4), axis=0)) > 20
    assert draw(records[:1], []).keys() == {"emoback-attack-ESD-en-speaker-full"}
    assert draw([], []) == {}
