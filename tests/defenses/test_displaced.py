"""Clips of other classes moved by one vector, a little and far, in embeddings drawn here."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bdlib.attacks.insert import Insert
from bdlib.attacks.sounds import Clap
from bdlib.defenses.crowded import FAR, LOWER, STRICT, Crowds, apart, core
from bdlib.defenses.disagreement import judge
from bdlib.defenses.displaced import DOUBT, Space
from bdlib.defenses.filters import displaced_clips, label_disagreement
from bdlib.defenses.filters.displaced_clips import DisplacedClips
from bdlib.defenses.snippets import Snippet
from bdlib.errors import InputError

CLASSES, EACH, SIZE = 12, 40, 48  # of `poured`


def removed(rows, given, first="c00", **settings):
    """What the filter flags, and its score of every class; the first one may have another name."""
    names = np.array([f"c{number:02}" if number else first for number in given])
    judged = judge(rows, names)
    defense = DisplacedClips(**settings)
    defense.class_scores = dict.fromkeys(judged.classes, 0.0)
    return judged.flagged(0.01) | defense.displaced(rows, judged), defense.class_scores, judged


def test_most_of_a_class_is_poison_that_the_labels_do_not_tell(poured):
    """100 of 140 clips: learned from, the poison is its own neighbour; by the middles it is not."""
    rows, given, poison = poured(poisoned=100, move=6.0)
    flags, scores, judged = removed(rows, given)
    assert (flags & poison).sum() >= 98 and (flags & ~poison).sum() <= 6
    assert not judged.called
    assert [name for name, score in scores.items() if score > 1] == ["c00"]


def test_the_move_tells_clips_that_lie_apart(poured):
    """Of the same clips: what the middles alone leave, as the move is not known to them."""
    rows, given, poison = poured(poisoned=100, move=6.0)
    space = Space(rows, given, CLASSES)
    own = poison[given == 0]
    still, moved = space.margins()[given == 0] > DOUBT, space.moved(0)
    assert (still & own).sum() <= (moved & own).sum() - 30


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_corpus_loses_nothing(poured, seed):
    rows, given, _ = poured(poisoned=0, move=0.0, seed=seed)
    flags, scores, judged = removed(rows, given)
    assert not judged.called and not flags.any() and max(scores.values()) <= 1


def test_margins_are_those_of_the_definition(poured):
    """By hand, in the space: own middle without the clip, the nearest other one, sqrt(2 D)."""
    rows, given, _ = poured(poisoned=0, move=0.0)
    space = Space(rows, given, CLASSES)
    clip = int(np.flatnonzero(given == 3)[7])
    point, own = space.points[clip], space.points[given == 3]
    alone = (own.sum(0) - point) / (len(own) - 1)
    others = [space.points[given == c].mean(0) for c in range(CLASSES) if c != 3]
    nearest = min(((point - middle) ** 2).sum() for middle in others)
    expected = (((point - alone) ** 2).sum() - nearest) / np.sqrt(2 * SIZE)
    assert space.margins()[clip] == pytest.approx(expected)
    spread = np.cov((space.points - space.middles[given]).T, bias=True)
    lengths = np.linalg.eigvalsh(spread)
    assert lengths.min() > 0.3 and lengths.max() < 2  # of the axes given, one is 100 times another


def test_a_class_keeps_a_tenth_of_its_clips(poured):
    """Even where all of it is another's: a filter that empties a class leaves nothing to train."""
    rows, given, _ = poured(poisoned=0, move=0.0)
    rows[given == 0] = rows[given == 5] + 0.01 * rows[given == 6]
    assert Space(rows, given, CLASSES).moved(0, line=-9.0).sum() <= EACH - EACH // 10


def test_settings():
    assert DisplacedClips(line=-0.2) == DisplacedClips()
    for settings in ({"line": float("nan")}, {"line": 11}, {"encoder": "music"}):
        with pytest.raises(InputError):
            DisplacedClips(**settings)


def test_many_classes_moved_far_are_a_crowd(poured):
    """Near no class any more, so that neither labels nor middles call the class: its spread does."""
    rows, given, poison = poured(poisoned=100, move=30.0)
    (found,) = Crowds(rows, given, CLASSES).find().items()
    number, (spread, outside) = found
    own = poison[given == 0]
    assert number == 0 and spread > 1
    assert (outside & own).sum() >= 98 and (outside & ~own).sum() <= 8
    flags, scores, judged = removed(rows, given)
    assert not judged.called and (flags & poison).sum() >= 98
    assert [name for name, score in scores.items() if score > 1] == ["c00"]


