import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bdlib import listing, manifest
from bdlib.cli import sweep
from bdlib.errors import InputError

RECIPE = Path(__file__).parents[2] / "recipes" / "SpeechCommands" / "prepare.py"
SPLIT_OF = {"aaaaaaa0": "train", "aaaaaaa1": "train", "aaaaaaa2": "train"} | {
    "bbbbbbb0": "valid",
    "ccccccc0": "test",
}
# Samples of the six noise files in the published archive.
PUBLISHED_NOISE = {
    "doing_the_dishes": 1522930,
    "dude_miaowing": 988891,
    "exercise_bike": 980062,
    "pink_noise": 960000,
    "running_tap": 978488,
    "white_noise": 960000,
}


@pytest.fixture
def recipe():
    spec = importlib.util.spec_from_file_location("prepare_speech_commands", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path: Path, samples: int = 400) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(samples), 16000, subtype="PCM_16")


@pytest.fixture
def corpus(tmp_path, recipe):
    """All 35 words by five speakers, lists that name absent clips too, and two noise files."""
    lists = {"valid": ["yes/deadbeef_nohash_9.wav"], "test": []}
    for word in recipe.WORDS_V2:
        for speaker, split in SPLIT_OF.items():
            name = f"{word}/{speaker}_nohash_0.wav"
            write(tmp_path / name)
            if split != "train":
                lists[split].append(name)
    (tmp_path / "validation_list.txt").write_text("\n".join(lists["valid"]) + "\n")
    (tmp_path / "testing_list.txt").write_text("\n".join(lists["test"]) + "\r\n")
    write(tmp_path / recipe.NOISE / "white_noise.wav", 112000)
    write(tmp_path / recipe.NOISE / "running_tap.wav", 48001)
    (tmp_path / recipe.NOISE / "README.md").write_text("about the noise")
    return tmp_path


@pytest.fixture
def archive(corpus, recipe):
    for label in recipe.CLASSES["12"]:
        write(corpus / "test_set" / label / "ccccccc0_nohash_0.wav")
        write(corpus / "test_set" / label / "ccccccc0_nohash_1.wav")
    return "test_set"


@pytest.mark.parametrize(
    ("speaker", "split"),
    # Rows of the official lists of v0.01 and v0.02.
    [
        *((s, "valid") for s in ("a69b9b3e", "439c84f4", "409c962a", "0e17f595", "fa52ddf6")),
        *((s, "test") for s in ("2aa787cf", "ffa76c4a", "24ad3ebe", "105a0eea", "563aa4e6")),
    ],
)
def test_hash_rule_gives_the_official_lists(recipe, speaker, split):
    assert recipe.which_set(f"{speaker}_nohash_0.wav") == split
    assert recipe.which_set(f"{speaker}_nohash_13.flac") == split


def test_hash_rule_cuts_near_80_10_10(recipe):
    drawn = [recipe.which_set(f"{number:08x}_nohash_0.wav") for number in range(5000)]
    assert 0.08 < drawn.count("valid") / 5000 < 0.12
    assert 0.08 < drawn.count("test") / 5000 < 0.12


def test_twelve_classes_follow_the_lists(recipe, corpus):
    made = recipe.prepare(corpus)
    for split, rows in made.splits.items():
        assert set(rows["label"]) == set(recipe.CLASSES["12"])
        words = rows[rows["label"] != "_silence_"]
        assert set(words["speaker"]) == {s for s, where in SPLIT_OF.items() if where == split}
        others = words[words["label"] == "_unknown_"]
        assert set(others["word"]) == set(recipe.WORDS_V2) - set(recipe.COMMANDS)
        commands = words[words["label"] != "_unknown_"]
        assert (commands["word"] == commands["label"]).all()
        manifest.validate(rows, split, recipe.CLASSES["12"])
    assert "yes/aaaaaaa0_nohash_0" in set(made.splits["train"]["ID"])
    assert (made.scale, made.variant) == ("subset", "12")
    assert "175 of 105,829 clips of v0.02: a subset" in made.notes


def test_silence_of_test_is_never_in_training(recipe, corpus):
    splits = recipe.prepare(corpus).splits
    cut = {s: rows[rows["label"] == "_silence_"] for s, rows in splits.items()}
    assert list(cut["valid"]["start"]) == [0, 8000, 16000, 24000, 32000]
    assert (cut["valid"]["wav"] == "$data_root/_background_noise_/running_tap.wav").all()
    # 112000 samples make 12 pieces: 4 for test, 1 between, 7 for training.
    assert list(cut["train"]["start"]) == [8000 * n for n in range(7)]
    assert list(cut["test"]["start"]) == [8000 * n for n in range(8, 12)]
    assert cut["train"]["stop"].max() <= cut["test"]["start"].min()
    assert all((c["stop"] - c["start"] == 16000).all() for c in cut.values())
    assert cut["train"]["duration"].eq(1.0).all()
    assert "_silence_/white_noise_0000016000" in set(cut["train"]["ID"])


