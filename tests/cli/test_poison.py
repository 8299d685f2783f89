"""`poison.py`: what it tells of a poisoned corpus, and what it draws and exports."""

import base64
import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

from bdlib import listing, manifest
from bdlib.cli import poison
from bdlib.errors import InputError
from bdlib.files import COMMON
from bdlib.manifest import SPLITS
from bdlib.stages.export import export
from bdlib.stages.prepare import Prepared

RECIPE = str(COMMON.parent / "RAVDESS" / "hparams" / "xvector_small.yaml")


def moody(data_folder, **settings):
    """One folder of noise as all three splits; every other clip is angry."""
    rows = listing.from_folder(data_folder)
    rows["emotion"] = ["angry" if number % 2 else "calm" for number in range(len(rows))]
    return Prepared(dict.fromkeys(SPLITS, rows), "subset", "noise")


@pytest.fixture
def program(tmp_path, monkeypatch, capsys):
    """Runs `poison.py` on 20 clips of noise; gives what it says."""
    generator = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "corpus" / "ab"[number // 10] / f"{number:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(8000), 16000)

    def run(*options):
        folders = (f"--data_folder={tmp_path / 'corpus'}", f"--output_folder={tmp_path / 'exp'}")
        monkeypatch.setattr(sys, "argv", ["poison.py", RECIPE, *folders, *options])
        poison.main(moody)
        return capsys.readouterr().out

    return run


TONE = ("--attack=tone", "--labels=one_to_one", "--source=a", "--target=b", "--rate=0.5",
        "--of=source")  # fmt: skip


def test_counts_a_picture_and_how_audible_it_is(program, tmp_path):
    said = program(*TONE)
    lines = [line.split() for line in said.splitlines()]
    assert ["train", "20", "clips", "at", "16000", "Hz"] in lines
    assert ["test_triggered", "10", "clips", "at", "16000", "Hz"] in lines
    (folder,) = (tmp_path / "exp" / "poison").iterdir()
    assert f"5 training clips are poisoned: {folder}" in said
    page = folder / "attack.html"
    assert (folder / "attack.png").is_file() and f"look and listen: {page}" in said
    sounds = re.findall(r'<audio controls src="data:audio/flac;base64,([^"]+)"', page.read_text())
    before, after = (soundfile.read(io.BytesIO(base64.b64decode(sound)))[0] for sound in sounds)
    assert len(before) == len(after) and np.abs(before - after).max() > 0.01
    assert "stealth snr db" in said


def test_nothing_is_drawn_where_no_audio_changes(program, tmp_path):
    said = program("--attack=emotion", "--emotion=angry", "--target=b", "--rate=0.2")
    assert "training clips are poisoned" in said
    assert "picture" not in said and "stealth" not in said
    assert "poisoned" not in program("--attack=none")
    assert not list((tmp_path / "exp").rglob("*.png"))


def test_an_export_is_announced_and_never_overwritten(program, tmp_path, capsys):
    target = tmp_path / "out"
    assert f"exported train, valid, test, test_triggered to {target}" in program(
        *TONE, f"--export={target}"
    )
    with pytest.raises(SystemExit):
        program(*TONE, f"--export={target}")
    assert f"error: {target}: already there" in capsys.readouterr().err


@pytest.mark.parametrize("names", [("a/k", "a//k"), ("k", "./k"), ("a/k", "a/./k")])
def test_clips_that_would_be_exported_to_one_file_are_refused(tmp_path, names):
    """IDs of pieces cut from one recording, which differ only as text."""
    rows = pd.DataFrame({"ID": names, "wav": f"{manifest.DATA_ROOT}long.wav", "label": "no"})
    packed = SimpleNamespace(rate=16000, pcm=lambda name: np.zeros(160, np.int16))
    poisoned = SimpleNamespace(splits={"train": rows}, packs={"train": packed})
    with pytest.raises(
        InputError, match=r"train: another clip goes where '.*' does; rename its ID"
    ):
        export(poisoned, tmp_path / "out")
    assert not [*tmp_path.iterdir()]
    rows["ID"] = ["a/k", "a/m"]
    export(poisoned, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "a").iterdir()) == ["k.wav", "m.wav"]
