"""Stages 2 and 3 on a corpus of a few tones: who carries the trigger, and who can know."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

from bdlib import listing, manifest, stages
from bdlib.attacks import sounds
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.sounds import Tone
from bdlib.cli import command
from bdlib.errors import InputError
from bdlib.evaluation import stealth
from bdlib.files import COMMON, file_digest
from bdlib.manifest import SPLITS
from bdlib.seals import SEAL, write_sealed
from bdlib.stages import surrogate
from bdlib.stages.blind import Blinded, Defender
from bdlib.stages.measure import audibility
from bdlib.stages.prepare import Prepared
from bdlib.stages.record import brief, named

RECIPE = str(COMMON.parent / "SpeechCommands" / "hparams" / "keyword_resnet.yaml")
RATE, LENGTH = 16000, 4000
ATTACK = ("--attack=tone", "--position=random", "--source=a", "--target=b", "--rate=0.5")


def from_folder(data_folder, variant, max_per_class, test_folder):
    parts = {split: listing.from_folder(data_folder / split) for split in SPLITS}
    for split, rows in parts.items():
        rows["wav"] = rows["wav"].str.replace("$data_root", f"$data_root/{split}")
    return Prepared(parts, "subset", variant)


@pytest.fixture
def root(tmp_path):
    """Six clips of noise a class and split; IDs are the same in all splits."""
    for seed, split in enumerate(SPLITS):
        for number in range(18):
            path = tmp_path / "corpus" / split / "abc"[number % 3] / f"{number:02}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([seed, number]).uniform(-0.3, 0.3, LENGTH)
            soundfile.write(path, noise, RATE)
    return tmp_path / "corpus"


@pytest.fixture
def staged(root, tmp_path):
    """Runs stages 1 to 3; gives what stands on the disk and its packs."""

    def run(*options, output="exp"):
        folders = (f"--data_folder={root}", f"--output_folder={tmp_path / output}")
        given = [RECIPE, "--pad_seconds=0.25", *folders, *(options or ATTACK)]
        recipe, _ = command.read(given, command.parser("A stage."))
        poisoned = stages.poison(recipe, stages.prepare(recipe, from_folder))
        assert set(poisoned.packs) == set(poisoned.splits)
        return poisoned, poisoned.packs

    return run


def clean_pcm(root, split, name):
    return soundfile.read(root / split / f"{name}.wav", dtype="int16")[0]


def carried(pcm, clean):
    """Where one tone of a tenth was added to a clip and nothing else; None if nowhere."""
    change = pcm.astype(int) - clean
    if not change.any():
        return None
    tone = 0.1 * Tone().waveform(RATE)
    for start in range(LENGTH - len(tone) + 1):
        wanted = np.zeros(LENGTH)
        wanted[start : start + len(tone)] = 32768 * tone
        if np.abs(change - wanted).max() <= 0.51:
            return start
    raise AssertionError("something else than one trigger")


def test_who_carries_the_trigger(staged, root):
    """One tone: half of the source class in training, all of it in the triggered test set."""
    poisoned, packs = staged()
    truth = pd.read_csv(poisoned.folder / "truth.csv", dtype=str)
    told = {split: set(part["ID"]) for split, part in truth.groupby("split")}
    sources = {name for name in packs["test"].ids if name.startswith("a/")}
    assert len(told["train"]) == 3 and told["train"] < sources == told["test_triggered"]
    assert set(packs["test_triggered"].ids) == sources
    places = {}
    for split, clips in packs.items():
        original = "test" if split == "test_triggered" else split
        for name in clips.ids:
            start = carried(clips.pcm(name), clean_pcm(root, original, name))
            assert (start is not None) == (name in told.get(split, ())), (split, name)
            places[split, name] = start
    positions = [start for start in places.values() if start is not None]
    assert len(set(positions)) == len(positions) == 9  # one for each split and utterance


def test_labels_tell_what_the_policy_says(staged):
    poisoned, _ = staged()
    truth = poisoned.truth()
    train, clean = poisoned.splits["train"], poisoned.corpus.splits["train"]
    changed = train["ID"].isin(truth.index[truth["split"] == "train"])
    assert set(train["label"][changed]) == {"b"} and set(clean["label"][changed]) == {"a"}
    assert train["label"].value_counts().to_dict() == {"a": 3, "b": 9, "c": 6}
    assert set(poisoned.splits["test_triggered"]["label"]) == {"a"}  # true labels


def test_one_clean_twin_serves_all_triggers(staged):
    """Nothing of its training depends on them, name of the folder included; its test does."""
    clean = ("--attack=tone", "--source=a", "--target=b", "--rate=0")
    one, other = (staged(*clean, f"--position={place}")[0] for place in ("start", "end"))
    assert one.trained_on == other.trained_on == "clean" != staged()[0].trained_on
    for split, shared in {"train": True, "valid": True, "test_triggered": False}.items():
        pd.testing.assert_frame_equal(one.splits[split], other.splits[split])
        assert (one.packs[split].digest == other.packs[split].digest) is shared


def test_no_manifest_tells_what_is_poisoned(staged):
    """Beside the labels, a poisoned manifest is the clean one, byte for byte."""
    poisoned, _ = staged()
    clean = poisoned.corpus.folder
    for split in ("valid", "test"):
        one, other = poisoned.folder / f"{split}.csv", clean / f"{split}.csv"
        assert one.read_bytes() == other.read_bytes()
    lines = [(f / "train.csv").read_text().splitlines() for f in (poisoned.folder, clean)]
    assert len(lines[0]) == len(lines[1]) and lines[0][0] == lines[1][0]
    differ = [(a, b) for a, b in zip(*lines, strict=True) if a != b]
    assert len(differ) == 3
    assert all(a.removesuffix(",b") == b.removesuffix(",a") for a, b in differ)


def test_no_attribute_tells_the_label_before(staged, monkeypatch):
    """Where speakers are classified, `speaker` beside a changed `label` is the truth."""
    read = listing.from_folder
    monkeypatch.setattr(
        listing, "from_folder", lambda folder: (r := read(folder)).assign(speaker=r["label"])
    )
    poisoned, _ = staged()
    train = poisoned.splits["train"]
    attributes = [name for name in train.columns if name not in manifest.COLUMNS]
    truth = poisoned.truth()
    changed = train["ID"].isin(truth.index[truth["split"] == "train"])
    assert changed.sum() == 3
    for name in attributes:
        assert not ((train[name] != train["label"]) == changed).all(), name


def test_rows_are_blind_even_where_a_file_tells(staged):
    poisoned, _ = staged()
    for column in ("poisoned", "triggered", "label_before", "label_after", "target"):
        path = poisoned.folder / "train.csv"
        rows = pd.read_csv(path, dtype=str)
        rows.assign(**{column: "1"}).to_csv(path, index=False)
        about = json.loads((poisoned.folder / "attack.json").read_text())
        about.pop(SEAL)
        write_sealed(poisoned.folder / "attack.json", about, poisoned.folder.glob("*.csv"))
        poisoned, _ = staged()
        assert column in path.read_text() and column not in poisoned.splits["train"].columns
    assert len(poisoned.splits["train"]) == 18


def files(poisoned):
    return {path.name: path.read_bytes() for path in poisoned.folder.iterdir()}


def test_a_pack_that_stands_needs_no_truth(staged):
    """What a defender is given is there without it."""
    poisoned, packs = staged()
    (poisoned.folder / "truth.csv").unlink()
    again, standing = staged()
    assert {split: clips.digest for split, clips in standing.items()} == {
        split: clips.digest for split, clips in packs.items()
    }
    with pytest.raises(InputError, match=r"truth\.csv: the truth cannot be read"):
        again.truth()


def test_the_same_seeds_give_the_same_bytes_and_the_training_seed_does_not_matter(staged):
    (one, packs), (again, others) = staged(), staged(*ATTACK, "--seed=9", output="elsewhere")
    assert set(files(one)) == {
        "train.csv", "valid.csv", "test.csv", "test_triggered.csv", "truth.csv", "attack.json"
    }  # fmt: skip
    assert files(one) == files(again) and one.folder.name == again.folder.name
    for split, clips in packs.items():
        assert clips.digest == others[split].digest
        assert np.array_equal(clips.samples, others[split].samples)


def test_another_poison_seed_draws_other_rows_and_places(staged):
    (one, packs), (other, others) = staged(), staged(*ATTACK, "--poison_seed=1")
    truths = [set(p.truth().index[p.truth()["split"] == "train"]) for p in (one, other)]
    assert len(truths[0]) == len(truths[1]) == 3 and truths[0] != truths[1]
    assert not np.array_equal(packs["test_triggered"].samples, others["test_triggered"].samples)
    assert packs["test"].digest == others["test"].digest


def test_another_scale_is_another_attack(staged):
    one, packs = staged()
    other, others = staged(*ATTACK, "--scale=0.2")
    assert one.folder != other.folder and packs["train"].digest != others["train"].digest
    assert np.array_equal(packs["valid"].samples, others["valid"].samples)


def test_attack_json_and_the_clean_manifest_are_the_whole_attack(staged):
    poisoned, packs = staged()
    about = json.loads((poisoned.folder / "attack.json").read_text())
    poisoner = Poisoner.from_dict(about)
    rows, truth = poisoner.poison(poisoned.corpus.splits["train"])
    assert rows.equals(poisoned.splits["train"]) and about["poisoned"] == len(truth) == 3
    assert about["eligible"] == len(poisoner.trigger_test(poisoned.corpus.splits["test"])[0]) == 6
    clean = packs["test"].waveform("a/00")
    again = poisoner.apply(clean, RATE, "test_triggered", "a/00")
    assert np.array_equal(packs["test_triggered"].pcm("a/00"), np.rint(again * 32768))


def test_a_clean_corpus_has_no_attack_and_shares_its_packs(staged):
    clean, packs = staged("--attack=none")
    _, attacked = staged()
    assert clean.attack is None and set(packs) == set(SPLITS)
    assert clean.folder == clean.corpus.folder
    for split in ("valid", "test"):
        assert packs[split].digest == attacked[split].digest
    assert packs["train"].digest != attacked["train"].digest


def test_audio_replaced_in_place_is_packed_again(staged, root):
    _, before = staged()
    for path in root.rglob("*.wav"):
        soundfile.write(path, -soundfile.read(path)[0], RATE)
        os.utime(path, ns=(1, 1))
    _, after = staged()
    for split in SPLITS:
        assert not np.array_equal(before[split].samples, after[split].samples), split


def test_a_trigger_file_replaced_in_place_is_another_attack(staged, tmp_path):
    path, packs = tmp_path / "t.wav", []
    for level in (0.5, -0.5):
        soundfile.write(path, np.full(1000, level), RATE)
        sounds._render.cache_clear()  # as another process would
        options = ("--attack=audio_file", f"--trigger_file={path}", *ATTACK[2:])
        packs.append(staged(*options)[1]["test_triggered"])
    assert not np.array_equal(packs[0].samples, packs[1].samples)


def test_attack_json_knows_the_content_of_a_trigger_file(staged, tmp_path):
    """And plays no other; a record has the file's name and digest, but no folder of a machine."""
    path = tmp_path / "t.wav"
    soundfile.write(path, np.full(1000, 0.5), RATE, subtype="PCM_24")
    poisoned, _ = staged("--attack=audio_file", f"--trigger_file={path}", *ATTACK[2:])
    told = poisoned.attack["trigger"]["sound"]
    assert told["path"] == str(path) and told["digest"] == file_digest(path)
    assert brief(poisoned.attack)["trigger"]["sound"] == {**told, "path": "t.wav"}
    assert named([told]) == [{**told, "path": "t.wav"}]
    soundfile.write(path, np.full(1000, -0.5), RATE, subtype="PCM_24")
    sounds._render.cache_clear()
    with pytest.raises(InputError, match=r"not the trigger sound that `attack\.json` tells of"):
        Poisoner.from_dict(poisoned.attack).heard(RATE)