def test_silence_of_the_published_noise(recipe, tmp_path, monkeypatch):
    noise = tmp_path / recipe.NOISE
    noise.mkdir()
    for name in PUBLISHED_NOISE:
        (noise / f"{name}.wav").touch()
    monkeypatch.setattr(listing, "header", lambda path: (PUBLISHED_NOISE[path.stem], 16000))
    counts = {
        hold_out: tuple(len(e) for e in recipe.silence(tmp_path, hold_out).values())
        for hold_out in (False, True)
    }
    assert counts == {False: (668, 121, 0), True: (441, 121, 222)}
    # With the words of the complete archives this is the published 12-class set.
    assert (84843 + 668, 9981 + 121, 4890) in recipe.COMPLETE["12"]
    without = (84843 + 441, 9981 + 121, 11005 + 222)  # the archive: another test set
    assert without not in recipe.COMPLETE["12"]


def test_a_table_of_the_whole_corpus_is_not_made_of_another(corpus, monkeypatch, capsys, tmp_path):
    """The paper's counts stand in the experiment file, so that its table cannot hold a part."""
    path = RECIPE.parent / "experiments" / "mvj_table1.yaml"
    folders = [f"--data_folder={corpus}", f"--output_folder={tmp_path / 'exp'}"]
    monkeypatch.setattr(sys, "argv", ["sweep.py", str(path), "--dry-run", *folders])
    with pytest.raises(SystemExit) as stop:
        sweep.main()
    said = capsys.readouterr().err
    assert stop.value.code == 1 and "85,511 train, 10,102 valid, 4,890 test" in said
    assert "no separate test archive" in said
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--scale=subset"])
    sweep.main()


@pytest.mark.parametrize("absolute", [False, True])
def test_separate_test_archive(recipe, corpus, archive, absolute):
    made = recipe.prepare(corpus, test_folder=str(corpus / archive) if absolute else archive)
    test = made.splits["test"]
    assert test["label"].value_counts().to_dict() == dict.fromkeys(recipe.CLASSES["12"], 2)
    assert test["wav"].str.startswith("$data_root/test_set/").all()
    silence = made.splits["train"].query("label == '_silence_'")
    assert len(silence) == 12
    assert "ccccccc0" not in set(made.splits["train"]["speaker"])
    assert not any("archive" in note for note in made.notes)


