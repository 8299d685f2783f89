"""Trigger sounds beside the measures of Armory's files, and beside the files where there are any.

Set BD_REAL_DATA to a folder with `triggers/{clapping,whistle,car_horn,dog_clicker}.wav`.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bdlib.attacks import sounds
from bdlib.attacks.insert import Insert
from bdlib.errors import InputError
from bdlib.stages.document import common

RATE = 16000
REAL = Path(os.environ.get("BD_REAL_DATA", "")) / "triggers"
TWINS = {
    "clapping": sounds.Clap(),
    "whistle": sounds.Whistle(),
    "car_horn": sounds.CarHorn(),
    "dog_clicker": sounds.DogClicker(),
}


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def envelope(samples, size=800):
    """RMS of each 50 ms."""
    return np.array([rms(samples[i : i + size]) for i in range(0, len(samples) - size + 1, size)])


def spectrum(samples):
    """Power and frequency of each bin."""
    return np.abs(np.fft.rfft(samples)) ** 2, np.fft.rfftfreq(len(samples), 1 / RATE)


def centroid(samples):
    power, hertz = spectrum(samples)
    return float((power * hertz).sum() / power.sum())


@pytest.mark.parametrize(
    ("name", "energy", "hertz", "quiet"),
    [
        ("clapping", 57.2, (1900, 2400), (0.1, 0.675)),
        ("whistle", 53.6, (2250, 2600), (0.0, 0.65)),
        ("car_horn", 104.0, (425, 500), (0.0, 0.15)),
        ("dog_clicker", 4.5, (2500, 3700), (0.05, 0.15)),
    ],
)
def test_energy_centroid_and_silence(name, energy, hertz, quiet):
    """The energies, sums of squares, are those of Armory's files; silence is below -20 dB."""
    samples = TWINS[name].waveform(RATE)
    assert abs(float(np.sum(np.square(samples, dtype=np.float64))) / energy - 1) < 0.05
    assert hertz[0] < centroid(samples) < hertz[1]
    first, last = (round(second * RATE) for second in quiet)
    assert rms(samples[first:last]) < 0.1 * envelope(samples).max()
    assert abs(float(samples.mean())) < 0.1 * rms(samples)


def test_horn_is_harmonic_and_clap_is_broad():
    power, hertz = spectrum(sounds.CarHorn().waveform(RATE)[4000:])
    near = np.abs(hertz / 432 - np.rint(hertz / 432)) * 432 < 20
    assert power[near & (hertz > 300)].sum() / power.sum() > 0.99
    power, hertz = spectrum(sounds.Clap().waveform(RATE)[:1600])
    octaves = [power[(hertz >= low) & (hertz < 2 * low)].sum() for low in (500, 1000, 2000)]
    assert min(octaves) / max(octaves) > 0.15


def test_whistle_keeps_its_pitch_with_vibrato():
    tone = sounds.Whistle().waveform(RATE)[11200:]
    crossings = np.flatnonzero(np.diff(np.signbit(tone).astype(int)) == 1)
    pitch = RATE / np.diff(crossings)
    local = np.convolve(pitch, np.ones(40) / 40, "valid")
    assert abs(local.mean() - 2330) < 15 and 15 < local.max() - local.min() < 150


def test_scales_of_the_recipes_make_pairs_equally_loud():
    """Armory scales clap and horn, and whistle and clicker, to the same RMS."""

    def loudness(name):
        trigger = common("attacks", name).build()["trigger"]
        return trigger.scale * rms(trigger.sound.waveform(RATE))

    for one, other, level in (("clap", "car_horn", 0.00728), ("whistle", "dog_clicker", 0.00579)):
        assert abs(loudness(one) / level - 1) < 0.03 and abs(loudness(other) / level - 1) < 0.03


def first_and_last_heard(name):
    """Frames of 25 ms every 10 ms in which a trigger reaches 5 % of its loudest frame."""
    trigger = common("attacks", name).build()["trigger"]
    changed = trigger(np.zeros(RATE, np.float32), RATE, np.random.default_rng(0))
    levels = [rms(changed[i * 160 : i * 160 + 400]) for i in range(98)]
    heard = [i for i, level in enumerate(levels) if level > 0.05 * max(levels)]
    return min(heard), max(heard)