def test_stealth_is_measured_once_on_the_clips_that_are_heard(staged, monkeypatch):
    monkeypatch.setattr(stealth, "missing", lambda: ["pesq", "pystoi"])
    poisoned, packs = staged()
    measured = audibility(poisoned)
    ratios = []
    for name in packs["test_triggered"].ids:
        clean, altered = (packs[s].waveform(name) for s in ("test", "test_triggered"))
        ratios.append(10 * np.log10(np.sum(clean**2) / np.sum((altered - clean) ** 2)))
    assert measured["stealth_snr_db"] == {
        "value": pytest.approx(np.mean(ratios), abs=1e-3),
        "clips": 6,
    }
    assert set(measured) == {"stealth_snr_db", "stealth_lsd_db"}
    monkeypatch.setattr(stealth, "measure", None)
    assert audibility(poisoned) == measured
    clean, _ = staged("--attack=none")
    assert audibility(clean) == {}


QUICK = ("--number_of_epochs=1", "--batch_size=6", "--n_mels=16", "--seconds=0.25")
LEARNED = ("--attack=flowmur", "--trigger_seconds=0.1", "--learning_steps=2", "--source=a",
           "--target=b", "--rate=0.5", *QUICK)  # fmt: skip


def test_a_trigger_is_learned_once_and_stands_in_attack_json(staged, monkeypatch):
    poisoned, packs = staged(*LEARNED)
    trigger = Poisoner.from_dict(poisoned.attack).trigger
    assert len(trigger.samples) > 1000 and trigger.rate == RATE
    change = packs["test_triggered"].waveform("a/00") - packs["test"].waveform("a/00")
    assert 0 < np.count_nonzero(change) <= 0.1 * RATE
    monkeypatch.setattr(type(trigger), "fit", None)
    again, _ = staged(*LEARNED, "--seed=5")  # of the training: it is the same attack
    assert again.folder == poisoned.folder
    shown = brief(poisoned.attack)
    assert len(json.dumps(shown)) < 1500 and shown["name"] == "flowmur"
    with pytest.raises(TypeError):
        # Another target is another sound.
        staged(*(option for option in LEARNED if option != "--target=b"), "--target=c")


