"""Copies, damage, outliers and traits, each on clips of which it is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import soundfile

from bdlib.scanning.condition import Condition
from bdlib.scanning.duplicates import Duplicates
from bdlib.scanning.evidence import LABEL, NOTE, QUALITY
from bdlib.scanning.heard import decoded, listen, measures
from bdlib.scanning.outliers import Outliers
from bdlib.scanning.sources import Source
from bdlib.scanning.traits import Traits

RATE = 16000


def say(part, heard):
    return {finding.kind: finding for finding in part.find(heard)}


@pytest.fixture
def hear(corpus, encoder, tmp_path):
    """A function: listens to the corpus as it lies there now."""
    return lambda: listen(Source.of(corpus), encoder, tmp_path / "cache", quiet=True)


def names(heard, finding):
    return sorted(heard.paths[clip] for clip in finding.clips)


def test_a_clean_corpus_has_nothing_of_it(hear):
    heard = hear()
    assert [say(part, heard) for part in (Duplicates(), Condition())] == [{}, {}]


def test_copies_are_found_as_they_are_and_altered(hear, corpus):
    (corpus / "no" / "copy.wav").write_bytes((corpus / "go" / "00.wav").read_bytes())
    wave, _ = soundfile.read(corpus / "yes" / "03.wav")
    soundfile.write(corpus / "yes" / "half.flac", 0.5 * np.roll(wave, 40), RATE)
    heard = hear()
    found = say(Duplicates(), heard)
    assert names(heard, found["copy under another label"]) == ["go/00.wav", "no/copy.wav"]
    assert names(heard, found["copy"]) == ["yes/03.wav", "yes/half.flac"]
    assert (
        found["copy under another label"].speaks_for == LABEL and found["copy"].speaks_for == NOTE
    )


def test_a_copy_under_another_label_is_found_by_an_encoder_that_hears_level(hear, corpus):
    wave, _ = soundfile.read(corpus / "yes" / "03.wav")
    soundfile.write(corpus / "no" / "half.wav", 0.5 * np.roll(wave, 40), RATE)
    soundfile.write(corpus / "yes" / "quarter.wav", 0.25 * wave, RATE)
    heard = hear()
    draws = np.random.Generator(np.random.PCG64(0))
    unlike = draws.standard_normal(heard.embeddings.shape).astype(np.float32)
    unlike /= np.linalg.norm(unlike, axis=1, keepdims=True)
    found = say(Duplicates(), dataclasses.replace(heard, embeddings=unlike))
    expected = ["no/half.wav", "yes/03.wav", "yes/quarter.wav"]
    assert names(heard, found["copy under another label"]) == expected
    assert "copy" not in found


def test_damaged_clips(hear, corpus, spoken):
    soundfile.write(corpus / "no" / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(corpus / "no" / "loud.wav", np.clip(20 * spoken("no", 1), -1, 1), RATE)
    soundfile.write(corpus / "no" / "long.wav", np.tile(spoken("no", 2), 10), RATE)
    heard = hear()
    found = say(Condition(), heard)
    assert {kind: names(heard, f) for kind, f in found.items()} == {
        "silent": ["no/silent.wav"],
        "clipped": ["no/loud.wav"],
        "odd length": ["no/long.wav"],
    }
    assert found["silent"].speaks_for == QUALITY


def test_what_is_like_nothing_else(hear):
    heard, draws = hear(), np.random.Generator(np.random.PCG64(0))
    number = np.unique(heard.labels, return_inverse=True)[1]
    rows = 12 * np.eye(6, 24)[number] + draws.standard_normal((len(number), 24)) * (
        1 + number[:, None] / 9
    )
    rows[[7, 140]] = 30 * draws.standard_normal((2, 24))
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    found = say(Outliers(), dataclasses.replace(heard, embeddings=unit))
    assert found["outlier"].clips.tolist() == [7, 140]
    found = say(
        Outliers(),
        dataclasses.replace(
            heard,
            embeddings=np.delete(unit, [7, 140], 0),
            source=dataclasses.replace(heard.source, rows=heard.source.rows.drop(index=[7, 140])),
        ),
    )
    assert found == {}


def test_a_trait_of_one_class(hear, corpus):
    for path in sorted((corpus / "up").iterdir())[:15]:
        wave, _ = soundfile.read(path)
        soundfile.write(
            path, np.concatenate([np.zeros(1600), wave[:-1600]]), RATE, subtype="PCM_16"
        )
    heard = hear()
    (found,) = [f for f in Traits().find(heard) if f.kind == "zeros at an end"]
    assert found.label == "up" and found.speaks_for == NOTE
    assert len(names(heard, found)) == 15


def test_measures_of_a_clip():
    wave = np.zeros(RATE, np.float32)
    wave[3200:8000] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(4800) / RATE)
    told = measures(wave, 44100)
    assert np.allclose(told[:3], [1.0, 44100, 0.5], atol=1e-3)
    assert np.allclose(told[5:7], [0.2, 0.5], atol=0.011)
    assert told[8:].argmax() == 1000 // (8000 // 24)


@pytest.mark.parametrize(
    ("rate", "form", "channels"), [(8000, "FLAC", 1), (44100, "OGG", 2), (48000, "MP3", 1)]
)
def test_any_form_and_rate(tmp_path, rate, form, channels):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    path = tmp_path / "clip"
    soundfile.write(path, np.stack([tone] * channels, 1), rate, format=form)
    samples, own = decoded(path.read_bytes(), 0, -1)
    assert own == rate and abs(len(samples) - RATE) < 1700 and samples.dtype == np.float32
    assert np.abs(np.fft.rfft(samples[:RATE])).argmax() == pytest.approx(
        440 * min(len(samples), RATE) / RATE, abs=2
    )


def test_a_cached_corpus_is_the_same_and_is_not_encoded(hear, monkeypatch, encoder):
    first = hear()
    monkeypatch.setattr(type(encoder), "encode", lambda self, wavs: 1 / 0)
    again = hear()
    assert np.array_equal(first.embeddings, again.embeddings)
    assert np.array_equal(first.measured, again.measured) and first.digests == again.digests
    assert isinstance(again.source.rows, pd.DataFrame) and dataclasses.is_dataclass(again)
