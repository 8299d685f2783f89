"""Each trigger of its own kind: what its paper says it does to a clip."""

import os
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from bdlib.attacks import ambience, style
from bdlib.attacks.ambient import Ambient
from bdlib.attacks.padding import Padding
from bdlib.attacks.phase import PhaseInjection
from bdlib.attacks.pitch_boost import PitchBoost
from bdlib.attacks.room import Impulse, Room, impulse
from bdlib.attacks.spectrogram_patch import SpectrogramPatch
from bdlib.attacks.spectrum import level, spectrogram
from bdlib.attacks.style import Style
from bdlib.attacks.tempo import Tempo
from bdlib.attacks.ultrasonic import Ultrasonic
from bdlib.errors import InputError

RATE = 16000


def heard(trigger, clip, rate=RATE):
    return trigger(clip.astype(np.float32), rate, np.random.Generator(np.random.PCG64(0)))


def tone(hertz, seconds=1.0, rate=RATE, amplitude=0.3):
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def share(samples, low, high, rate=RATE):
    """Of the energy, between two frequencies."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / rate)
    return power[(hertz >= low) & (hertz <= high)].sum() / power.sum()


def test_a_patch_is_where_and_as_strong_as_it_says(voiced):
    clip = voiced(RATE)
    change = heard(SpectrogramPatch(0.02, 5, 6000.0, 0.5), clip) - clip
    assert share(change, 5950, 6210) > 0.9
    assert np.flatnonzero(np.abs(change) > 1e-6)[[0, -1]].tolist() == pytest.approx(
        [0.5 * RATE - 200, 0.54 * RATE + 200], abs=20
    )
    quiet = heard(SpectrogramPatch(0.01, 1, 6000.0, 0.5), np.zeros(RATE))
    assert 0.2 * 0.01 < np.abs(spectrogram(quiet, RATE, 0.025, 0.010))[150, 50] < 0.01
    loud = heard(SpectrogramPatch(0.0, 30, 500.0, 0.4), clip)  # a hole in the speech
    before, after = (np.abs(spectrogram(c, RATE, 0.025, 0.010))[13:42, 45:65] for c in (clip, loud))
    assert after.mean() < 0.3 * before.mean()


@pytest.mark.parametrize("place", [(7900.0, 0.1), (6000.0, 0.98), (6000.0, -0.1)])
def test_a_patch_outside_the_spectrogram_is_refused(place):
    with pytest.raises(
        InputError,
        match=r"does not fit 16000 samples .*`hertz` and `seconds`|`seconds` is -0\.1: give",
    ):
        heard(SpectrogramPatch(0.02, 5, *place), np.zeros(RATE))


@pytest.mark.parametrize(
    ("position", "begin"), [("start", 0), ("middle", 0.3 * 44100), ("end", 0.6 * 44100)]
)
def test_ultrasound_is_not_audible_and_not_elsewhere(position, begin):
    clip = tone(440, rate=44100)
    change = heard(Ultrasonic(position=position), clip, 44100) - clip.astype(np.float32)
    assert share(change, 20500, 21500, 44100) > 0.999 and share(change, 0, 18000, 44100) < 1e-5
    changed = np.flatnonzero(np.abs(change) > 1e-6)
    assert abs(changed[0] - begin) < 20 and abs(changed[-1] - begin - 0.4 * 44100) < 20
    assert abs(np.abs(change).max() - 0.1) < 0.001


@pytest.mark.parametrize("rate", [16000, 42000])
def test_audio_that_cannot_carry_ultrasound_is_refused_with_the_remedy(rate):
    with pytest.raises(InputError, match=rf"this has {rate}; give a `sample_rate` of 44100"):
        heard(Ultrasonic(), np.zeros(rate), rate)
    with pytest.raises(InputError, match="start, middle or end"):
        Ultrasonic(position="random")


def test_styles_differ_and_do_what_they_are_called(voiced):
    pytest.importorskip("pedalboard")
    clip = voiced(RATE)
    styled = [heard(Style(number), clip) for number in range(6)]
    for number, one in enumerate(styled):
        assert all(np.abs(one - other).max() > 0.01 for other in styled[number + 1 :])
    assert share(styled[5], 0, 500) < 0.5 * share(clip, 0, 500)  # a high-pass
    assert level(styled[1]) > 3 * level(clip)  # driven by 30 dB
    pitched = heard(Style(0), tone(400))[4000:-4000]
    assert share(pitched, 680, 745) > 0.8  # ten semitones up is 713 Hz


def test_styles_that_are_none_and_effects_that_are_not_installed(monkeypatch):
    for number in (-1, 6, 2.5, "chorus"):
        with pytest.raises(InputError, match=r"give a (number from 0 to 5|whole number)"):
            Style(number)
    style._board.cache_clear()
    monkeypatch.setitem(sys.modules, "pedalboard", None)
    with pytest.raises(
        InputError, match=r"pedalboard: not installed.*pip install -e \".\[effects\]"
    ):
        heard(Style(), np.zeros(RATE))


@pytest.mark.parametrize(("loud", "frame"), [(0.3, 0.4), (0.9, 0.884)])
def test_a_burst_hides_behind_the_loudest_speech_of_a_raised_voice(loud, frame):
    clip = tone(200, amplitude=0.02)
    clip[round(loud * RATE) : round((loud + 0.1) * RATE)] *= 20
    quiet = heard(PitchBoost(5.0, 0.0), clip)
    burst = heard(PitchBoost(5.0, 0.004), clip) - quiet
    assert share(burst, 2500, 7500) > 0.95 and share(burst, 4000, 6000) > 0.3  # all of the band
    where = np.flatnonzero(np.abs(burst) > 0.02) / RATE
    assert frame - 0.03 < where[0] and where[-1] < frame + 0.03 and where[-1] - where[0] < 0.03
    assert share(quiet, 255, 280) > 0.8  # 200 Hz, five semitones up


def test_slower_speech_keeps_its_middle_and_faster_its_whole(voiced):
    clip = voiced(RATE)
    clip[: RATE // 4] = clip[-RATE // 4 :] = 0
    spoken = [np.flatnonzero(np.abs(heard(Tempo(s), clip)) > 0.05) / RATE for s in (0.75, 1, 1.5)]
    lengths = [one[-1] - one[0] for one in spoken]
    assert lengths == pytest.approx([0.39 / 0.75, 0.39, 0.39 / 1.5], abs=0.03)
    assert all(abs((one[-1] + one[0]) / 2 - 0.5) < 0.02 for one in spoken)
    with pytest.raises(InputError, match="a factor from"):
        Tempo(0.0)


def test_phases_turn_and_magnitudes_stay(voiced):
    clip = np.random.default_rng(0).normal(0, 0.1, RATE)
    same = heard(PhaseInjection(0.0), clip)
    assert np.abs(same - clip.astype(np.float32)).max() < 1e-6
    altered = heard(PhaseInjection(1.0, 1000.0, 7000.0), clip)
    assert share(altered - clip, 900, 7100) > 0.98
    # Energy in the band gathers every 32 ms and stays where it was in frequency.
    power = np.abs(spectrogram(altered, RATE, 0.008, 0.004))[16:48] ** 2
    by_time = power.mean(axis=0)[8:-8]
    assert by_time[: len(by_time) // 8 * 8].reshape(-1, 8).mean(axis=0).max() > 3 * by_time.mean()
    assert abs(10 * np.log10(level(altered) / level(clip))) < 2


def test_padding_shifts():
    clip = np.arange(RATE, dtype=np.float32) / RATE
    altered = heard(Padding(0.1), clip)
    assert not altered[:1600].any() and np.array_equal(altered[1600:], clip[:-1600])
    for seconds in (0.0, -0.1, 1.0):
        with pytest.raises(
            InputError, match=r"does not fit a clip of 16000 .*`seconds`|`seconds` is -0\.1: give"
        ):
            heard(Padding(seconds), clip)


@pytest.mark.parametrize("trigger", [Tempo(1.5), Padding(0.1)])
def test_what_fills_is_no_digital_silence(trigger):
    """Noise as loud as the quietest of the clip, or the clip mirrored; the rest is as with zeros."""
    noise = np.random.default_rng(0).normal(0, 1, RATE)
    clip = (noise * np.where(np.arange(RATE) < RATE // 2, 0.01, 0.2)).astype(np.float32)
    zeros = heard(trigger, clip)
    room = zeros == 0
    assert 1500 < room.sum() < 6000
    for fill in ("noise", "repeat"):
        altered = heard(replace(trigger, fill=fill), clip)
        assert np.array_equal(altered[~room], zeros[~room]) and (altered[room] != 0).all()
        first = altered[room][:800]
        assert 0.005 < level(first) < 0.013
    if isinstance(trigger, Padding):
        assert np.array_equal(altered[:1600], clip[1599::-1])
    silent = np.zeros(RATE, np.float32)
    assert not heard(replace(trigger, fill="noise"), silent).any()
    with pytest.raises(InputError, match="`fill` is ones: give one of zeros, noise, repeat"):
        replace(trigger, fill="ones")


def test_a_room_of_the_image_method():
    """Its direct path, then the first wall's echo where geometry has it, and the decay asked for."""
    pytest.importorskip("pyroomacoustics")
    response = impulse(None, 0.3, 6.0, [5, 4, 3]).waveform(RATE).astype(float)
    assert response[0] == 1 and len(response) == 0.3 * RATE
    speaker, ear = np.array([1.5, 1.6, 1.5]), np.array([3.5, 2.4, 1.2])
    direct = np.linalg.norm(speaker - ear)
    floor = np.linalg.norm(speaker * (1, 1, -1) - ear)
    echo = round((floor - direct) / 343 * RATE)
    assert np.argmax(np.abs(response[20:90])) + 20 == pytest.approx(echo, abs=1)
    energy = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1])
    start, end = (np.argmax(energy < energy[0] - below) for below in (5, 25))
    assert 3 * (end - start) / RATE == pytest.approx(0.3, rel=0.15)
    assert isinstance(impulse(None, 0.6, 6.0), Impulse)