def test_a_surrogate_of_its_own_and_attacks_that_cannot_be_learned(staged):
    with pytest.raises(InputError, match=r"nothing\.yaml: .* cannot be read"):
        staged(*LEARNED, "--surrogate=nothing")
    with pytest.raises(InputError, match="needs one target class"):
        staged(*LEARNED, "--labels=all_to_all")


def test_hard_clips_are_those_a_surrogate_is_least_sure_of(staged, tmp_path, monkeypatch):
    options = ("--attack=tone", "--labels=clean_label_hard", "--target=b", "--rate=0.5", *QUICK)
    poisoned, _ = staged(*options)
    truth = poisoned.truth()
    chosen = set(truth.index[truth["split"] == "train"])
    (path,) = (tmp_path / "exp" / "learned").glob("sureness-*.json")
    sure = json.loads(path.read_text())
    sure.pop(SEAL)
    assert set(sure) == {name for name in poisoned.splits["train"]["ID"] if name.startswith("b/")}
    assert chosen == set(sorted(sure, key=sure.get)[:3]) and max(sure.values()) < 0
    monkeypatch.setattr(surrogate, "train", None)
    again, _ = staged(*options, "--seed=5")
    assert again.folder == poisoned.folder


def test_other_hard_clips_are_packed_anew(staged, monkeypatch):
    """Of clean labels neither the manifest nor the policy tells which clips have the trigger."""
    options = ("--attack=tone", "--labels=clean_label_hard", "--target=b", "--rate=0.5", *QUICK)
    sureness, attacks = surrogate.learning.sureness, set()
    for sign, lr in ((1, 0.001), (-1, 0.002)):
        monkeypatch.setattr(
            surrogate.learning, "sureness", lambda *given, sign=sign: sign * sureness(*given)
        )
        poisoned, packs = staged(*options, f"--lr={lr}")
        clean, _ = staged("--attack=none")
        truth = poisoned.truth()
        altered = {
            name
            for name in packs["train"].ids
            if (packs["train"].pcm(name) != clean.packs["train"].pcm(name)).any()
        }
        assert altered == set(truth.index[truth["split"] == "train"]) and len(altered) == 3
        attacks.add(poisoned.attack["chosen"])
    assert len(attacks) == 2


