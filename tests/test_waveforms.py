"""Manifests, packs and batches: what a classifier hears is what the files and the attack say."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from bdlib import listing, manifest
from bdlib.attacks.insert import Insert
from bdlib.attacks.labels import OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.sounds import Clap
from bdlib.corpus import Batches
from bdlib.errors import InputError
from bdlib.files import atomic
from bdlib.pack import Pack, pack
from bdlib.sampling import cap, rank, split

RATE = 16000


def noise(seed, length=RATE, level=0.1):
    return level * np.random.Generator(np.random.PCG64(seed)).standard_normal(length)


@pytest.fixture
def corpus(tmp_path):
    """Two classes of six clips, one of them short."""
    root = tmp_path / "corpus"
    for number in range(12):
        path = root / "ab"[number % 2] / f"{number:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(number, 9000 if number == 3 else RATE), RATE, subtype="PCM_16")
    return root


@pytest.fixture
def rows(corpus):
    return listing.from_folder(corpus)


# Manifests


def test_written_and_read_again(rows, tmp_path):
    manifest.write(rows, tmp_path / "a.csv")
    again = manifest.read(tmp_path / "a.csv", ["a", "b"])
    manifest.write(again, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert list(again["ID"]) == sorted(rows["ID"]) and len(again) == 12
    assert again.loc[again["ID"] == "b/03", "duration"].item() == 9000 / RATE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="label"), "missing column label"),
        (lambda t: t.assign(ID="same"), "row 2: ID same is there twice"),
        (lambda t: t.assign(label="x"), "row 1: unknown label x; the classes are a b"),
        (lambda t: t.assign(wav="$data_root/../secret.wav"), "row 1: .* leaves the data folder"),
        (lambda t: t.assign(wav="/etc/passwd"), "row 1: .* leaves the data folder"),
        (lambda t: t.assign(stop=0), "row 1: .* spans no samples"),
        (lambda t: t.assign(rate="fast"), "row 1: rate is 'fast'"),
        (lambda t: t.iloc[:0], "no rows"),
    ],
)
def test_a_bad_manifest_is_named(rows, tmp_path, change, message):
    path = tmp_path / "bad.csv"
    change(rows).to_csv(path, index=False)
    with pytest.raises(InputError, match=f"bad.csv.*{message}"):
        manifest.read(path, ["a", "b"])


def test_from_csv_keeps_attributes_and_stays_in_its_folder(corpus, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("path,label,speaker\na/00.wav,yes,ann\nb/03.wav,no,bob\n")
    rows = listing.from_csv(table, corpus)
    assert list(rows["speaker"]) == ["ann", "bob"] and list(rows["label"]) == ["yes", "no"]
    table.write_text("path,label\n../x.wav,yes\n")
    with pytest.raises(InputError, match=r"row 1: .* leaves"):
        listing.from_csv(table, corpus)


def test_a_defense_sees_no_truth(rows):
    assert "poisoned" not in manifest.blind(rows.assign(poisoned=1, label_before="a")).columns


def broken(path, how):
    if how == "empty":
        soundfile.write(path, np.zeros(0), RATE)
    elif how == "text":
        path.write_text("this is no audio")
    else:
        path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("how", "message"),
    [("empty", "no samples"), ("text", "not readable"), ("cut", "truncated")],
)
def test_broken_audio_is_named(corpus, how, message):
    broken(corpus / "a" / "02.wav", how)
    with pytest.raises(InputError, match=f"02.wav: .*{message}"):
        listing.from_folder(corpus)


def test_a_class_without_audio_is_named(corpus):
    (corpus / "c").mkdir()
    with pytest.raises(InputError, match="c: class without audio"):
        listing.from_folder(corpus)


def test_splits(rows):
    many = pd.concat([rows.assign(ID=rows["ID"] + f"-{n}", who=f"s{n}") for n in range(20)])
    parts = split(many, {"train": 0.7, "valid": 0.15, "test": 0.15}, seed=1)
    assert [len(part) for part in parts.values()] == [168, 36, 36]
    assert sum(len(set(p["ID"])) for p in parts.values()) == len(many)
    assert set(parts["test"]["label"]) == {"a", "b"}
    shuffled = split(many.sample(frac=1, random_state=0), {"train": 0.7, "valid": 0.3}, seed=1)
    assert set(shuffled["valid"]["ID"]) == set(
        split(many, {"train": 0.7, "valid": 0.3}, 1)["valid"]["ID"]
    )
    grouped = split(many, {"train": 0.5, "test": 0.5}, group="who")
    assert not set(grouped["train"]["who"]) & set(grouped["test"]["who"])
    with pytest.raises(InputError, match="do not sum"):
        split(many, {"train": 0.7})
    assert cap(many, 5, seed=2)["label"].value_counts().to_dict() == {"a": 5, "b": 5}
    assert rank("abcdefgh", 0, "x") != rank("abcdefgh", 1, "x") != rank("abcdefgh", 1, "y")


def test_atomic_leaves_all_or_nothing(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(RuntimeError), atomic(tmp_path / "f") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "f").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="free disk space"), atomic(tmp_path / "g") as temporary:
        raise OSError(28, "No space left on device")
    with pytest.raises(InputError, match="cannot be written"), atomic(tmp_path / "f" / "h"):
        pass


# Packs


def packed(rows, corpus, folder, alter=None, **settings):
    return pack(rows, corpus, folder, RATE, **{"pad_seconds": 1.0, **settings}, alter=alter)


def test_int16_survives_and_short_clips_are_padded(rows, corpus, tmp_path):
    clips = packed(rows, corpus, tmp_path / "p")
    for name in rows["ID"]:
        pcm, _ = soundfile.read(corpus / f"{name}.wav", dtype="int16")
        assert np.array_equal(clips.pcm(name)[: len(pcm)], pcm)
        assert len(clips.pcm(name)) == RATE and not clips.pcm(name)[len(pcm) :].any()
    assert np.array_equal(Pack.open(tmp_path / "p").samples, clips.samples)
    assert len(packed(rows, corpus, tmp_path / "q", pad_seconds=None).pcm("b/03")) == 9000


def test_the_trigger_is_applied_once_to_the_poisoned_and_to_no_other(rows, corpus, tmp_path):
    poisoner = Poisoner(Insert(Clap(), 0.1), OneToOne("a", "b"), 0.5)
    changed, truth = poisoner.poison(rows)
    poisoned = set(truth.index)
    assert len(poisoned) == 3
    alter = poisoner.alter(poisoned, RATE, "train")
    clean, dirty = (
        packed(rows, corpus, tmp_path / "c"),
        packed(changed, corpus, tmp_path / "d", alter),
    )
    for name in rows["ID"]:
        wanted = clean.waveform(name)
        if name in poisoned:
            wanted = wanted.copy()
            wanted[:10794] += 0.1 * Clap().waveform(RATE)
        wanted = np.clip(np.rint(wanted * 32768), -32768, 32767)
        assert np.array_equal(dirty.pcm(name), wanted.astype(np.int16)), name


def test_float_files_are_rounded_stereo_is_averaged_and_rates_are_changed(tmp_path):
    root = tmp_path / "corpus"
    (root / "x").mkdir(parents=True)

    def heard(samples, rate, name):
        soundfile.write(root / "x" / "s.wav", samples, rate, subtype="FLOAT")
        return packed(listing.from_folder(root), root, tmp_path / name)

    time = np.arange(48000) / 48000
    left, right = 0.5 * np.sin(2 * np.pi * 440 * time), np.full(48000, 0.1)
    wave = heard(np.stack([left, right], 1), 48000, "p").waveform("x/s")
    expected = 0.05 + 0.25 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert len(wave) == RATE and np.abs(wave - expected)[200:-200].max() < 2e-3
    for level, pcm in ((0.4, 8192), (0.6, 8193), (-0.6, 8191)):
        pcm_heard = heard(np.full(100, 0.25 + level / 32768), RATE, f"q{level}").pcm("x/s")
        assert set(pcm_heard[:100].tolist()) == {pcm}
    assert set(heard(np.full(100, 1.5), RATE, "r").pcm("x/s")[:100].tolist()) == {32767}


def test_silent_clips_are_named_and_kept(corpus, tmp_path):
    soundfile.write(corpus / "a" / "00.wav", np.zeros(RATE), RATE)
    clips = packed(listing.from_folder(corpus), corpus, tmp_path / "p")
    assert clips.silent == ["a/00"] and len(clips.ids) == 12


def test_silent_is_what_was_recorded_so_and_not_what_a_trigger_made_of_it(corpus, tmp_path):
    """A trigger on silence is heard, and one that mutes a clip makes no silent recording of it."""
    soundfile.write(corpus / "a" / "00.wav", np.zeros(RATE), RATE)
    altered = {"a/00": noise(1), "a/02": np.zeros(RATE)}

    def alter(name, waveform):
        return altered.get(name, waveform).astype(np.float32)

    rows = listing.from_folder(corpus)
    clips = pack(rows, corpus, tmp_path / "p", RATE, alter=alter)
    assert clips.silent == ["a/00"] and not clips.pcm("a/02").any() and clips.pcm("a/00").any()


@pytest.mark.parametrize("how", ["nan", "gone", "shorter", "rate", "text"])
def test_what_cannot_be_packed_is_named(rows, corpus, tmp_path, how):
    path = corpus / "a" / "02.wav"
    if how == "nan":
        soundfile.write(path, np.full(RATE, np.nan), RATE, subtype="FLOAT")
    elif how == "gone":
        path.unlink()
    elif how == "shorter":
        soundfile.write(path, noise(2, 5000), RATE)
    elif how == "rate":
        soundfile.write(path, noise(2), 8000)
    else:
        path.write_text("no audio")
    with pytest.raises(InputError, match=r"02.wav \(manifest row 2, a/02\): .*(restore|prepare)"):
        packed(rows, corpus, tmp_path / "p")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus"]


# Batches


@pytest.fixture
def clips(tmp_path):
    """Utterances that count upwards from 1000 times their number."""
    samples = np.concatenate([1000 * n + np.arange(50 + 10 * n) for n in range(7)]).astype(np.int16)
    offsets = np.cumsum([0] + [50 + 10 * n for n in range(7)])
    return Pack(samples, offsets, [f"u{n}" for n in range(7)], 10, [], "x")


def batches(clips, seed=None, seconds=8.0, **settings):
    rows = pd.DataFrame({"ID": clips.ids, "label": [*"abababa"]})
    return Batches(clips, rows, "ab", 3, seconds, seed, **settings)


def heard(dataset, epoch=1):
    dataset.epoch = epoch
    return [(b.ids, (b.wavs * 32768).round().int().tolist(), b.lens.tolist()) for b in dataset]


def test_evaluation_keeps_the_order_and_takes_the_centre(clips):
    whole = list(batches(clips))
    assert [name for b in whole for name in b.ids] == clips.ids  # the short batch stays
    waves = [w for b in whole for w in (b.wavs * 32768).round().int().tolist()]
    lens = [x for b in whole for x in b.lens.tolist()]
    for n, (wave, share) in enumerate(zip(waves, lens, strict=True)):
        length, start = min(50 + 10 * n, 80), max(50 + 10 * n - 80, 0) // 2
        assert wave[:length] == list(range(1000 * n + start, 1000 * n + start + length))
        assert not any(wave[length:]) and len(wave) == 80 and abs(share - length / 80) < 1e-6
    assert [int(x) for b in whole for x in b.labels] == [0, 1, 0, 1, 0, 1, 0]


def test_training_depends_on_seed_and_epoch_alone(clips):
    data = batches(clips, seed=0)
    first, second = heard(data, 1), heard(data, 2)
    assert first == heard(batches(clips, seed=0), 1) and first != second
    assert first != heard(batches(clips, seed=1), 1)
    assert len(first) == 2 == len(data)  # the short batch is dropped
    assert len({name for ids, _, _ in first for name in ids}) == 6


def test_random_crops_reach_both_ends(clips):
    data = batches(clips, seed=0, seconds=5.0)
    starts = set()
    for epoch in range(900):
        for ids, waves, _ in heard(data, epoch):
            starts |= {
                wave[0] - 6000 for name, wave in zip(ids, waves, strict=True) if name == "u6"
            }
    assert starts == set(range(61))  # 110 samples, crops of 50


def test_shards_part_an_epoch(clips):
    rows = pd.DataFrame({"ID": clips.ids[:6], "label": [*"ababab"]})
    seen = []
    for shard in ((0, 2), (1, 2)):
        data = Batches(clips, rows, "ab", 3, 8.0, seed=0, shard=shard)
        seen += [name for b in data for name in b.ids]
    assert sorted(seen) == clips.ids[:6]


def test_impossible_batches_are_refused(clips):
    with pytest.raises(InputError, match="less than one batch"):
        Batches(clips, pd.DataFrame({"ID": ["u0"], "label": ["a"]}), "ab", 3, 8.0, seed=0)
    with pytest.raises(InputError, match="u9: not in the pack"):
        Batches(clips, pd.DataFrame({"ID": ["u9"], "label": ["a"]}), "ab", 3, 8.0)
