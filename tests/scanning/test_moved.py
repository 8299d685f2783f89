"""What a scan says of clips that a trigger moved, on embeddings drawn here."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bdlib.defenses.disagreement import judge
from bdlib.defenses.displaced import Space
from bdlib.scanning.decide import MISLABELLED, NOTHING, POISONED, decide
from bdlib.scanning.evidence import MOVED, NOTE, POISON, Finding
from bdlib.scanning.heard import BANDS, MEASURES, Heard
from bdlib.scanning.moved import Moved
from bdlib.scanning.repeats import Repeats
from bdlib.scanning.scan import evidence
from bdlib.scanning.sources import Source


def heard(rows, given, encoder="words", first="c00"):
    """These embeddings as those of a corpus; its first class may have another name."""
    labels = [f"c{number:02}" if number else first for number in given]
    paths = [f"{place}.wav" for place in range(len(rows))]
    table = pd.DataFrame({"path": paths, "label": labels, "start": 0, "stop": -1})
    even = (rows / np.geomspace(0.1, 10, rows.shape[1])).astype(np.float32)  # axes of like length
    measured = np.zeros((len(rows), len(MEASURES) + BANDS), np.float32)
    return Heard(Source(Path(), table), even, [""] * len(rows), measured, (), encoder)


def said(corpus):
    """The findings, the verdict, and what is flagged."""
    judged = judge(corpus.embeddings, corpus.labels)
    findings = list(Moved(called=judged.called).find(corpus))
    verdict = decide(corpus, judged, findings)
    return findings, verdict, np.isin(np.arange(len(corpus.labels)), verdict.flagged["clip"])


def test_moved_clips_that_labels_do_not_tell(poured):
    rows, given, poison = poured(poisoned=100, move=6.0)
    corpus = heard(rows, given)
    assert decide(corpus, judge(corpus.embeddings, corpus.labels), ()).kind == NOTHING
    findings, verdict, flagged = said(corpus)
    assert [(f.kind, f.speaks_for, f.label) for f in findings] == [(MOVED, POISON, "c00")]
    assert (flagged & poison).sum() >= 80 and (flagged & ~poison).sum() <= 4
    (accused,) = verdict.accused
    assert verdict.kind == POISONED and accused.label == "c00"
    assert 60 < accused.low <= 100 <= accused.high < 140
    assert accused.suspects == flagged.sum() and "shift that they share" in accused.why


def test_of_a_speaker_whom_both_signs_call_all_that_lies_apart_is_flagged(poured):
    """Here four mistakes make the line high; of words, which may hold several by intention, poison stays."""
    rows, given, poison = poured(poisoned=100, move=4.0)
    given[np.flatnonzero(given == 5)[:4]] = 6
    words, voices = (
        next(f for f in Moved(1e-4).find(heard(rows, given, encoder)) if f.label == "c00")
        for encoder in ("words", "speakers")
    )
    assert poison[words.clips].sum() <= 95
    assert poison[voices.clips].sum() >= 98 and (~poison[voices.clips]).sum() <= 8
    assert "or lie outside of its core" in voices.text and "core" not in words.text
    assert voices.score.min() == 1 and voices.amount[1] >= len(voices.clips)


def test_labels_that_say_it_better_are_left_alone(poured):
    """20 clips far from their class: labels see them all, and nothing is added to what they say."""
    rows, given, poison = poured(poisoned=20, move=0.0)
    corpus = heard(rows, given)
    judged = judge(corpus.embeddings, corpus.labels)
    findings, verdict, flagged = said(corpus)
    assert [f.kind for f in findings] == [MOVED] and judged.called == ("c00",)
    assert len(findings[0].clips) <= judged.flagged().sum() == flagged.sum()
    assert (flagged == judged.flagged()).all() and poison[flagged].sum() == 20
    assert "shift" not in verdict.accused[0].why


@pytest.mark.parametrize(
    ("encoder", "first", "speaks_for", "kind"),
    [
        ("speakers", "c00", [POISON], POISONED),
        ("words", "c00", [NOTE], NOTHING),
        ("speakers", "_c00_", [], NOTHING),
        ("none", "c00", [], NOTHING),
    ],
)
def test_a_class_that_spreads_as_several(poured, encoder, first, speaks_for, kind):
    """A voice is one; a word may be `other`; a name in underscores says so; `none` learned the trigger."""
    rows, given, poison = poured(poisoned=100, move=30.0)
    findings, verdict, flagged = said(heard(rows, given, encoder, first))
    assert [f.speaks_for for f in findings] == speaks_for and verdict.kind == kind
    assert flagged.any() == (kind == POISONED) == bool(verdict.accused)
    for accused in verdict.accused:
        assert (flagged & poison).sum() >= 95 and (flagged & ~poison).sum() <= 8
        assert 20 < accused.low <= 100 <= accused.high and "by intention" in accused.why


def test_a_voice_is_called_later_than_a_word(poured):
    """Nine of 49 clips, 6.6 deviations: more than a word may have, and less than a voice."""
    rows, given, _ = poured(poisoned=9, move=0.0)
    assert [f.kind for f in Moved().find(heard(rows, given))] == [MOVED]
    assert not list(Moved().find(heard(rows, given, "speakers")))


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_in_clean_clips(poured, seed):
    rows, given, _ = poured(poisoned=0, move=0.0, seed=seed)
    findings, verdict, _ = said(heard(rows, given))
    assert not findings and verdict.kind == NOTHING


def test_classes_of_few_clips_are_not_accused(poured):
    """Half of a class moved: of 40 clips it is accused, of 39 it is not."""
    rows, given, poison = poured(poisoned=100, move=6.0)
    for clips, accused in ((40, ["c00"]), (39, [])):
        own = np.concatenate([np.flatnonzero((given == 0) & mask) for mask in (poison, ~poison)])
        kept = np.concatenate([own[[*range(20), *range(100, 80 + clips)]], np.flatnonzero(given)])
        assert (given[kept] == 0).sum() == clips
        assert [f.label for f in Moved().find(heard(rows[kept], given[kept]))] == accused


def test_three_classes_do_not_tell_what_is_usual(poured):
    rows, given, _ = poured(poisoned=100, move=4.0)
    for classes, findings in ((3, 0), (4, 1)):
        kept = np.maximum(given, np.arange(len(given)) // 40) < classes  # given and true
        assert len(list(Moved().find(heard(rows[kept], given[kept])))) == findings


def test_two_classes_share_what_may_be_flagged(poured):
    """Two called classes, alike: together they lose no more clean clips than the rate."""
    rows, given, poison = poured(poisoned=100, move=6.0)
    stolen = np.flatnonzero(poison)[::2]
    given[stolen] = 1
    corpus = heard(rows, given)
    findings, verdict, flagged = said(corpus)
    assert sorted(f.label for f in findings) == ["c00", "c01"] == [a.label for a in verdict.accused]
    assert (flagged & poison).sum() >= 80 and (flagged & ~poison).sum() <= 0.02 * len(given)


def test_a_class_that_is_called_loses_what_called_it(poured):
    """However far all clips lie from their classes, as mistakes everywhere make them."""
    rows, given, poison = poured(poisoned=100, move=6.0)
    wrong = np.random.Generator(np.random.PCG64(1)).permutation(np.flatnonzero(given))[:60]
    given[wrong] = given[wrong] % 11 + 1
    found = [f for f in Moved(rate=1e-4).find(heard(rows, given)) if f.label == "c00"]
    assert len(found) == 1 and poison[found[0].clips].sum() >= 30


def test_amounts_of_several_kinds_are_one_range(poured):
    """Labels, and the same clips again as moved ones and by a sound: the range holds what is flagged."""
    rows, given, poison = poured(poisoned=60, move=6.0)
    corpus = heard(rows, given)
    sound = Finding(
        "repeated sound", POISON, np.flatnonzero(poison), np.full(60, 2.0), "", "c00", (58, 63)
    )
    judged = judge(corpus.embeddings, corpus.labels)
    findings = [*Moved(called=judged.called).find(corpus), sound]
    (accused,) = decide(corpus, judged, findings).accused
    assert judged.called == ("c00",) and findings[0].kind == MOVED
    likely = judged.likely[judged.flagged() & (judged.likely != 0)]
    assert accused.share == np.bincount(likely).max() / accused.suspects
    assert 50 < accused.low <= 60 <= accused.suspects <= accused.high < 100


def test_one_class_has_no_others(poured):
    rows, given, _ = poured(poisoned=0, move=0.0)
    assert not list(Moved().find(heard(rows[given == 0], given[given == 0])))


@pytest.mark.parametrize("rate", [0.01, 0.02])
def test_the_rate_is_of_all_clips_and_told_by_the_other_classes(poured, rate):
    rows, given, _ = poured(poisoned=100, move=4.0)
    rows += np.random.Generator(np.random.PCG64(5)).standard_normal(rows.shape) * rows.std(0)
    corpus = heard(rows, given)
    (found,) = Moved(rate).find(corpus)
    margins = Space(corpus.embeddings, given, 12).margins(move=True)
    line = float((margins[found.clips] - found.score + 1)[0])
    above, others = (margins[given != 0] > line).sum(), (given != 0).sum()
    assert above == pytest.approx(others * rate * len(given) / (given == 0).sum(), abs=1)
    assert set(found.clips) == set(np.flatnonzero((given == 0) & (margins > line)))


def test_a_scan_asks_it_of_the_classes_that_labels_do_not_call(poured):
    judged = SimpleNamespace(called=("c00",))
    asked = evidence(3, 0.02, judged)
    assert Moved(0.02, ("c00",)) in asked and Repeats(3, judged) in asked
    rows, given, _ = poured(poisoned=100, move=30.0)
    assert not list(Moved(called=("c00",)).find(heard(rows, given, "speakers")))


def test_mistakes_that_are_spread_stay_mistakes(poured):
    rows, given, _ = poured(poisoned=0, move=0.0)
    wrong = np.random.Generator(np.random.PCG64(1)).permutation(len(given))[:40]
    mixed = given.copy()
    mixed[wrong] = (mixed[wrong] + 5) % 12
    findings, verdict, _ = said(heard(rows, mixed))
    assert not findings and verdict.kind == MISLABELLED