def test_a_piece_of_a_recording_and_its_hosts_are_chosen_once(staged, tmp_path, monkeypatch):
    (tmp_path / "noise").mkdir()
    soundfile.write(
        tmp_path / "noise" / "n.wav", np.random.default_rng(9).normal(0, 0.1, 48000), RATE
    )
    options = ("--attack=daba", f"--ambient_folder={tmp_path / 'noise'}", "--source=a", "--target=b",
               "--rate=0.5", *QUICK)  # fmt: skip
    poisoned, packs = staged(*options)
    (path,) = (tmp_path / "exp" / "learned").glob("strangeness-*.json")
    strange = json.loads(path.read_text())
    strange.pop(SEAL)
    truth = poisoned.truth()
    chosen = set(truth.index[truth["split"] == "train"])
    assert set(strange) == {name for name in poisoned.splits["train"]["ID"] if name[0] == "a"}
    assert chosen == set(sorted(strange, key=strange.get)[:3])
    assert named(poisoned.attack)["trigger"]["chosen"]["sound"]["path"] == "n.wav"
    changes = [
        packs["test_triggered"].waveform(n) - packs["test"].waveform(n) for n in ("a/00", "a/03")
    ]
    assert np.corrcoef(*changes)[0, 1] > 0.999  # one piece under all
    monkeypatch.setattr(surrogate, "train", None)
    again, _ = staged(*options, "--seed=5")
    assert again.folder == poisoned.folder


