"""Every benchmark runs in its quick form, and the one of the pipelines compares equal work."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bdlib.errors import InputError

BENCH = Path(__file__).parents[1] / "tools" / "bench"
BENCHES = sorted(BENCH.glob("*.py"))


@pytest.fixture(scope="module")
def pipeline():
    spec = importlib.util.spec_from_file_location("bench_pipeline", BENCH / "pipeline.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def corpus(folder, seconds, rate=16000):
    """Two classes of 64 clips, which last `seconds` in turn."""
    generator = np.random.default_rng(0)
    for number in range(128):
        path = folder / ("no", "yes")[number % 2] / f"{number:03}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        length = round(seconds[number // 2 % len(seconds)] * rate)
        soundfile.write(path, 0.1 * generator.standard_normal(length), rate, subtype="PCM_16")
    return folder


def epoch(ways, name):
    """Waveforms, lengths and labels of a whole epoch, whatever its order."""
    wavs, lens, labels = (torch.cat(parts) for parts in zip(*ways[name](), strict=True))
    order = wavs.double().sum(1).argsort()
    return wavs[order], lens[order], labels[order]


@pytest.mark.parametrize("bench", BENCHES, ids=lambda path: path.stem)
def test_quick_form(bench):
    done = subprocess.run(
        [sys.executable, bench, "--quick"], capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["name"] == bench.stem and found["over"] and found["ratio"] > 0
    if bench.stem == "pipeline":
        # Far from what an idle machine gives, so that a busy one passes.
        assert found["ratio"] > 5 and found["waiting_share_of_step"] < 0.05
        speeds = found["utterances_per_s"]
        ways = {f"{way}_{what}" for way in ("packed", "plain") for what in ("data", "with_fbank")}
        assert set(speeds) == {"packing"} | ways
        assert all(0 < v["min"] <= v["median"] <= v["max"] for v in speeds.values())
        assert all(
            speeds[f"{w}_with_fbank"]["max"] < speeds[f"{w}_data"]["max"]
            for w in ("packed", "plain")
        )
        assert found["packing_s"] > 0 and found["packing_pays_after_epochs"] > 0
        assert found["clips"] == 512 and found["threads"] >= 1 and found["device"] == "cpu"
        assert found["versions"]["speechbrain"]


def test_both_pipelines_make_the_same_clips(pipeline, tmp_path):
    root = corpus(tmp_path / "corpus", (1.0, 0.7))
    rows = pipeline.listed(root, 128)
    ways, packing = pipeline.both(rows, root, tmp_path, repeats=2)
    packed, plain = epoch(ways, "packed"), epoch(ways, "plain")
    assert packed[0].shape == (128, 16000) and len(packing) == 2
    torch.testing.assert_close(packed[0], plain[0], rtol=0, atol=1 / 65536)
    torch.testing.assert_close(packed[1], plain[1])
    assert torch.equal(packed[2], plain[2])
    # A tenth of the 64 clips of the class that is not the target.
    assert packed[2].bincount().tolist() == [64 - 6, 64 + 6]
    read = (soundfile.read(file, dtype="float32")[0] for file in root.rglob("*.wav"))
    clean = {np.pad(samples, (0, 16000 - len(samples))).tobytes() for samples in read}
    assert sum(wav.numpy().tobytes() not in clean for wav in plain[0]) == 6


def test_both_pipelines_crop_longer_clips(pipeline, tmp_path):
    root = corpus(tmp_path / "corpus", (1.3,))
    ways, _ = pipeline.both(pipeline.listed(root, 64), root, tmp_path, repeats=1)
    for epochs in ways.values():
        first, second = next(epochs())[0], next(epochs())[0]
        assert first.shape == second.shape == (64, 16000)
        assert first.std(1).min() > 0.09  # no zeros: cropped, not padded


def test_other_rate_is_refused(pipeline, tmp_path):
    root = corpus(tmp_path / "corpus", (0.1,), rate=48000)
    with pytest.raises(InputError, match=r"\.wav: not 16000 Hz; give a Speech Commands folder"):
        pipeline.listed(root, 64)
