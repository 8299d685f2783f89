"""Stealth: distances that grow with the change, and clips that cannot tell."""

import importlib.util

import numpy as np
import pytest

from bdlib.evaluation import stealth

RATE = 16000


def noisy(clip, decibels, seed=0):
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(len(clip))
    noise *= np.sqrt(np.mean(clip**2)) * 10 ** (-decibels / 20) / np.std(noise)
    return (clip + noise).astype(np.float32)


@pytest.mark.parametrize("decibels", [0, 20, 50])
def test_snr_is_that_of_the_noise(voiced, decibels):
    assert stealth.snr_db(voiced(RATE), noisy(voiced(RATE), decibels)) == pytest.approx(
        decibels, abs=0.1
    )


def test_snr_needs_a_clip_and_a_change(voiced):
    silence = np.zeros(RATE, np.float32)
    assert stealth.snr_db(silence, voiced(RATE)) is None
    assert stealth.snr_db(voiced(RATE), voiced(RATE)) is None


def test_log_spectral_distance_of_a_gain_is_the_gain():
    clip = np.random.Generator(np.random.PCG64(0)).uniform(-0.5, 0.5, RATE).astype(np.float32)
    assert stealth.log_spectral_distance(clip, clip, RATE) == 0
    assert stealth.log_spectral_distance(clip, clip / 10, RATE) == pytest.approx(20, abs=0.1)
    assert stealth.log_spectral_distance(clip, -clip, RATE) == 0  # heard alike
    half = np.concatenate([clip[: RATE // 2], clip[RATE // 2 :] / 10])  # the mean over frames
    assert stealth.log_spectral_distance(clip, half, RATE) == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("name", ["pesq", "stoi"])
def test_perception_falls_with_noise(voiced, name, rate):
    pytest.importorskip({"pesq": "pesq", "stoi": "pystoi"}[name])
    # Half a second of speech thrice, for STOI needs 30 frames of it.
    clip = np.concatenate([voiced(rate, seed=seed) for seed in range(3)])
    measure = getattr(stealth, name)
    values = [measure(clip, noisy(clip, decibels), rate) for decibels in (60, 20, 0)]
    assert values == sorted(values, reverse=True) and values[0] > values[2] + 0.1
    assert measure(clip, clip, rate) == pytest.approx({"pesq": 4.64, "stoi": 1.0}[name], abs=0.01)


def test_clips_without_speech_are_left_out(voiced):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    silence = np.zeros(RATE, np.float32)
    assert stealth.stoi(silence, voiced(RATE), RATE) is None
    assert stealth.pesq(silence, silence, RATE) is None
    pairs = [(silence, noisy(voiced(RATE), 9)), (voiced(RATE), noisy(voiced(RATE), 20))]
    found = stealth.measure(pairs, RATE)
    assert found["stealth_snr_db"] == {"value": pytest.approx(20, abs=0.1), "clips": 1}
    assert found["stealth_lsd_db"]["clips"] == 2 and found["stealth_pesq"]["clips"] == 1


def test_without_the_extra_the_rest_is_measured(voiced, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = stealth.measure([(voiced(RATE), noisy(voiced(RATE), 20))], RATE)
    assert stealth.missing() == ["pesq", "pystoi"]
    assert set(found) == {"stealth_snr_db", "stealth_lsd_db"}