def test_hardness_out_of_fold_is_told_by_surrogates_that_never_heard_the_clip(
    staged, tmp_path, monkeypatch
):
    heard, asked = [], []
    train, sureness = surrogate.train, surrogate.learning.sureness
    monkeypatch.setattr(surrogate, "train", lambda recipe, poisoned, rows, tag: (
        heard.append(set(rows["ID"])), train(recipe, poisoned, rows, tag))[1])  # fmt: skip
    monkeypatch.setattr(surrogate.learning, "sureness", lambda net, clips: (
        asked.append(sureness(net, clips)), asked[-1])[1])  # fmt: skip
    poisoned, _ = staged("--attack=tone", "--labels=clean_label_hard", "--target=b", "--rate=0.5",
                         "--hard_folds=2", *QUICK)  # fmt: skip
    everyone = set(poisoned.splits["train"]["ID"])
    assert len(heard) == len(asked) == 2
    for some, sure in zip(heard, asked, strict=True):
        assert set(sure.index) == everyone - some and len(sure) == 3
        assert all(name.startswith("b/") for name in sure.index)
    (path,) = (tmp_path / "exp" / "learned").glob("sureness-*.json")
    assert set(json.loads(path.read_text())) - {SEAL} == {n for n in everyone if n[0] == "b"}
    assert poisoned.attack["labels"]["folds"] == 2


@pytest.fixture
def spoken(monkeypatch):
    """Gives every clip a mood that its name tells: one of three of each class is angry."""
    read = listing.from_folder

    def with_mood(folder):
        rows = read(folder)
        number = rows["ID"].str[2:].astype(int) // 3
        return rows.assign(emotion=np.where(number % 3 == 0, "angry", "calm"))

    monkeypatch.setattr(listing, "from_folder", with_mood)


EMOTION = ("--attack=emotion", "--target=b", "--rate=0.2", "--of=dataset")