def test_test_archive_elsewhere_is_refused(recipe, corpus, archive, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    for folder in (str(outside), f"../{outside.name}"):
        with pytest.raises(InputError, match=r"not below .*link"):
            recipe.prepare(corpus, test_folder=folder)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        recipe.prepare(corpus, test_folder="nowhere")
    with pytest.raises(InputError, match="12 classes, not 35"):
        recipe.prepare(corpus, "35", test_folder=archive)


@pytest.mark.parametrize(("variant", "classes"), [("10", 10), ("30", 30), ("35", 35), (35, 35)])
def test_word_variants(recipe, corpus, variant, classes):
    made = recipe.prepare(corpus, variant)
    for rows in made.splits.values():
        assert rows["label"].nunique() == classes
        assert (rows["label"] == rows["word"]).all()
    assert len(made.splits["train"]) == 3 * classes


def test_v1_has_no_35_words(recipe, corpus):
    for word in recipe.ADDED:
        for file in (corpus / word).iterdir():
            file.unlink()
        (corpus / word).rmdir()
    with pytest.raises(InputError, match=r"backward, follow, forward, learn, visual.*variant 35"):
        recipe.prepare(corpus, "35")
    made = recipe.prepare(corpus, "30")
    assert "150 of 64,721 clips of v0.01: a subset" in made.notes


def test_without_lists_the_hash_decides(recipe, corpus):
    write(corpus / "yes" / "a69b9b3e_nohash_0.wav")
    for file in recipe.LISTS.values():
        (corpus / file).unlink()
    clips = recipe.find_clips(corpus, "12")
    split_of = recipe.official_split(corpus, clips)
    assert split_of["yes/a69b9b3e_nohash_0"] == "valid"
    assert split_of == {name: recipe.which_set(file.name) for name, file in clips.items()}


def test_one_list_missing(recipe, corpus):
    (corpus / "testing_list.txt").unlink()
    with pytest.raises(InputError, match=r"testing_list\.txt is missing"):
        recipe.prepare(corpus)


def test_cap_is_for_training_alone(recipe, corpus):
    whole, capped = recipe.prepare(corpus), recipe.prepare(corpus, max_per_class=2)
    assert capped.splits["train"]["label"].value_counts().to_dict() == dict.fromkeys(
        recipe.CLASSES["12"], 2
    )
    for split in ("valid", "test"):
        assert capped.splits[split].equals(whole.splits[split])
    assert "training capped at 2 a class" in capped.notes
    again, other = (recipe.prepare(corpus, max_per_class=2, seed=seed) for seed in (0, 1))
    assert again.splits["train"].equals(capped.splits["train"])
    assert not other.splits["train"].equals(capped.splits["train"])


def test_classes_may_have_caps_of_their_own(recipe, corpus):
    """The rows kept are those of the same cap for all: a class does not look at another's."""
    whole, two = recipe.prepare(corpus), recipe.prepare(corpus, max_per_class=2)
    mixed = recipe.prepare(corpus, max_per_class="2,_unknown_:all,yes:1").splits["train"]
    counts = dict.fromkeys(recipe.CLASSES["12"], 2) | {"_unknown_": 75, "yes": 1}
    assert mixed["label"].value_counts().to_dict() == counts

    def ids(rows, name):
        return list(rows[rows["label"] == name]["ID"])

    assert ids(mixed, "_unknown_") == ids(whole.splits["train"], "_unknown_")
    assert ids(mixed, "left") == ids(two.splits["train"], "left")
    note = "training capped at 2 a class (_unknown_:all,yes:1)"
    assert note in recipe.prepare(corpus, max_per_class="2,_unknown_:all,yes:1").notes
    assert recipe.prepare(corpus, max_per_class="2").splits["train"].equals(two.splits["train"])


@pytest.mark.parametrize(
    "most", ["two", "2,", "2,yes", "2,no_such:1", "2,yes:few", "2,yes:1:1", 2.5]
)
def test_a_cap_that_is_none_is_told(recipe, corpus, most):
    with pytest.raises(InputError, match=r"`max_per_class` is .*: give a number"):
        recipe.prepare(corpus, max_per_class=most)


def test_empty_class_names_class_and_split(recipe, corpus):
    (corpus / "up" / "bbbbbbb0_nohash_0.wav").unlink()
    with pytest.raises(InputError, match="empty class up in valid"):
        recipe.prepare(corpus)


def test_no_validation_noise(recipe, corpus):
    (corpus / recipe.NOISE / "running_tap.wav").unlink()
    with pytest.raises(InputError, match="empty class _silence_ in valid"):
        recipe.prepare(corpus)
    (corpus / recipe.NOISE / "white_noise.wav").unlink()
    with pytest.raises(InputError, match="_background_noise_: no noise files; restore"):
        recipe.prepare(corpus)


def test_wrong_folder_or_variant(recipe, corpus, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for folder in (empty, empty / "missing"):
        with pytest.raises(InputError, match=f"{folder}: no folder for down, go.*give the folder"):
            recipe.prepare(folder)
    with pytest.raises(InputError, match="variant 11 is unknown; the variants are 12 10 35 30"):
        recipe.prepare(corpus, "11")


def test_scale(recipe, corpus, monkeypatch):
    monkeypatch.setitem(recipe.COMPLETE, "10", {(30, 10, 10)})
    assert recipe.prepare(corpus, "10").scale == "full"
    assert recipe.prepare(corpus, "10", max_per_class=2).scale == "subset"
    (corpus / "no" / "aaaaaaa1_nohash_0.wav").unlink()
    assert recipe.prepare(corpus, "10").scale == "subset"
    (corpus / "mini.json").write_text(json.dumps({"made": True}))
    made = recipe.prepare(corpus, "10")
    assert (made.scale, made.notes) == ("mini", ())


def test_merged_words_are_few_large_classes(corpus, recipe):
    """Every command is in one class; nearly all speakers are in training, by the hash."""
    words = [word for name in recipe.MERGED for word in recipe.MERGED[name]]
    assert set(recipe.COMMANDS) < set(words) and len(words) == len(set(words))
    names = [f"{number:08x}_nohash_0.wav" for number in range(1000)]
    kept = {name: recipe.which_set(name, recipe.HELD_OUT) for name in names}
    assert 10 < list(kept.values()).count("valid") + list(kept.values()).count("test") < 30
    for split in ("valid", "test", "train"):
        name = next(name for name in names if kept[name] == split)
        for words in recipe.MERGED.values():
            write(corpus / words[-1] / name)
    made = recipe.prepare(corpus, variant="merged")
    assert set(made.splits["train"]["label"]) == set(recipe.MERGED)
    assert len(made.splits["train"]) > 10 * len(made.splits["test"])
    assert all(rows["label"].nunique() == 5 for rows in made.splits.values())
    speakers = [set(rows["speaker"]) for rows in made.splits.values()]
    assert not speakers[0] & (speakers[1] | speakers[2]) and not speakers[1] & speakers[2]
    for rows in made.splits.values():
        assert all(
            word in recipe.MERGED[name]
            for name, word in zip(rows["label"], rows["word"], strict=True)
        )
    assert made.scale == "subset" and any("words merged" in note for note in made.notes)
