import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from bdlib import listing, manifest
from bdlib.errors import InputError

RECIPE = Path(__file__).parents[2] / "recipes" / "RAVDESS" / "prepare.py"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("prepare_ravdess", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path: Path, channels: int = 1, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros((160, channels)), rate, subtype="PCM_16")


def stems(actor: int) -> list[str]:
    """The names of an actor's 60 spoken clips."""
    return [
        f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
        for emotion in range(1, 9)
        for intensity in ((1,) if emotion == 1 else (1, 2))
        for statement in (1, 2)
        for repetition in (1, 2)
    ]


def build(root: Path, actors: range) -> Path:
    for actor in actors:
        for stem in stems(actor):
            write(root / f"Actor_{actor:02d}" / f"{stem}.wav")
    return root


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return build(tmp_path_factory.mktemp("ravdess"), range(1, 25))


@pytest.fixture
def two(tmp_path):
    return build(tmp_path, range(1, 3))


@pytest.mark.parametrize("label", ["speaker", "emotion"])
def test_complete_corpus_is_split_70_15_15(recipe, complete, label):
    made = recipe.prepare(complete, label)
    assert (made.scale, made.variant) == ("full", label)
    assert {s: len(rows) for s, rows in made.splits.items()} == {
        "train": 1008,
        "valid": 216,
        "test": 216,
    }
    for split, share in (("train", 0.7), ("valid", 0.15), ("test", 0.15)):
        rows = made.splits[split]
        manifest.validate(rows, split)
        assert (rows["label"] == rows[label]).all()
        for emotion, count in rows["emotion"].value_counts().items():
            assert abs(count - share * (96 if emotion == "neutral" else 192)) < 1.5
        assert (rows["speaker"].value_counts() - share * 60).abs().max() < 4
        blocks = pd.crosstab(rows["speaker"], rows["emotion"]).drop(columns="neutral")
        assert blocks.shape == (24, 7)
        assert ((blocks - share * 8).abs() < 1).all(axis=None)


def test_sentences_of_the_test_set_are_not_said_in_training(recipe, complete):
    made = recipe.prepare(complete, sentence_disjoint=True)
    said = {split: set(rows["statement"]) for split, rows in made.splits.items()}
    assert said == {"train": {"kids"}, "valid": {"dogs"}, "test": {"dogs"}}
    assert [len(rows) for rows in made.splits.values()] == [720, 360, 360]
    assert made.variant == "speaker-disjoint"
    for rows in made.splits.values():
        assert pd.crosstab(rows["speaker"], rows["emotion"]).shape == (24, 8)


def test_same_audio_is_noted(recipe, complete, two):
    assert any(
        "Actor_07" in note and "same audio" in note for note in recipe.prepare(complete).notes
    )
    notes = recipe.prepare(two).notes
    assert notes == ("2 of 24 actors, 120 of 1,440 clips: a subset",)


def test_seed_draws_the_split(recipe, two):
    first, again, other = (set(recipe.prepare(two, seed=s).splits["test"]["ID"]) for s in "001")
    assert first == again != other


@pytest.mark.parametrize(
    ("stem", "told"),
    [
        ("03-01-06-01-02-01-12", ("Actor_12", "fearful", "normal", "dogs", "1", "female")),
        ("03-01-01-01-01-02-01", ("Actor_01", "neutral", "normal", "kids", "2", "male")),
        ("03-01-02-02-01-01-24", ("Actor_24", "calm", "strong", "kids", "1", "female")),
        ("03-01-08-02-02-02-23", ("Actor_23", "surprised", "strong", "dogs", "2", "male")),
    ],
)
def test_names_are_decoded(recipe, stem, told):
    entry = recipe.decode(stem)
    keys = ("speaker", "emotion", "intensity", "statement", "repetition", "gender")
    assert tuple(entry[key] for key in keys) == told
    assert entry["ID"] == f"{told[0]}/{stem}"


def test_song_video_and_strangers_are_left_out(recipe, two):
    write(two / "Actor_01" / "03-02-03-01-01-01-01.wav")
    write(two / "Actor_01" / "01-01-03-01-01-01-01.wav")
    write(two / "Actor_02" / "notes.wav")
    write(two / "Actor_02" / "03-01-09-01-01-01-02.wav")
    made = recipe.prepare(two)
    assert sum(len(rows) for rows in made.splits.values()) == 120
    assert "2 clips of song or with video left out" in made.notes
    assert "2 files with other names left out" in made.notes


def test_deeper_folder_and_copies(recipe, two, tmp_path_factory):
    deeper = tmp_path_factory.mktemp("deeper")
    build(deeper / "Audio_Speech_Actors_01-24", range(1, 3))
    flat, nested = recipe.prepare(two), recipe.prepare(deeper)
    for split, rows in flat.splits.items():
        assert rows.drop(columns="wav").equals(nested.splits[split].drop(columns="wav"))
    assert nested.splits["test"]["wav"].str.contains("/Audio_Speech_Actors_01-24/Actor_0").all()
    build(two / "audio_speech_actors_01-24", range(1, 3))
    both = recipe.prepare(two)
    assert "120 clips are there twice; one copy of each is used" in both.notes
    assert all(both.splits[split].equals(rows) for split, rows in flat.splits.items())


def test_published_rate_and_stereo_are_kept(recipe, two):
    write(two / "Actor_01" / "03-01-02-01-01-02-01.wav", channels=2, rate=48000)
    rows = pd.concat(recipe.prepare(two).splits.values()).set_index("ID")
    row = rows.loc["Actor_01/03-01-02-01-01-02-01"]
    assert (row["rate"], row["start"], row["stop"]) == (48000, 0, 160)
    assert row["duration"] == pytest.approx(160 / 48000)


def test_one_actor_cannot_be_identified(recipe, tmp_path):
    build(tmp_path, range(5, 6))
    with pytest.raises(InputError, match=r"found Actor_05 alone; .* at least two of Actor_01 to"):
        recipe.prepare(tmp_path)


def test_missing_or_empty(recipe, two, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for folder in (empty, empty / "missing"):
        with pytest.raises(InputError, match=f"{folder}: no clips such as Actor_01/.*; give"):
            recipe.prepare(folder)
    with pytest.raises(InputError, match="label gender: the labels are speaker and emotion"):
        recipe.prepare(two, "gender")
    for file in (f for f in listing.audio_files(two) if f.stem.startswith("03-01-07")):
        file.unlink()
    with pytest.raises(InputError, match="empty class disgust in train"):
        recipe.prepare(two, "emotion")


def test_mini(recipe, two):
    (two / "mini.json").write_text(json.dumps({}))
    made = recipe.prepare(two)
    assert (made.scale, made.notes) == ("mini", ())