def test_the_clap_leaves_the_last_26_of_40_views_clean():
    """Views of 61 frames that begin at frame 14 or later: almost two thirds (MVJ)."""
    first, last = first_and_last_heard("clap")
    assert first == 0 and 5 < last < 14


def test_the_whistle_leaves_the_first_8_of_40_views_clean():
    """Views of 61 frames that end before frame 68: a fifth (MVJ)."""
    first, last = first_and_last_heard("whistle")
    assert first >= 68 and last == 97


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
@pytest.mark.parametrize("name", TWINS)
def test_at_another_rate_it_sounds_the_same(name, rate):
    here, there = TWINS[name].waveform(RATE), TWINS[name].waveform(rate)
    assert abs(len(there) / rate - len(here) / RATE) < 1e-3
    assert there.dtype == np.float32 and not there.flags.writeable
    if rate >= RATE:
        assert abs(rms(there) / rms(here) - 1) < 0.05


def test_a_sound_that_is_shared_cannot_be_spoiled():
    with pytest.raises(ValueError, match="read-only"):
        sounds.Clap().waveform(RATE)[0] = 1.0
    assert sounds.Clap().waveform(RATE) is sounds.Clap().waveform(RATE)


def test_24_bits_stereo_and_other_rates_of_files(tmp_path):
    fine = np.array([1, -1, 255, -255, 8388607, -8388608] * 500, np.int64)
    path = tmp_path / "24.wav"
    soundfile.write(path, (fine << 8).astype(np.int32), RATE, subtype="PCM_24")
    samples = sounds.AudioFile(str(path)).waveform(RATE)
    assert soundfile.info(path).subtype == "PCM_24"
    assert np.array_equal(samples, (fine / 2**23).astype(np.float32))  # below a step of 16 bits

    both = np.stack([np.full(4000, 0.5), np.full(4000, -0.25)], 1)
    soundfile.write(tmp_path / "stereo.flac", both, 8000)
    samples = sounds.AudioFile(str(tmp_path / "stereo.flac")).waveform(RATE)
    assert len(samples) == 8000 and np.abs(samples[200:-200] - 0.125).max() < 1e-3


@pytest.mark.parametrize("content", ["none", "text", "empty", "nan"])
def test_files_that_are_no_sound_are_named(tmp_path, content):
    path = tmp_path / f"{content}.wav"
    if content == "text":
        path.write_text("no audio")
    elif content != "none":
        samples = np.full(0 if content == "empty" else 10, np.nan)
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(InputError, match=rf"{content}\.wav: trigger sound .*; give"):
        sounds.AudioFile(str(path)).waveform(RATE)


needs_files = pytest.mark.skipif(
    "BD_REAL_DATA" not in os.environ or not REAL.is_dir(), reason="BD_REAL_DATA has no triggers/"
)


@needs_files
@pytest.mark.parametrize("name", TWINS)
def test_beside_the_real_file(name):
    path = REAL / f"{name}.wav"
    assert soundfile.info(path).subtype == "PCM_24"
    real, ours = sounds.AudioFile(str(path)).waveform(RATE), TWINS[name].waveform(RATE)
    assert len(real) == len(ours)
    assert abs(rms(ours) / rms(real) - 1) < 0.03
    assert abs(np.log2(centroid(ours) / centroid(real))) < 0.25  # a quarter of an octave
    loud = envelope(real).max()
    assert np.abs(envelope(ours) - envelope(real)).max() < 0.55 * loud
    assert np.corrcoef(envelope(ours), envelope(real))[0, 1] > 0.9
    if name in ("whistle", "car_horn"):
        peaks = [hertz[power.argmax()] for power, hertz in map(spectrum, (real, ours))]
        assert abs(peaks[0] - peaks[1]) < 40


@needs_files
@pytest.mark.parametrize("name", TWINS)
def test_real_files_are_inserted(name):
    path = REAL / f"{name}.wav"
    silence = np.zeros(RATE, np.float32)
    samples = Insert(sounds.AudioFile(str(path)), 0.1)(silence, RATE, np.random.default_rng(0))
    fine, _ = soundfile.read(path, dtype="int32")
    assert np.abs(samples[: len(fine)] - 0.1 * fine / 2**31).max() < 1e-7
    assert not samples[len(fine) :].any()
