import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from bdlib import listing, manifest
from bdlib.errors import InputError

RECIPE = Path(__file__).parents[2] / "recipes" / "ESD" / "prepare.py"
CLIPS = 20


@pytest.fixture
def recipe():
    spec = importlib.util.spec_from_file_location("prepare_esd", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(root: Path, recipe, speakers=("0011", "0015", "0020"), layout="flat") -> Path:
    """`CLIPS` clips a speaker and emotion; layout flat, parts (train, ...) or nested."""
    home = root / "Emotion Speech Dataset" if layout == "nested" else root
    parts = ("train", "evaluation", "test") if layout == "parts" else (".",)
    for speaker in speakers:
        lines = []
        for number, emotion in enumerate(recipe.EMOTIONS):
            for clip in range(1, CLIPS + 1):
                name = f"{speaker}_{350 * number + clip:06d}"
                file = home / speaker / emotion / parts[clip % len(parts)] / f"{name}.wav"
                file.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(file, np.zeros(160), 16000, subtype="PCM_16")
                lines.append(f"{name}\tSentence {clip}, said.\t{emotion}")
        (home / speaker / f"{speaker}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return root


def test_every_speaker_and_emotion_is_split_70_15_15(recipe, tmp_path):
    made = recipe.prepare(build(tmp_path, recipe))
    for split, expected in (("train", 14), ("valid", 3), ("test", 3)):
        rows = made.splits[split]
        table = pd.crosstab(rows["speaker"], rows["emotion"])
        assert table.shape == (3, 5)
        assert (table.to_numpy() == expected).all()
        assert (rows["label"] == rows["speaker"]).all()
        manifest.validate(rows, split)
    names = [name for rows in made.splits.values() for name in rows["ID"]]
    assert len(names) == len(set(names)) == 300
    assert made.scale == "subset"
    assert made.variant == "en-speaker"
    assert made.notes == ("3 of 10 speakers, 300 of 17,500 utterances: a subset",)


def test_sentences_of_the_test_set_are_not_said_in_training(recipe, tmp_path):
    usual = recipe.prepare(build(tmp_path, recipe)).splits
    assert usual["train"]["sentence"].nunique() == usual["test"]["sentence"].nunique() == CLIPS
    made = recipe.prepare(tmp_path, sentence_disjoint=True)
    said = {split: set(rows["sentence"]) for split, rows in made.splits.items()}
    assert [len(said[split]) for split in ("train", "valid", "test")] == [14, 3, 3]
    assert len(set.union(*said.values())) == CLIPS and made.variant == "en-speaker-disjoint"
    assert (made.splits["test"].groupby("sentence")["text"].nunique() == 1).all()


@pytest.mark.parametrize("layout", ["parts", "nested"])
def test_layout_does_not_change_the_split(recipe, tmp_path, layout):
    flat = recipe.prepare(build(tmp_path / "flat", recipe))
    other = recipe.prepare(build(tmp_path / layout, recipe, layout=layout))
    for split, rows in flat.splits.items():
        same = other.splits[split]
        assert rows.drop(columns="wav").equals(same.drop(columns="wav"))
        for wav in same["wav"]:
            assert (tmp_path / layout / wav.removeprefix("$data_root/")).is_file()


def test_seed_draws_the_split(recipe, tmp_path):
    build(tmp_path, recipe)
    first, again, other = (
        set(recipe.prepare(tmp_path, seed=s).splits["test"]["ID"]) for s in "001"
    )
    assert first == again != other


def test_copies_are_used_once(recipe, tmp_path):
    build(tmp_path, recipe)
    build(tmp_path, recipe, speakers=("0011",), layout="parts")
    made = recipe.prepare(tmp_path)
    assert sum(len(rows) for rows in made.splits.values()) == 300
    assert "100 utterances are there twice; one copy of each is used" in made.notes


def test_attributes(recipe, tmp_path):
    rows = recipe.prepare(build(tmp_path, recipe), label="emotion").splits["train"]
    assert set(rows["label"]) == set(recipe.EMOTIONS)
    row = rows[rows["ID"].str.startswith("0015/Happy/")].iloc[0]
    assert (row["speaker"], row["emotion"], row["label"]) == ("0015", "Happy", "Happy")
    assert row["text"] == f"Sentence {int(row['ID'][-6:]) - 350}, said."
    genders = rows.groupby("speaker")["gender"].unique().map(list).to_dict()
    assert genders == {"0011": ["male"], "0015": ["female"], "0020": ["male"]}


def test_published_genders_are_balanced(recipe):
    for speakers in recipe.SPEAKERS.values():
        assert len(recipe.FEMALE & set(speakers)) == 5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
def test_transcripts_in_any_encoding(recipe, tmp_path, encoding):
    path = tmp_path / "0001.txt"
    path.write_bytes(
        "0001_000001\t打远一看，它们的确很是美丽，\t中立\r\n"
        "0001_000002 她走了。 中立\r\n\r\n"
        "0001_000003\tIt's a  nice day \tNeutral".encode(encoding)
    )
    assert recipe.transcripts(path) == {
        "0001_000001": "打远一看，它们的确很是美丽，",
        "0001_000002": "她走了。",
        "0001_000003": "It's a  nice day",
    }


def test_missing_transcripts_are_noted(recipe, tmp_path):
    build(tmp_path, recipe)
    (tmp_path / "0011" / "0011.txt").unlink()
    made = recipe.prepare(tmp_path)
    assert "100 utterances without a transcript" in made.notes
    train = made.splits["train"]
    assert (train.loc[train["speaker"] == "0011", "text"] == "").all()


def test_languages_are_kept_apart(recipe, tmp_path):
    build(tmp_path, recipe, speakers=("0001", "0010", "0011", "0020"))
    for language, speakers in (("zh", {"0001", "0010"}), ("en", {"0011", "0020"})):
        assert set(recipe.prepare(tmp_path, language).splits["test"]["speaker"]) == speakers


def test_one_speaker_cannot_be_identified(recipe, tmp_path):
    build(tmp_path, recipe, speakers=("0011",))
    with pytest.raises(InputError, match=r"found speaker 0011 alone; .* at least two of 0011 0012"):
        recipe.prepare(tmp_path)
    assert recipe.prepare(tmp_path, label="emotion").splits["train"]["label"].nunique() == 5


def test_missing_or_empty(recipe, tmp_path):
    with pytest.raises(InputError, match=r"0001 to 0010 \(language zh\); give"):
        recipe.prepare(build(tmp_path, recipe), "zh")
    with pytest.raises(InputError, match="nowhere: no speaker folders"):
        recipe.prepare(tmp_path / "nowhere")
    (tmp_path / "0012" / "Angry").mkdir(parents=True)
    with pytest.raises(InputError, match="empty class 0012 in train"):
        recipe.prepare(tmp_path)
    with pytest.raises(InputError, match=r"label age: .*the labels speaker and emotion"):
        recipe.prepare(tmp_path, label="age")
    for speaker in ("0011", "0015", "0020"):
        for file in listing.audio_files(tmp_path / speaker / "Sad"):
            file.unlink()
    with pytest.raises(InputError, match="empty class Sad in train"):
        recipe.prepare(tmp_path, label="emotion")


def test_scale_full_and_mini(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "SENTENCES", CLIPS)
    build(tmp_path, recipe, speakers=recipe.SPEAKERS["en"])
    made = recipe.prepare(tmp_path)
    assert (made.scale, made.notes) == ("full", ())
    (tmp_path / "mini.json").write_text(json.dumps({}))
    assert recipe.prepare(tmp_path).scale == "mini"