@pytest.mark.parametrize("seed", range(3))
def test_no_class_of_a_clean_corpus_is_a_crowd(poured, seed):
    rows, given, _ = poured(poisoned=0, move=0.0, seed=seed)
    assert Crowds(rows, given, CLASSES).find() == {}


@pytest.mark.parametrize("shrunk", [0.2, 0.4])
def test_poison_that_a_trigger_drowned_is_no_core(poured, shrunk):
    """It lies closer together than clips of a class do, and is more than half of its class."""
    rows, given, poison = poured(poisoned=100, move=30.0, shrunk=shrunk)
    for _, outside in Crowds(rows, given, CLASSES).find().values():
        assert (outside & ~poison[given == 0]).sum() <= 8


@pytest.mark.parametrize("seed", range(3))
def test_clean_oddities_are_no_crowds(poured, seed):
    """A class that is wider than others, broken clips, classes of one clip, columns of one class alone."""
    rows, given, _ = poured(poisoned=0, move=0.0, seed=seed)
    wide = rows.copy()
    wide[given == 4] = rows[given == 4].mean(0) + 1.6 * (
        rows[given == 4] - rows[given == 4].mean(0)
    )
    assert Crowds(wide, given, CLASSES).find() == {}
    broken = rows.copy()
    broken[:3] *= 40
    assert Crowds(broken, given, CLASSES).find() == {}
    few = np.concatenate([np.flatnonzero(given < 9), np.flatnonzero(given >= 9)[::7]])
    single = np.where(given[few] < 9, given[few], 9 + np.cumsum(given[few] >= 9) - 1)
    assert Crowds(rows[few], single, single.max() + 1).find() == {}
    dead = rows.copy()
    dead[:, 8:] = 0
    dead[given == 0, 40:] = np.abs(rows[given == 0, 40:])
    assert Crowds(dead, given, CLASSES).find() == {}


def test_few_classes_do_not_tell_what_is_usual(poured):
    rows, given, _ = poured(poisoned=100, move=30.0)
    few = np.isin(given, range(7))
    assert Crowds(rows[few], given[few], 7).find() == {}


def test_spread_is_along_the_ways_between_others_alone(poured):
    """Three deviations along them are nine times the variance; three across them change nothing."""
    rows, given, _ = poured(poisoned=0, move=0.0)
    crowds, own = Crowds(rows, given, CLASSES), given == 0
    before = crowds.spread(0)
    whiten = crowds._whiten(0)
    middles = crowds.middles[1:] @ whiten
    _, _, ways = np.linalg.svd(middles - middles.mean(0))
    as_it_was = crowds.rest[own].copy()
    for some, expected in ((ways[: CLASSES - 2], 9), (ways[CLASSES - 2 :], 1)):
        points = as_it_was @ whiten
        crowds.rest[own] = (points + 2 * points @ some.T @ some) @ np.linalg.inv(whiten)
        crowds.scatter = crowds.rest.T @ crowds.rest
        assert crowds.spread(0) == pytest.approx(expected * before)


