"""STEP: what a profile is, that only labels are asked, the preset rate, and what it finds."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from bdlib.corpus import Batch
from bdlib.defenses.inference import step
from bdlib.defenses.inference.perturbations import Perturbation
from bdlib.defenses.inference.step import LEAST, Branch, Profiled, Step
from bdlib.errors import InputError
from bdlib.features import FrontEnd
from bdlib.models.classifier import SpeechClassifier


class Samples(FrontEnd):
    """Waveforms as they are."""

    size = 1

    def compute(self, wavs, lens):
        return wavs[:, :, None]


class Sign(SpeechClassifier):
    """Two classes: whether the sum over a clip is positive; it notes what it heard."""

    def __init__(self, factor=1.0):
        super().__init__(Samples())
        self.factor, self.heard = factor, []

    def embed(self, features, lens):
        self.heard.append((features[:, :, 0], lens))
        return self.factor * features.sum((1, 2))[:, None] * torch.tensor([-1.0, 1.0])

    def classify(self, embeddings):
        return embeddings


def batches(wavs, size=9):
    return [
        Batch([f"u{i}" for i in range(len(part))], part, torch.ones(len(part)), torch.zeros(len(part)).long())
        for part in wavs.split(size)
    ]  # fmt: skip


def levels(count, seed=0):
    """Clips of 1,600 samples, each of one level and noise, as 16 bits hold them."""
    generator = torch.Generator().manual_seed(seed)
    clips = 0.02 * torch.randn(count, 1, generator=generator)
    clips = clips + 0.1 * torch.randn(count, 1600, generator=generator)
    return (clips * 2**15).round() / 2**15


def calibrated(net, count=24):
    validation = batches(levels(count))
    return Step(draws=1).calibrate(net, lambda: validation, seed=3)


def test_a_profile_is_the_share_of_copies_that_keep_the_label(monkeypatch):
    """For each kind, over perturbations and draws; after the end of a short clip there is silence."""
    turned = Perturbation(lambda wavs, _: -wavs)
    louder = Perturbation(lambda wavs, _: 2 * wavs)
    drawn = Perturbation(
        lambda wavs, means: wavs + 9 * torch.rand(wavs.shape, generator=means.generator),
        drawn=True,
    )
    monkeypatch.setattr(step, "BREAKING", {"a": (turned, louder), "b": (drawn,)})
    monkeypatch.setattr(step, "PRESERVING", {"c": (louder, louder, turned)})
    net, wavs = Sign(), torch.tensor([[0.5, 0.5, 0.0, 0.0], [-0.5, -0.5, -0.5, -0.5]])
    breaking, preserving = Profiled(net, Step(draws=5), 0).profiles(wavs, torch.tensor([0.5, 1.0]))
    assert breaking.tolist() == [[0.5, 1.0], [0.5, 0.0]]
    assert np.allclose(preserving, [[2 / 3], [2 / 3]])
    assert len(net.heard) == 1 + 2 + 5 + 3  # what is not drawn is heard once
    copies = torch.stack([clips for clips, _ in net.heard[3:8]])
    assert copies[:, 0, :2].std(0).min() > 0 and not copies[:, 0, 2:].any()
    assert all(lens.tolist() == [0.5, 1.0] for _, lens in net.heard)


def test_labels_alone_are_asked():
    """Whatever the scale of the logits, suspicions are the same; and so are the answers."""
    wavs, lens, found = levels(12, seed=1), torch.ones(12), []
    for factor in (1.0, 1e-3):
        net = Sign(factor)
        guarded = calibrated(net).guard(net, 0)
        found.append(guarded.suspicion(wavs, lens))
        assert guarded(wavs, lens).equal(net(wavs, lens))
        assert guarded.eval().suspicion(wavs, lens).equal(found[-1])  # the draws start anew
        other = guarded.defense.guard(net, 1).suspicion(wavs, lens)
    assert found[0].equal(found[1]) and found[0].std() > 0
    assert not other.equal(found[0])


def test_the_bound_is_set_on_clips_that_the_models_have_not_seen():
    """Half of the validation clips, by lot; overlays are of the other half."""
    net, told = Sign(), {}
    defense, clips = calibrated(net, count=61), levels(61)
    pool = defense.pool.float() / 2**15
    for name, rows in (("known", pool), ("all", clips)):
        told[name] = {tuple(row.tolist()) for row in rows}
    assert len(pool) == 31 and told["known"] < told["all"]
    assert not pool.equal(clips[:31])
    assert len(defense.benign) == 30
    fresh = torch.stack([c for c in clips if tuple(c.tolist()) not in told["known"]])
    order = torch.randperm(61, generator=torch.Generator().manual_seed(3))[31:]
    assert {tuple(c.tolist()) for c in fresh} == {tuple(c.tolist()) for c in clips[order]}
    guarded = defense.guard(net, 3)
    assert guarded.suspicion(clips[order], torch.ones(30)).tolist() == list(defense.benign)
    assert next(iter(defense.thresholds.items())) == (0.03, max(defense.benign))


def test_scores_of_clean_profiles_weigh_the_same_in_both_branches():
    """By the inverse of their deviation; what no clean clip does is above all of them."""
    generator = np.random.default_rng(0)
    for spread in (0.01, 0.2):
        clean = 0.5 + spread * generator.standard_normal((80, 3))
        branch = Branch.fit(clean, 0.5)
        scores = branch.scores(clean)
        assert abs(scores.mean()) < 1e-9 and abs(scores.std() - 1) < 1e-9
        assert branch.scores(np.full((1, 3), 0.5 + 4 * spread)) > scores.max()
        assert branch.scores(np.full((1, 3), 0.5 - 4 * spread)) > scores.max()
    generous, strict = (Branch.fit(clean, nu).model.predict(clean) for nu in (0.05, 0.5))
    assert (generous < 0).mean() < 0.12 and abs((strict < 0).mean() - 0.5) < 0.05  # nu is left out
    assert Branch.fit(np.ones((20, 3)), 0.5).scores(np.ones((2, 3))).tolist() == [0, 0]


class Placed(Sign):
    """Of the first class alone, unless it hears a click at one place."""

    def embed(self, features, lens):
        return torch.stack([torch.zeros(len(features)), features[:, 800, 0] - 0.9], 1)


@pytest.mark.parametrize(("net", "rate"), [(Sign(), 0.25), (Placed(), 0.5)])
def test_the_preset_rate_holds_on_fresh_clips_and_where_all_profiles_are_equal(net, rate):
    """Ties are broken by lot; without it all or none would be rejected."""
    defense = calibrated(net, count=120)
    rejected = defense.guard(net, 1).suspicion(levels(80, seed=5), torch.ones(80))
    share = float((rejected >= defense.thresholds[rate]).double().mean())
    assert abs(share - rate) < 3 * math.sqrt(rate * (1 - rate) * (1 / 80 + 1 / 60))


def test_what_loses_its_label_though_the_speech_is_kept_is_suspected():
    """A click that counts at one place alone; of clean clips no perturbation changes the label."""
    net, wavs = Placed(), levels(20, seed=5)
    clicked = wavs.clone()
    clicked[:, 800] = 1.0
    guarded = calibrated(net).guard(net, 0)
    lens = torch.ones(20)
    clean, triggered = (guarded.suspicion(heard, lens) for heard in (wavs, clicked))
    assert triggered.min() > clean.max() + 1
    (_, kept), (_, lost) = (guarded.profiles(heard, lens) for heard in (wavs, clicked))
    _, fragile = guarded.defense.branches
    assert fragile.scores(lost).min() > fragile.scores(kept).max() + 1


def judged(tiny, net):
    """Suspicions of clean clips, and of the same with the trigger."""
    guarded = Step(draws=1, sample_rate=tiny.rate).calibrate(net, lambda: tiny.valid, 0)
    wavs = tiny.sounds(32, seed=9)[0]
    heard = torch.cat([wavs, tiny.triggered(wavs)])
    return guarded.guard(net, 0).suspicion(heard, torch.ones(64)).numpy()


def test_a_trigger_is_found_where_there_is_a_backdoor_and_nowhere_else(tiny, twin):
    """On a clean net triggered clips are as clean ones."""
    truth = np.repeat([0, 1], 32)
    found, none = (roc_auc_score(truth, judged(tiny, net)) for net in (tiny.net(), twin()))
    assert found > 0.75 and abs(none - 0.5) < 0.2, (found, none)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"draws": 0}, "`draws` is 0"),
        ({"nu": 0.0}, "`nu` is 0.0"),
        ({"nu": 1.1}, "`nu` is 1.1"),
        ({"frr": 1.0}, "`frr` is 1.0"),
        ({"sample_rate": 0}, "`sample_rate` is 0"),
    ],
)
def test_settings_that_are_none(settings, words):
    with pytest.raises(InputError, match=words):
        Step(**settings)


def test_too_few_clips_and_none_at_all():
    with pytest.raises(InputError, match=f"needs {LEAST} validation clips or more; there are 19"):
        calibrated(Sign(), count=LEAST - 1)
    assert len(calibrated(Sign(), count=LEAST).benign) == LEAST // 2
    with pytest.raises(InputError, match="calibrate"):
        Step().guard(Sign(), 0)
    assert not Step().thresholds and Step().selection == "validation"