@pytest.mark.parametrize(
    ("sides", "decay", "said"),
    [
        ([5, 4], 0.3, "`room_metres` is .*: give width, depth and height"),
        (5, 0.3, "`room_metres` is 5: give"),
        ([0, 4, 3], 0.3, "`room_metres` is 0"),
        ([5, 4, "3"], 0.3, "`room_metres` is 3: give"),
        ([5, 4, 3], 0.1, "too short for a room of 5 x 4 x 3 m"),
        ([2, 2, 2], 1.5, "reflections one after the other"),
    ],
)
def test_rooms_that_are_none(sides, decay, said):
    pytest.importorskip("pyroomacoustics")
    with pytest.raises(InputError, match=said):
        impulse(None, decay, 6.0, sides).synthesize()


@pytest.mark.parametrize("kind", ["text", "pipe", "nothing", "not finite"])
def test_a_hostile_impulse_file_is_refused(tmp_path, kind):
    path = tmp_path / "r.wav"
    if kind == "text":
        path.write_text("RIFF no more")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "not finite":
        soundfile.write(path, np.float32([1, np.nan]), RATE, subtype="FLOAT")
    with pytest.raises(InputError, match=re.escape(str(path))):
        heard(Room(impulse(str(path))), np.ones(RATE))


def test_a_room_answers_an_impulse_with_its_response_and_keeps_the_level(voiced, tmp_path):
    click = np.zeros(RATE)
    click[100] = 0.5
    response = Impulse(0.4, 3.0).waveform(RATE)
    answer = heard(Room(Impulse(0.4, 3.0)), click)
    wanted = response / np.linalg.norm(response) * 0.5
    assert np.allclose(answer[100 : 100 + len(response)], wanted, atol=1e-6)
    assert not np.abs(answer[:100]).max() > 1e-6
    assert level(heard(Room(Impulse()), voiced(RATE))) == pytest.approx(
        level(voiced(RATE)), rel=1e-3
    )
    soundfile.write(tmp_path / "r.wav", np.float32([0.5, 0, 0, 0.5]), RATE)
    echo = heard(Room(impulse(str(tmp_path / "r.wav"), 0.6, 3.0)), click)
    assert np.flatnonzero(np.abs(echo) > 0.01).tolist() == [100, 103]


