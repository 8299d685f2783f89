"""The three mini corpora: layout, counts, and the same bytes for the same seed."""

import hashlib
import itertools
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import soundfile
from sklearn.linear_model import LogisticRegression

from bdlib.mini import esd, ravdess, speech_commands

pytest.importorskip("espeakng_loader", reason='needs `pip install -e ".[mini]"`')

TINY = {
    "SpeechCommands": lambda folder, seed: speech_commands.write(folder, seed, (2, 1, 1)),
    "ESD": lambda folder, seed: esd.write(folder, seed, speakers=("0001", "0011"), texts=3),
    "RAVDESS": lambda folder, seed: ravdess.write(folder, seed, actors=1),
}


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module", params=list(TINY))
def tiny(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini") / request.param
    counts = TINY[request.param](folder, 0)
    return SimpleNamespace(dataset=request.param, folder=folder, counts=counts)


def test_same_seed_same_bytes(tiny, tmp_path):
    TINY[tiny.dataset](tmp_path / "again", 0)
    assert digests(tmp_path / "again") == digests(tiny.folder)


def test_other_seed_other_bytes(tiny, tmp_path):
    TINY[tiny.dataset](tmp_path / "other", 1)
    ours, others = digests(tiny.folder), digests(tmp_path / "other")
    wavs = {digest for name, digest in ours.items() if name.endswith(".wav")}
    assert not wavs & set(others.values())


@pytest.mark.parametrize("seed", [0, 1])
def test_speech_commands_counts(seed):
    clips = speech_commands.plan(seed, (34, 5, 9))
    assert len({clip.path for clip in clips}) == len(clips)
    count = Counter((clip.voice.split, clip.word) for clip in clips)
    for word in speech_commands.COMMANDS:
        assert 50 <= count["train", word] <= 70
        assert 15 <= count["test", word] <= 20
    unknown = {
        split: [count[split, word] for word in speech_commands.OTHERS]
        for split in ("train", "test")
    }
    assert 580 <= sum(unknown["train"]) <= 640
    assert sum(unknown["test"]) >= 60
    assert max(unknown["train"]) - min(unknown["train"]) <= 1
    splits = {}
    for clip in clips:
        splits.setdefault(clip.voice.speaker, set()).add(clip.voice.split)
    assert len(splits) == 48
    assert all(len(of) == 1 for of in splits.values())


@pytest.mark.parametrize("tiny", ["SpeechCommands"], indirect=True)
def test_speech_commands_layout(tiny):
    clips = sorted(tiny.folder.glob("[a-z]*/*.wav"))
    names = [path.relative_to(tiny.folder).as_posix() for path in clips]
    words = {*speech_commands.COMMANDS, *speech_commands.OTHERS}
    assert {path.parent.name for path in clips} == words
    assert all(re.fullmatch(r"[a-z]+/[0-9a-f]{8}_nohash_\d\.wav", name) for name in names)
    valid, test = (
        (tiny.folder / f"{split}_list.txt").read_text().split()
        for split in ("validation", "testing")
    )
    assert set(valid) | set(test) < set(names)
    assert len(valid) == tiny.counts["valid"] > 0
    assert len(test) == tiny.counts["test"] > 0
    assert sum(tiny.counts.values()) - 6 == len(names)
    infos = [soundfile.info(path) for path in clips]
    formats = {(info.samplerate, info.channels, info.subtype) for info in infos}
    assert formats == {(16000, 1, "PCM_16")}
    lengths = np.array([info.frames for info in infos])
    assert lengths.max() == 16000
    assert lengths.min() > 14000
    assert 0.8 < np.mean(lengths == 16000) < 1


@pytest.mark.parametrize("tiny", ["SpeechCommands"], indirect=True)
def test_noise_files(tiny):
    paths = sorted((tiny.folder / "_background_noise_").glob("*.wav"))
    assert [path.stem for path in paths] == [
        *("doing_the_dishes", "dude_miaowing", "exercise_bike"),
        *("pink_noise", "running_tap", "white_noise"),
    ]
    spectra, pieces = [], {}
    for path in paths:
        waveform, rate = soundfile.read(path)
        assert rate == 16000
        pieces[path.stem] = len(range(0, len(waveform) - 16000, 8000))
        power = scipy.signal.welch(waveform, rate, nperseg=256)[1][1:]
        spectra.append(10 * np.log10(power / power.sum()))
    assert pieces.pop("running_tap") == 10
    assert sum(pieces.values()) == 93
    for one, other in itertools.combinations(spectra, 2):
        assert np.abs(one - other).mean() > 2  # dB


def test_words_are_learned_across_voices():
    features, labels, voices = [], [], []
    for index, voice in enumerate(speech_commands.cast(0, (18, 1, 1))):
        for word in ("yes", "no", "stop"):
            waveform = speech_commands.render(speech_commands.Clip(voice, word, 0), 0)
            power = np.abs(scipy.signal.stft(waveform, 16000, nperseg=512)[2][:128]) ** 2
            logs = np.log([band.mean(0) + 1e-6 for band in np.array_split(power, 16)])
            loudest = logs[:, np.argsort(logs.sum(0))[-20:]]
            features.append(np.concatenate([loudest.mean(1), loudest.std(1)]))
            labels.append(word)
            voices.append(index)
    features, labels = scipy.stats.zscore(features), np.array(labels)
    heard = np.array(voices) < 14
    probe = LogisticRegression(max_iter=500).fit(features[heard], labels[heard])
    assert probe.score(features[~heard], labels[~heard]) >= 0.8


@pytest.mark.parametrize("nested", [False, True])
def test_esd_layout(tmp_path, nested):
    counts = esd.write(tmp_path, 0, nested=nested, speakers=("0001", "0011"), texts=7)
    assert counts == {"Chinese": 35, "English": 35}
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.wav")}
    assert len(names) == 70
    part = "train/" if nested else ""
    assert f"0011/Neutral/{part}0011_000007.wav" in names
    assert f"0011/Angry/{part}0011_000357.wav" in names
    assert f"0001/Surprise/{part}0001_001407.wav" in names
    if nested:
        parts = Counter(name.split("/")[2] for name in names)
        assert parts == {"evaluation": 20, "test": 30, "train": 20}
    for speaker, script in (("0001", r"[\u4e00-\u9fff]+。"), ("0011", r"[A-Z][A-Za-z ]+\.")):
        lines = (tmp_path / speaker / f"{speaker}.txt").read_text("utf-8").splitlines()
        rows = [line.split("\t") for line in lines]
        texts = {of: [text for _, text, label in rows if label == of] for of in esd.EMOTIONS}
        assert all(texts[of] == texts["Neutral"] for of in esd.EMOTIONS)
        assert all(re.fullmatch(script, text) for text in texts["Neutral"])
        stems = {Path(name).stem for name in names if name.startswith(speaker)}
        assert stems == {name for name, _, _ in rows}
    info = soundfile.info(tmp_path / sorted(names)[0])
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert 1.2 < info.duration < 4


def test_texts_are_all_different():
    assert len(set(esd.ENGLISH)) == len(set(esd.CHINESE)) == 24


@pytest.mark.parametrize("tiny", ["RAVDESS"], indirect=True)
def test_ravdess_layout(tiny):
    paths = sorted(tiny.folder.glob("Actor_01/*.wav"))
    assert tiny.counts == {"male": 60, "female": 0}
    assert len(paths) == 60
    assert all(re.fullmatch(r"03-01-0[1-8](-0[12]){3}-01", path.stem) for path in paths)
    assert not list(tiny.folder.glob("Actor_01/03-01-01-02-*"))
    infos = {path.stem: soundfile.info(path) for path in paths}
    assert {info.samplerate for info in infos.values()} == {48000}
    stereo = [stem for stem, info in infos.items() if info.channels == 2]
    assert stereo == ["03-01-02-01-01-02-01"]
    for path in paths:
        waveform, rate = soundfile.read(path, always_2d=True)
        assert 2 < len(waveform) / rate < 4.5
        assert np.abs(waveform).max() < 0.96
        ends = np.concatenate([waveform[: rate // 3], waveform[-rate // 3 :]])
        assert np.mean(ends**2) < np.mean(waveform**2) / 1000