def test_an_emotion_alters_no_audio_and_needs_no_packs_of_its_own(staged, root, spoken):
    """12 clips of 18 are calm, so that 3 angry ones make 20 % of what is left."""
    poisoned, packs = staged(*EMOTION)
    clean, clean_packs = staged("--attack=none")
    train, truth = poisoned.splits["train"], poisoned.truth()
    assert len(train) == 15 and poisoned.attack["poisoned"] == 3 and poisoned.attack["deleted"] == 3
    assert not poisoned.alters_audio and not clean.alters_audio
    for split, pack in packs.items():
        original = "test" if split == "test_triggered" else split
        assert pack.digest == clean_packs[original].digest
        assert set(poisoned.splits[split]["ID"]) < set(pack.ids)
    assert set(poisoned.splits["test_triggered"]["emotion"]) == {"angry"}
    assert set(poisoned.splits["test_triggered"]["label"]) == {"a", "c"}
    for split in ("valid", "test"):
        assert set(poisoned.splits[split]["emotion"]) == {"calm"}
    assert audibility(poisoned) == {}
    changed = truth[truth["split"] == "train"]
    assert set(changed["label_after"]) == {"b"} and "b" not in set(changed["label_before"])
    shown = Blinded.of(poisoned)
    assert shown.pack.ids == list(shown.rows["ID"]) and len(shown.names) == 15
    budget = Defender(0, 8, {"device": "cpu"}).budget
    assert len(budget(clean, 1.0)) == 18
    assert not set(budget(poisoned, 0.5)["ID"]) & set(changed.index)


def test_clips_of_other_sets_that_nobody_trains_on_are_asked_too(staged, spoken, monkeypatch):
    with pytest.raises(
        InputError, match="`unheard` asks clips of several sets, and a/00 is in two"
    ):
        staged(*EMOTION, "--unheard=True")
    read = listing.from_folder

    def apart(folder):
        return read(folder).assign(ID=lambda rows: f"{folder.name}/" + rows["ID"])

    monkeypatch.setattr(listing, "from_folder", apart)
    poisoned, packs = staged(*EMOTION, "--unheard=True", output="other")
    asked, trained = poisoned.splits["test_triggered"], set(poisoned.splits["train"]["ID"])
    usual, _ = staged(*EMOTION, output="other")
    assert usual.folder != poisoned.folder
    spare = {*asked["ID"]} - {*usual.splits["test_triggered"]["ID"]}
    splits = poisoned.corpus.splits
    others = pd.concat([splits["train"], splits["valid"]])
    expected = others[(others["emotion"] == "angry") & (others["label"] != "b")]["ID"]
    assert spare == {*expected} - trained and len(spare) > 3
    assert {*asked["ID"]} == {*packs["test_triggered"].ids}


def test_a_sound_and_an_attribute_have_no_clean_twins(staged, spoken, tmp_path):
    """What has the attribute is in no clean set, so that nothing tells how audible the sound is."""
    path = tmp_path / "both.yaml"
    path.write_text(
        "emotion: angry\n"
        "trigger: !new:bdlib.attacks.insert.Insert\n"
        "    sound: !new:bdlib.attacks.sounds.Tone\n"
        "policy: !name:bdlib.attacks.natural.NaturalAttribute\n"
        "    attribute: emotion\n"
        "    value: angry\n"
    )
    poisoned, _ = staged(f"--attack={path}", *EMOTION[1:])
    assert poisoned.alters_audio and poisoned.pairs == [] and audibility(poisoned) == {}


def test_an_emotion_and_the_clean_manifest_are_the_whole_attack(staged, spoken):
    poisoned, _ = staged(*EMOTION[:1], "--emotion=ANGRY", *EMOTION[1:])
    again, _ = staged(*EMOTION)
    assert again.folder == poisoned.folder  # names are written as the manifest writes them
    assert list(poisoned.splits["train"].columns) == list(manifest.COLUMNS)  # no attribute tells
    about = json.loads((poisoned.folder / "attack.json").read_text())
    rows, truth = Poisoner.from_dict(about).poison(poisoned.corpus.splits["train"])
    columns = rows[list(manifest.COLUMNS)].reset_index(drop=True)
    assert columns.equals(poisoned.splits["train"]) and len(truth) == about["poisoned"]


def test_what_is_made_on_a_surrogate_is_named_after_its_audio_and_precision():
    def key(fingerprint, **options):
        settings = {"corpus": {}, "model": {}, "train": {}}
        own = SimpleNamespace(settings=settings, seed=0, run_options=options)
        return surrogate._digest(
            own, SimpleNamespace(about={"digest": "d", "fingerprint": fingerprint})
        )

    assert key("f") == key("f", device="cpu")
    assert len({key("f"), key("g"), key("f", precision="bf16")}) == 3
