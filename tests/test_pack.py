"""Packs: pieces of long files, every trigger of the recipes, rounding, and files of many kinds."""

import numpy as np
import pytest
import soundfile

from bdlib import listing
from bdlib.attacks.labels import OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.pack import Pack, pack
from bdlib.stages.document import common

RATE = 16000


def noise(seed, length=RATE):
    return 0.2 * np.random.Generator(np.random.PCG64(seed)).standard_normal(length)


@pytest.fixture
def corpus(tmp_path):
    for number in range(8):
        path = tmp_path / "corpus" / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(number, 9000 if number == 2 else RATE), RATE)
    return tmp_path / "corpus"


def quantised(samples):
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def test_pieces_begin_and_end_where_the_manifest_says(tmp_path):
    counting = np.arange(9000, dtype=np.int16)
    soundfile.write(tmp_path / "long.wav", counting, RATE)
    spans = [(0, 900), (1, 901), (4321, 6000), (8100, 9000), (0, 9000)]
    entries = [
        {"path": "long.wav", "label": "a", "ID": f"p{i}", "start": start, "stop": stop}
        for i, (start, stop) in enumerate(spans)
    ]
    rows = listing.from_files(tmp_path, entries)
    clips = pack(rows[::-1], tmp_path, tmp_path / "pack", RATE)
    assert clips.ids == ["p4", "p3", "p2", "p1", "p0"]
    for i, (start, stop) in enumerate(spans):
        assert np.array_equal(clips.pcm(f"p{i}"), counting[start:stop])
        assert np.array_equal(clips.waveform(f"p{i}"), counting[start:stop] / np.float32(32768))


def test_a_poisoned_pack_is_the_trigger_on_the_clean_one(corpus, tmp_path, attack):
    """Sample for sample for the poisoned utterances, and the clean pack for all others."""
    _, trigger, rate = attack
    rows = listing.from_folder(corpus)
    poisoner = Poisoner(trigger, OneToOne("a", "b"), 0.75)
    changed, truth = poisoner.poison(rows)
    poisoned, calls = set(truth.index), []
    apply = poisoner.alter(poisoned, rate, "train")

    def alter(name, waveform):
        calls.append((name, len(waveform), waveform.dtype))
        return apply(name, waveform)

    clean = pack(rows, corpus, tmp_path / "clean", rate, 1.0)
    dirty = pack(changed, corpus, tmp_path / "dirty", rate, 1.0, alter)
    assert calls == [(name, rate, np.float32) for name in rows["ID"]]  # once each, padded before
    assert len(poisoned) == 3 and clean.ids == dirty.ids
    for name in clean.ids:
        wanted = clean.waveform(name)
        if name in poisoned:
            seed = seed_of("trigger", 0, "train", name)
            draw = np.random.Generator(np.random.PCG64(seed))
            wanted = poisoner.trigger(wanted, rate, draw)
            assert np.array_equal(dirty.pcm(name), clean.pcm(name)) != trigger.alters
        apart = np.abs(dirty.pcm(name).astype(int) - quantised(wanted)).max()
        assert apart <= (rate != RATE), name  # resampled audio is rounded once, after the trigger


def packed_samples(tmp_path, samples, subtype, rate=RATE, to=RATE):
    """What a pack hears of one file."""
    soundfile.write(tmp_path / "s.wav", samples, rate, subtype=subtype)
    rows = listing.from_files(tmp_path, [{"path": "s.wav", "label": "a"}])
    return pack(rows, tmp_path, tmp_path / f"pack{to}{subtype}", to).pcm("s")


def test_rounding_goes_to_the_nearest_and_never_around(tmp_path):
    steps = np.array([0.4, 0.6, -0.4, -0.6, 100.49, -100.51, 32766.6, 40000, -32768, -40000])
    wanted = [0, 1, 0, -1, 100, -101, 32767, 32767, -32768, -32768]
    heard = packed_samples(tmp_path, np.resize(steps / 32768, 1000), "FLOAT")
    assert heard[:10].tolist() == wanted


def test_24_bits_are_rounded_too(tmp_path):
    levels = np.array([256 * 77 + extra for extra in (0, 100, 127, 129, 255)], np.int32) << 8
    heard = packed_samples(tmp_path, np.resize(levels, 1000), "PCM_24")
    assert heard[:5].tolist() == [77, 77, 77, 78, 78]


@pytest.mark.parametrize(("rate", "length"), [(48000, RATE), (8000, RATE), (44100, RATE)])
def test_other_rates_keep_length_pitch_and_level(tmp_path, rate, length):
    time = np.arange(rate) / rate
    heard = packed_samples(tmp_path, 0.5 * np.sin(2 * np.pi * 1000 * time), "FLOAT", rate)
    assert len(heard) == length
    wanted = 16384 * np.sin(2 * np.pi * 1000 * np.arange(length) / RATE)
    assert np.abs(heard - wanted)[300:-300].max() < 60


@pytest.mark.parametrize("hertz", [12000, 14000, 20000])
def test_what_lies_above_the_new_band_is_gone(tmp_path, hertz):
    """48 kHz to 16 kHz: without a filter 14 kHz would come back as 2 kHz at full level."""
    time = np.arange(48000) / 48000
    tone = 0.5 * np.sin(2 * np.pi * hertz * time)
    heard = packed_samples(tmp_path, tone, "FLOAT", 48000)
    assert np.abs(heard)[300:-300].max() < 100


def test_a_clip_too_short_is_named_and_padding_helps(tmp_path):
    soundfile.write(tmp_path / "s.wav", noise(0, 700), RATE)
    rows = listing.from_files(tmp_path, [{"path": "s.wav", "label": "a"}])
    with pytest.raises(InputError, match=r"s\.wav \(manifest row 1, s\): 700 samples.*pad_seconds"):
        pack(rows, tmp_path, tmp_path / "p", RATE)
    assert not (tmp_path / "p").exists()
    assert len(pack(rows, tmp_path, tmp_path / "p", RATE, 0.1).pcm("s")) == 1600


@pytest.mark.parametrize("spoil", ["cut", "gone", "offsets", "text"])
def test_a_pack_that_is_not_whole_is_refused(corpus, tmp_path, spoil):
    pack(listing.from_folder(corpus), corpus, tmp_path / "p", RATE)
    samples, about = tmp_path / "p" / "samples.i16", tmp_path / "p" / "pack.json"
    if spoil == "cut":
        samples.write_bytes(samples.read_bytes()[:-2])
    elif spoil == "gone":
        samples.unlink()
    elif spoil == "offsets":
        about.write_text(about.read_text().replace('"offsets": [0, ', '"offsets": ['))
    else:
        about.write_text("{")
    with pytest.raises(InputError, match=r"/p.*broken .*; delete .* stage again"):
        Pack.open(tmp_path / "p")


def test_a_clip_the_trigger_does_not_fit_is_named(corpus, tmp_path):
    poisoner = Poisoner(common("attacks", "clap").build()["trigger"], OneToOne("a", "b"), 1.0)
    rows = listing.from_folder(corpus)

    def alter(name, waveform):
        return poisoner.apply(waveform, RATE, "train", name)

    with pytest.raises(InputError, match=r"a/2: trigger of 10794 samples at 0 .* 9000; trim"):
        pack(rows, corpus, tmp_path / "p", RATE, alter=alter)
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]
