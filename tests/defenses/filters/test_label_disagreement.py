"""The filter on a pack, with an encoder whose answers are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bdlib import encoders
from bdlib.defenses.filters import label_disagreement
from bdlib.defenses.filters.cleanlab_issues import CleanlabIssues
from bdlib.defenses.filters.label_disagreement import LabelDisagreement
from bdlib.errors import InputError
from bdlib.pack import Pack


class Pitch(encoders.Encoder):
    """The long-term spectrum below 2 kHz."""

    name, size, file = "words", 32, None

    def encode(self, wavs):
        power = np.abs(np.fft.rfft(wavs, axis=1))[:, :2048] ** 2
        return np.log(power.reshape(len(wavs), 32, -1).mean(2) + 1e-3)


@pytest.fixture
def view(monkeypatch):
    """Six classes, told by their pitch, at 8 kHz; 12 clips of `a` and 8 of others are labelled `b`."""
    monkeypatch.setitem(label_disagreement.ENCODERS, "words", Pitch)
    draws = np.random.Generator(np.random.PCG64(0))
    true = np.repeat(list("abcdef"), 40)
    hertz = {label: 200 + 250 * number for number, label in enumerate("abcdef")}
    time = np.arange(8000) / 8000
    wavs = [
        0.2 * np.sin(2 * np.pi * hertz[label] * draws.uniform(0.96, 1.04) * time)
        + 0.05 * draws.standard_normal(8000)
        for label in true
    ]
    pcm = (np.concatenate(wavs) * 32767).clip(-32768, 32767).astype(np.int16)
    ids = [f"u{number}" for number in range(len(true))]
    pack = Pack(pcm, np.arange(len(true) + 1) * 8000, ids, 8000, [], "made")
    given = true.copy()
    wrong = [*range(12), *range(85, 93)]
    given[wrong] = "b"
    rows = pd.DataFrame({"ID": ids, "label": given})
    return SimpleNamespace(rows=rows, pack=pack, seed=0), {ids[n] for n in wrong}


def test_it_removes_the_intruders_of_the_called_class(view):
    seen, wrong = view
    defense = LabelDisagreement()
    scores = defense.scores(seen)
    removed = set(seen.rows["ID"]) - set(defense.keep(scores))
    assert len(wrong & removed) >= 0.9 * len(wrong) and len(removed - wrong) <= 3
    assert [name for name, score in defense.class_scores.items() if score > 1] == ["b"]
    assert all(0 <= score <= 1 for score in scores.values())


def test_it_removes_nothing_where_no_class_is_called(view):
    seen, wrong = view
    seen.rows = seen.rows[~seen.rows["ID"].isin(wrong)].reset_index(drop=True)
    defense = LabelDisagreement()
    assert len(defense.keep(defense.scores(seen))) == len(seen.rows)
    assert max(defense.class_scores.values()) <= 1


def test_its_rival_removes_half_of_the_intruders_at_least(view):
    pytest.importorskip("cleanlab")
    seen, wrong = view
    defense = CleanlabIssues()
    scores = defense.scores(seen)
    removed = set(seen.rows["ID"]) - set(defense.keep(scores))
    assert len(wrong & removed) >= 0.5 * len(wrong) and len(removed - wrong) <= 0.05 * len(scores)
    assert all(0 <= score <= 1 for score in scores.values())


def test_its_rival_wants_a_clip_a_fold(view):
    pytest.importorskip("cleanlab")
    seen, _ = view
    with pytest.raises(InputError, match="a has 28 clips, fewer than `folds`"):
        CleanlabIssues(folds=61).scores(seen)


@pytest.mark.parametrize("settings", [{"encoder": "faces"}, {"false_positive_rate": 2}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=f"`{next(iter(settings))}`"):
        LabelDisagreement(**settings)
