"""What is heard: speech that depends on its arguments alone, voices, emotions."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from bdlib import mini
from bdlib.mini import emotion, esd, espeak, ravdess, sound, speech_commands

pytest.importorskip("espeakng_loader", reason='needs `pip install -e ".[mini]"`')


def test_speech_does_not_depend_on_what_was_said_before():
    # f2 has breath noise, from a generator seeded by the clock, and Reed draws from the C library's.
    voices = ("en-us+f2", "en-us+m3", "en-us+Reed")
    said = {voice: espeak.speak("marvin", voice, 50, 50, 160) for voice in voices}
    time.sleep(1.1)
    for text in ("seven", "kids are talking"):
        espeak.speak(text, "en+f4", 70, 20, 190)
        for voice in reversed(voices):
            assert np.array_equal(espeak.speak("marvin", voice, 50, 50, 160), said[voice])


def test_speech_does_not_depend_on_the_process():
    here = espeak.speak("marvin", "en-us+f2", 50, 50, 160)
    program = (
        "import hashlib; from bdlib.mini import espeak;"
        "print(hashlib.sha256(espeak.speak('marvin','en-us+f2',50,50,160)).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(mini.__file__).parents[2],
    )
    assert there.stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()


def test_every_voice_is_one_of_its_own():
    # eSpeak NG says the text in the default voice where it does not know the variant.
    text = "water down there"
    names = {voice.name for voice in speech_commands.cast(0, (34, 5, 9))}
    names |= {speaker.name for speaker in (*esd.SPEAKERS.values(), *ravdess.ACTORS)}
    said = {hashlib.sha256(espeak.speak(text, name, 50, 50, 160)).digest() for name in names}
    assert len(said) == len(names)
    plain = espeak.speak(text, "en-us", 50, 50, 160)
    assert np.array_equal(espeak.speak(text, "en-us+nobody", 50, 50, 160), plain)
    assert hashlib.sha256(plain).digest() not in said


def test_unknown_language_is_refused():
    with pytest.raises(ValueError, match="no voice xx"):
        espeak.speak("hello", "xx", 50, 50, 160)


def test_emotions_are_heard():
    def sounds(style: emotion.Style) -> tuple[float, float, float]:
        rng = np.random.default_rng(0)
        waveform = emotion.say(esd.ENGLISH[0], esd.SPEAKERS["0011"], style, 16000, rng)
        power = scipy.signal.welch(waveform, 16000, nperseg=512)[1]
        level = 10 * np.log10(np.mean(waveform**2))
        return level, len(waveform) / 16000, power[64:].sum() / power.sum()

    level, seconds, brightness = zip(
        *(sounds(esd.EMOTIONS[name]) for name in ("Sad", "Neutral", "Angry")), strict=True
    )
    assert level[0] + 3 < level[1] < level[2] - 3
    assert seconds[0] > seconds[1] > seconds[2]
    assert brightness[0] < brightness[1] < brightness[2]


def test_stronger_emotion_differs_more_from_neutral():
    assert emotion.Style().stronger(2.0) == emotion.Style()
    angry = ravdess.EMOTIONS["angry"]
    strong = angry.stronger(1.5)
    assert (strong.level, strong.pitch) == (1.5 * angry.level, 1.5 * angry.pitch)
    assert strong.speed > angry.speed


def test_resample_keeps_a_tone():
    tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    changed = sound.resample(tone, 16000 / 22050)
    assert len(changed) == 16000
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(changed - expected)[200:-200].max() < 0.1
