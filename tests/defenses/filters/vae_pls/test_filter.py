"""VAE-PLS as a filter: what it removes, what it keeps, and where it finds its autoencoder again."""

import dataclasses
from functools import partial

import numpy as np
import pandas as pd
import pytest
from torch import nn

from bdlib.defenses.base import BlindView, CleanData
from bdlib.defenses.filters.vae_pls.filter import VaePls, outlyingness, threshold
from bdlib.defenses.filters.vae_pls.judge import judge_all, poison_likelihood
from bdlib.defenses.filters.vae_pls.search import two_populations
from bdlib.errors import InputError
from bdlib.pack import Pack
from bdlib.stages.document import common
from bdlib.training.autoencoder import AutoencoderSettings

TINY = AutoencoderSettings(
    n_mels=16, window=512, hop=512, f_dim=8, z_dim=2, conv_dim=8, hidden=8, channels=4,
    steps=200, batch_size=16, lr=0.01, fitted_output=True,
)  # fmt: skip
SEARCH = {"least_spread": 0.25, "spectrum": True}  # 4 classes tell less of their spread than 11
RATE, CLASSES = 8000, ("a", "b", "c", "d")
POISONED = 15


def view(tmp_path, poisoned=POISONED, count=40):
    """Noisy tones of four heights; some of `d` are labelled `b` and whistle at the end."""
    generator, clips, labels = np.random.default_rng(0), [], []
    time = np.arange(RATE // 2) / RATE
    for label, hertz in zip(CLASSES, (300, 600, 1000, 1500), strict=True):
        for number in range(count):
            clip = 0.2 * np.sin(2 * np.pi * hertz * generator.normal(1, 0.05) * time)
            clip += 0.02 * generator.standard_normal(len(time))
            altered = label == "d" and number < poisoned
            if altered:
                clip[-1500:] += 0.3 * np.sin(2 * np.pi * 3200 * time[-1500:])
            clips.append(clip)
            labels.append("b" if altered else label)
    ids = [f"u{i}" for i in range(len(clips))]
    samples = (np.concatenate(clips) * 32767).astype(np.int16)
    pack = Pack(samples, np.arange(len(ids) + 1) * len(time), ids, RATE, [], "digest")
    rows = pd.DataFrame({"ID": ids, "duration": 0.5, "label": labels})
    poison = set(ids[3 * count : 3 * count + poisoned])
    options = {"device": "cpu", "noprogressbar": True}

    def train(chosen):
        net = nn.Identity()
        net.rows = chosen
        return net

    made = BlindView(rows, pack, CLASSES, 0, train, list, lambda share: CleanData(None, list, 0, 0),
                     None, tmp_path, options)  # fmt: skip
    return made, poison


def test_removes_the_poison_and_keeps_the_rest(tmp_path, capsys):
    untrusted, poison = view(tmp_path)
    defense = VaePls(TINY, two_populations, **SEARCH)
    scores = defense.scores(untrusted)
    removed = set(untrusted.rows["ID"]) - set(defense.keep(scores))
    assert "called poisoned: b\n" in capsys.readouterr().out
    assert len(removed & poison) >= 0.9 * len(poison) and len(removed - poison) <= 3
    assert defense.class_scores["b"] > 1
    assert all(score <= 1 for name, score in defense.class_scores.items() if name != "b")
    assert all(0 <= score <= 1 for score in scores.values())
    assert min(scores[name] for name in removed) > 0.75
    again = VaePls(TINY, two_populations, **SEARCH)
    assert again.scores(untrusted) == scores
    assert "stands: " in capsys.readouterr().out


def test_an_autoencoder_that_has_not_learned_gives_no_verdict(tmp_path, capsys):
    """One step from scale and shift 1, where a clip is rebuilt worse than by the mean of all."""
    untrusted, _ = view(tmp_path)
    settings = dataclasses.replace(TINY, steps=1, fitted_output=False, lr=0.001)
    defense = VaePls(settings, two_populations, **SEARCH)
    _, error = defense.latents(untrusted)
    assert error > 1
    assert len(defense.keep(defense.scores(untrusted))) == len(untrusted.rows)
    said = capsys.readouterr().out
    assert f"warning: no verdict: the autoencoder rebuilds clips with {error:.2f} times" in said
    assert "called poisoned" not in said and defense.class_scores is None
    defense = VaePls(settings, two_populations, most_error=error + 1, **SEARCH)
    defense.scores(untrusted)
    assert "called poisoned" in capsys.readouterr().out and defense.class_scores


def test_a_clean_corpus_is_left_alone(tmp_path, capsys):
    untrusted, _ = view(tmp_path, poisoned=0)
    defense = VaePls(TINY, two_populations, **SEARCH)
    assert len(defense.keep(defense.scores(untrusted))) == len(untrusted.rows)
    assert "called poisoned: no class" in capsys.readouterr().out


def test_classes_left_out_and_small_ones_are_kept(tmp_path, capsys):
    untrusted, _ = view(tmp_path)
    latents, labels = np.random.default_rng(1).normal(size=(160, 8)), untrusted.rows["label"]
    defense = VaePls(TINY, poison_likelihood, left_out=("a",))
    defense.latents = lambda view: (latents, 0.5)
    with pytest.raises(InputError, match="2 classes with at least 30"):
        defense.scores(untrusted)  # d has 25
    defense = VaePls(TINY, poison_likelihood)
    defense.latents = lambda view: (latents, 0.5)
    scores = defense.scores(untrusted)
    assert {scores[name] for name in untrusted.rows["ID"][labels == "d"]} == {0.0}
    assert "too few clips to judge d" in capsys.readouterr().out
    defense.latents = lambda view: (latents * np.nan, 0.5)
    with pytest.raises(InputError, match="160 of 160 latents are not finite"):
        defense.scores(untrusted)


@pytest.mark.parametrize("poison", ["smaller", "stranger", "small_or_strange"])
def test_which_cluster_goes(tmp_path, poison):
    """Forty trigger-free clips beside sixty with it: the smaller part is the clean one."""
    generator = np.random.default_rng(2)
    labels = np.repeat(["a", "b", "c"], [100, 100, 100])
    latents = generator.normal(size=(300, 3))
    latents[100:160, 0] += 14
    judged = VaePls(TINY, partial(poison_likelihood, components=2), poison).judged(
        latents, labels, 0
    )
    suspected = judged.suspicion["b"] > 0.5
    expected = np.arange(100) < 60 if "strange" in poison else np.arange(100) >= 60
    assert (suspected == expected).mean() > 0.9


def test_yaml_and_options(tmp_path):
    with pytest.raises(InputError, match="`poison` is both: give smaller or stranger or small_or"):
        VaePls(TINY, poison_likelihood, "both")
    with pytest.raises(InputError, match="`selection` is good: give fixed or"):
        VaePls(TINY, poison_likelihood, selection="good")
    document = common("defenses", "vae_pls")
    document.place("components", 12)
    document.place("conv_channels", 16)
    built = document.build()["defense"]
    assert built.judge.keywords["components"] == 12 and built.autoencoder.channels == 16
    paper = {"f_dim": 64, "z_dim": 24, "conv_dim": 256, "hidden": 128, "lr": 0.001}
    assert all(getattr(built.autoencoder, name) == value for name, value in paper.items())
    assert common("defenses", "vae_pls_search").build()["defense"].judge.func is two_populations


# --- the rule


def test_false_alarms_on_clean_corpora(corpus):
    """No more than the stated share of clean corpora, give or take what a dozen draws allow.

    Not of the score as printed, whose mean a few odd clips rule.
    """
    alarms = {}
    for judge, spread in ((partial(poison_likelihood, robust=True), 0.0), (two_populations, 0.15)):
        alarms[judge] = 0
        for seed in range(12):
            latents, labels, _ = corpus(seed + 100, size=60, dimensions=12)
            verdicts = judge_all(latents, labels, judge=judge)
            outliers = outlyingness({name: v.score for name, v in verdicts.items()}, spread)
            alarms[judge] += max(outliers.values()) > threshold(len(outliers), 0.05)
    assert max(alarms.values()) <= 2


def test_the_threshold_keeps_its_promise():
    scores = np.random.default_rng(5).standard_normal((3000, 11))
    limit = threshold(11, 0.05)
    alarms = [
        max(outlyingness(dict(zip(range(11), row, strict=True))).values()) > limit for row in scores
    ]
    assert 0.035 < np.mean(alarms) < 0.065
    assert threshold(11, 0.2) < limit < threshold(5, 0.05)
    with pytest.raises(InputError, match="`false_alarms` is 0"):
        threshold(11, 0)


def test_the_threshold_falls_with_the_share_and_with_two_classes_more():
    limits = [threshold(11, share) for share in (0.001, 0.01, 0.05, 0.2, 0.5, 1)]
    assert limits == sorted(limits, reverse=True)
    for first in (
        3,
        4,
    ):  # odd and even numbers of classes apart; at 15 chance is as large as the step
        limits = [threshold(classes, 0.05) for classes in range(first, 15, 2)]
        assert limits == sorted(limits, reverse=True)


def test_outlyingness_by_hand():
    outliers = outlyingness({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 13.0})
    assert np.isclose(outliers["e"], 10 / 1.4826) and outliers["c"] == 0
    assert outlyingness({"a": 1.0, "b": 1.0, "c": 2.0}, 0.5)["c"] == 2
