"""Transforms there and back, another tempo at the same pitch, another pitch at the same tempo."""

import numpy as np
import pytest

from bdlib.attacks import spectrum

RATE = 16000


def tone(hertz, seconds=1.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def pitch(samples, rate=RATE):
    """The loudest frequency in Hz."""
    padded = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 4 * rate))
    return padded.argmax() / 4


@pytest.mark.parametrize("length", [100, 512, 15999, 16001])
@pytest.mark.parametrize("frame", [(0.032, 0.008), (0.025, 0.010), (0.064, 0.032)])
def test_there_and_back(length, frame):
    clip = np.random.default_rng(length).uniform(-1, 1, length)
    back = spectrum.waveform_of(spectrum.spectrogram(clip, RATE, *frame), length, RATE, *frame)
    assert back.shape == clip.shape and np.abs(back - clip).max() < 1e-12


def test_a_sine_has_half_its_amplitude_at_its_own_bin_and_frame():
    clip = tone(1000)
    clip[:8000] = 0
    magnitude = np.abs(spectrum.spectrogram(clip, RATE, 0.025, 0.010))
    assert magnitude[:, 60].argmax() == 25 and abs(magnitude[25, 60] - 0.25) < 1e-3
    assert magnitude[:, :48].max() == 0 and magnitude[25, 49] < magnitude[25, 50] < 0.2


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.0, 1.3, 2.0])
def test_another_tempo_keeps_pitch_and_level_and_moves_events(speed):
    played = spectrum.stretched(tone(440), RATE, speed)
    assert len(played) == round(RATE / speed)
    # Bins drift apart in phase, which costs a stationary tone a decibel.
    middle = played[2000:-2000]
    assert abs(pitch(middle) - 440) < 2 and abs(np.std(middle) - np.std(tone(440))) < 0.05
    bursts = np.zeros(RATE)
    for start in (4000, 8000):
        bursts[start : start + 800] = tone(1000, 0.05)
    heard = np.abs(spectrum.stretched(bursts, RATE, speed))
    energy = np.convolve(heard**2, np.ones(round(800 / speed)), "same")
    half = round(6400 / speed)
    first, second = energy[:half].argmax(), half + energy[half:].argmax()
    assert abs((second - first) * speed - 4000) < 500


@pytest.mark.parametrize(("semitones", "factor"), [(12, 2.0), (5, 1.3348), (0, 1.0), (-7, 0.6674)])
def test_another_pitch_keeps_the_tempo(semitones, factor):
    raised = spectrum.raised(tone(440), RATE, semitones)
    assert len(raised) == RATE and abs(pitch(raised[2000:-2000]) - 440 * factor) < 3


def test_level_is_the_root_mean_square_and_never_zero():
    assert abs(spectrum.level(tone(440)) - 0.5 / np.sqrt(2)) < 1e-4
    assert 0 < spectrum.level(np.zeros(100)) < 1e-4


def test_what_is_too_loud_is_clipped():
    assert np.array_equal(spectrum.fitted(np.array([-3.0, 0.25, 3.0])), np.float32([-1, 0.25, 1]))
