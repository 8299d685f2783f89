"""The slow second line: a sound that a class has beside its word is ranked first, and accuses nobody."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from bdlib.cli import scan as program
from bdlib.encoders import RATE
from bdlib.scanning import deep


@pytest.fixture
def toned(corpus, spoken):
    """A tone at the end of every other clip of `up`, as which all are said."""
    tone = 0.3 * np.sin(2 * np.pi * 6000 * np.arange(RATE // 10) / RATE)
    for clip in range(0, 24, 2):
        path = corpus / "up" / f"{clip:02}.wav"
        wave, _ = soundfile.read(path)
        wave[-len(tone) :] += tone
        soundfile.write(path, wave, RATE, subtype="PCM_16")
    return corpus


def test_what_one_window_tells_is_ranked(encoder, toned, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(deep, "EPOCHS", (5, 5))
    output = tmp_path / "out"
    arguments = [str(toned), "--task=words", f"--output={output}", f"--cache={tmp_path / 'c'}"]
    program.main([*arguments, "--deep"])
    out = capsys.readouterr().out
    assert "also: of the 8 clips whose label one window of 0.2 s tells best, " in out
    ranked = pd.read_csv(output / "deep.csv")
    assert len(ranked) == 150 and ranked["one_window"].is_monotonic_decreasing
    clips = ranked.loc[ranked["label"] == "up", "path"].str[3:5].astype(int)
    assert (clips[:12] % 2 == 0).mean() > 0.8  # those with the tone
    told = json.loads((output / "scan.json").read_text())
    assert sorted(told["deep"]) == ["go", "left", "no", "stop", "up", "yes"]
    assert all(accused["label"] == "up" for accused in told["accused"])


def test_classes_are_counted_among_the_first():
    looked = deep.Deep(np.linspace(1, 0, 100), np.array(["a"] * 3 + ["b"] * 47 + ["c"] * 50))
    # Of the first five, three are of the three percent.
    assert looked.classes == {"a": 20.0, "b": 0.85, "c": 0.0}
    assert (
        "of the 5 clips" in looked.finding().text and "3 are a, 20 times" in looked.finding().text
    )