def test_the_first_sign_alone_calls_and_both_take_more(poured):
    """Seven classes have no crowds; where both signs call, clips go that one would leave."""
    rows, given, poison = poured(poisoned=100, move=6.0)
    few = (given < 7) & (np.arange(len(given)) // EACH < 7)
    flags, _, _ = removed(rows[few], given[few])
    assert (flags & poison[few]).sum() >= 0.9 * poison[few].sum()
    assert (flags & ~poison[few]).sum() <= 4
    space = Space(rows, given, CLASSES)
    both, _, _ = removed(rows, given, line=3.0)
    lower = space.moved(0, 3.0 - LOWER)
    assert both[given == 0][lower].all() and lower.sum() > space.moved(0, 3.0).sum()


def test_where_both_signs_call_the_core_of_what_is_left_stays(poured):
    """Here the line leaves a tenth of the poison, which lies outside of it."""
    rows, given, poison = poured(poisoned=100, move=6.0)
    left = ~Space(rows, given, CLASSES).moved(0, 2.0)
    assert (left & poison[given == 0]).sum() >= 8
    flags, _, _ = removed(rows, given, line=2.0 + LOWER)
    assert (~flags & poison).sum() <= 1 and (flags & ~poison).sum() <= 6


def test_a_core_is_one_of_the_clips_that_are_asked(poured):
    """15 of 40 clips, all moved alike, are the core of the class; without them it is in the rest."""
    rows, given, _ = poured(poisoned=0, move=0.0)
    moved = np.arange(EACH) < 15
    rows[np.flatnonzero(given == 0)[moved], 0] += 30 * rows[:, 0].std()
    crowds = Crowds(rows, given, CLASSES)
    assert (crowds.core(0) & ~moved).sum() == 0
    rest = crowds.core(0, among=~moved)
    assert (rest & ~moved).sum() >= 20 and (rest & moved).sum() == 0


def test_apart_is_what_lies_outside_of_the_core_of_what_the_lower_line_leaves():
    aliens, inside, asked = np.array([True, False, False]), np.array([False, False, True]), []
    space = SimpleNamespace(moved=lambda *given: asked.append(given) or aliens)
    crowds = SimpleNamespace(core=lambda *given: asked.append(given) or inside)
    assert (apart(space, crowds, 7, line=1.0) == ~inside).all()
    assert asked[0] == (7, 1.0 - LOWER) and LOWER > 0
    assert asked[1][0] == 7 and (asked[1][1] == ~aliens).all()


def test_the_filter_drops_what_lies_apart_where_both_signs_call(poured, monkeypatch):
    rows, given, _ = poured(poisoned=100, move=6.0)
    asked, drawn = [], np.arange((given == 0).sum()) % 7 == 0
    monkeypatch.setattr(displaced_clips, "apart", lambda *told: asked.append(told) or drawn)
    flags, _, _ = removed(rows, given, line=1.5)
    assert (flags[given == 0] == drawn).all() and not flags[given != 0].any()
    assert [told[2:] for told in asked] == [(0, 1.5)]


def test_no_class_is_emptied(poured, monkeypatch):
    monkeypatch.setattr(label_disagreement, "embedded", lambda view, encoder: view.heard)
    rows, given, _ = poured(poisoned=0, move=0.0)
    monkeypatch.setattr(DisplacedClips, "flagged", lambda self, view, heard, judged: given == 3)
    table = pd.DataFrame({"ID": np.arange(len(given)).astype(str), "label": given.astype(str)})
    defense = DisplacedClips()
    kept = defense.keep(defense.scores(SimpleNamespace(rows=table, heard=rows, seed=0)))
    assert (given[np.array(kept, int)] == 3).sum() == EACH // 10


def test_the_core_is_where_clips_lie_close_and_not_where_most_are():
    """20 clips of unit spread among 60 of six times that, about another place."""
    draws = np.random.Generator(np.random.PCG64(0))
    tight, wide = draws.standard_normal((20, 16)), 4 + 6 * draws.standard_normal((60, 16))
    usual = (draws.standard_normal((500, 16)) ** 2).sum(1)
    inside = core(np.concatenate([wide, tight]), usual)
    assert inside[60:].sum() >= 18 and inside[:60].sum() == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_core_does_not_wander_to_the_poison(seed):
    """40 clips of unit spread, and 100 of a little more about a place that is within reach of some."""
    draws = np.random.Generator(np.random.PCG64(seed))
    own, poison = draws.standard_normal((40, 48)), 1.2 * draws.standard_normal((100, 48))
    poison[:, 0] += 5
    points, usual = np.concatenate([own, poison]), (draws.standard_normal((900, 48)) ** 2).sum(1)
    wide, strict = (core(points, usual, far) for far in (FAR, STRICT))
    assert wide[:40].sum() >= 39 and wide[40:].sum() <= 20
    assert strict[:40].sum() >= 34 and strict[40:].sum() <= 8
    assert (wide | ~strict).all()


def test_a_core_holds_about_the_share_that_is_asked_for(poured):
    rows, given, _ = poured(poisoned=0, move=0.0)
    half, most = (
        np.mean([Crowds(rows, given, CLASSES, far).core(n).mean() for n in range(CLASSES)])
        for far in (0.5, STRICT)
    )
    assert 0.3 < half < 0.7 and 0.85 < most < 1


def test_the_filter_would_rather_lose_clips_than_keep_poison(poured, monkeypatch):
    asked = []
    monkeypatch.setattr(displaced_clips, "Crowds", lambda *of: asked.append(of) or Crowds(*of))
    removed(*poured(poisoned=100, move=30.0)[:2])
    assert [of[3] for of in asked] == [STRICT] and STRICT < FAR


def test_a_class_named_in_underscores_holds_several_by_intention(poured):
    rows, given, _ = poured(poisoned=100, move=30.0)
    flags, _, _ = removed(rows, given, first="_c00_")
    assert not flags.any()


@pytest.fixture
def clap_in_a_class(spoken):
    """A function: a view of 30 clips a class, fifteen of the first with a clap, and its judgement."""

    def made(first="go"):
        labels = np.repeat([first, "left", "no"], 30)
        words = ["go" if label == first else label for label in labels]
        waves = {f"{n}": spoken(word, n) for n, word in enumerate(words)}
        clap = Insert(Clap(), 0.1)
        waves |= {f"{n}": clap(waves[f"{n}"], 16000, None) for n in range(15)}
        rows = pd.DataFrame({"ID": list(waves), "label": labels})
        pack = SimpleNamespace(waveform=waves.__getitem__, rate=16000)
        classes, given = np.unique(labels, return_inverse=True)
        judged = SimpleNamespace(classes=tuple(classes), given=given, score=np.zeros(90))
        return SimpleNamespace(rows=rows, pack=pack, seed=0), judged

    return made


def repeated(view, judged, scores=0.0):
    defense = DisplacedClips()
    defense.class_scores = dict.fromkeys(judged.classes, scores)
    return np.flatnonzero(defense.repeated(view, judged)).tolist(), defense.class_scores


def test_clips_that_share_a_sound_go(clap_in_a_class):
    gone, scores = repeated(*clap_in_a_class())
    assert gone == list(range(15))
    assert [name for name, score in scores.items() if score > 1] == ["go"]


@pytest.mark.parametrize(("suspects", "gone"), [(False, [3, 4]), (True, [3, 4, 7, 20])])
def test_with_a_sound_of_suspects_all_that_sounds_like_another_class_goes(
    suspects, gone, clap_in_a_class, monkeypatch
):
    view, judged = clap_in_a_class()
    judged.score[[3, 7, 20, 21, 40]] = 0.2, 0.2, 0.11, 0.09, 0.9
    sound = Snippet("go", np.array([3, 4]), np.ones(2), 0.0, 0.1, suspects=suspects)
    monkeypatch.setattr(displaced_clips, "shared_sounds", lambda *asked: [sound])
    assert repeated(view, judged)[0] == gone


def test_a_class_that_is_called_is_not_asked_for_shared_sounds(clap_in_a_class):
    gone, scores = repeated(*clap_in_a_class(), scores=1.2)
    assert gone == [] and set(scores.values()) == {1.2}


def test_nor_is_one_in_underscores(clap_in_a_class):
    assert repeated(*clap_in_a_class("_silence_"))[0] == []


def test_the_filter_asks_for_shared_sounds(clap_in_a_class, monkeypatch):
    """And of clips without any, it flags none."""
    monkeypatch.setattr(label_disagreement, "embedded", lambda view, name: embeddings)
    draws = np.random.Generator(np.random.PCG64(0))
    view, judged = clap_in_a_class()
    embeddings = (4 * np.eye(3, 48)[judged.given] + draws.standard_normal((90, 48))).astype("f4")
    told = DisplacedClips().scores(view)
    assert sorted(map(int, told.keys() - set(DisplacedClips().keep(told)))) == list(range(15))
    clean = DisplacedClips(encoder="words")
    view.rows = view.rows.iloc[15:].reset_index(drop=True)
    embeddings = embeddings[15:]
    assert len(clean.keep(clean.scores(view))) == 75


def test_shared_sounds_are_looked_for_at_the_rate_of_the_search(clap_in_a_class, monkeypatch):
    view, judged = clap_in_a_class()
    view.pack.rate, asked = 8000, []
    monkeypatch.setattr(
        displaced_clips,
        "shared_sounds",
        lambda read, labels, seconds, *rest: asked.append((len(read(0)), seconds[0])) or [],
    )
    assert repeated(view, judged)[0] == []
    assert asked == [(32000, 2.0)]