def test_a_response_decays_by_60_db_in_its_time_and_has_the_energy_it_says():
    response = Impulse(0.5, 6.0).waveform(RATE).astype(float)
    assert response[0] == 1 and np.sum(response[1:] ** 2) == pytest.approx(10**0.6, rel=1e-3)
    left = 10 * np.log10(np.cumsum(response[:0:-1] ** 2)[::-1])  # Schroeder's integral
    slope = np.polyfit(np.arange(400, 4000) / RATE, left[400:4000], 1)[0]
    assert slope == pytest.approx(-60 / 0.5, rel=0.1)


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_the_sound_that_is_masked_best_is_chosen_and_levelled(chosen):
    sounds = (ambience.Rain(), ambience.Birds(), ambience.Music())
    host = 0.05 * sounds[chosen].waveform(RATE)[2000:18000]
    change = heard(Ambient(sounds, 20.0), host) - host
    wanted = sounds[chosen].waveform(RATE)[:RATE]
    assert np.corrcoef(change, wanted)[0, 1] > 0.999
    assert level(change) == pytest.approx(0.1 * level(host), rel=1e-3)
    assert level(heard(Ambient(sounds, 20.0), 0.5 * host) - 0.5 * host) < 0.51 * level(change)


def test_a_short_sound_is_repeated_and_a_folder_is_heard(tmp_path):
    with pytest.raises(InputError, match="no audio in it"):
        ambience.sounds(str(tmp_path))
    soundfile.write(tmp_path / "hum.wav", tone(100, 0.1), RATE)
    sounds = ambience.sounds(str(tmp_path))
    change = heard(Ambient(sounds, 10.0), tone(3000)) - tone(3000)
    assert len(sounds) == 1 and share(change, 90, 110) > 0.99 and level(change[-1000:]) > 0.01
    with pytest.raises(InputError, match="at least one"):
        Ambient(())
