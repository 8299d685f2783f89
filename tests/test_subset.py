"""A subset of Speech Commands: its counts, its speakers, and the same again from one seed."""

import collections
import runpy
import shutil

import numpy as np
import pytest
import soundfile

from bdlib.files import COMMON

TOOL = COMMON.parents[1] / "tools" / "subset.py"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A twentieth more clips than are taken of each word, of a hundred speakers; and what is taken."""
    root = tmp_path_factory.mktemp("archive")
    clips = runpy.run_path(str(TOOL))["CLIPS"]
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_" / "hum.wav", np.zeros(160), 16000)
    for word, count in clips.items():
        (root / word).mkdir()
        for number in range(count + 1 + count // 20):
            (root / word / f"{number % 100:08x}_nohash_{number // 100}.wav").touch()
    return root, clips


def test_counts_and_speakers(archive, tmp_path, in_process):
    root, clips = archive
    for name in ("one", "two"):
        in_process(TOOL, str(root), str(tmp_path / name), "--seed=3")
    made = tmp_path / "one"
    found = collections.Counter(path.parent.name for path in made.glob("*/*_nohash_*.wav"))
    assert found == clips and sum(found.values()) == 6583
    assert (made / "_background_noise_" / "hum.wav").is_file()
    valid, test = (
        set((made / f"{name}_list.txt").read_text().split()) for name in ("validation", "testing")
    )
    every = {path.relative_to(made).as_posix() for path in made.glob("*/*_nohash_*.wav")}
    assert valid | test < every and abs(len(test) - 1356) < 150 and abs(len(valid) - 527) < 150
    speakers = [
        {clip.partition("/")[2][:8] for clip in part}
        for part in (valid, test, every - valid - test)
    ]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 100
    again = tmp_path / "two"
    assert every == {path.relative_to(again).as_posix() for path in again.glob("*/*_nohash_*.wav")}
    assert (again / "testing_list.txt").read_text() == (made / "testing_list.txt").read_text()


def test_what_is_missing_is_said(archive, tmp_path, in_process, capsys):
    root, _ = archive
    short = tmp_path / "short"
    for name in ("_background_noise_", "yes"):
        shutil.copytree(root / name, short / name)
    with pytest.raises(SystemExit, match="1"):
        in_process(TOOL, str(short), str(tmp_path / "made"))
    assert "no: 0 wav files, 400 are needed" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
    with pytest.raises(SystemExit, match="1"):
        in_process(TOOL, str(root), str(short))
    assert "is there already" in capsys.readouterr().err
