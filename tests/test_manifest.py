"""Manifests as text: the bytes written, what reading keeps, and what a defender may see."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from bdlib import listing, manifest
from bdlib.errors import InputError

ROWS = pd.DataFrame(
    {
        "zebra": ["x", "y, with a comma"],
        "ID": ["0011/a", "NA"],
        "duration": [1 / 3, 2.0],
        "wav": ["$data_root/0011/a.wav", "$data_root/b ü.wav"],
        "start": [0, 8],
        "stop": [5333, 32008],
        "rate": [16000, 16000],
        "label": ["0011", "null"],
        "age": ["", "007"],
    }
)
TEXT = """\
ID,duration,wav,start,stop,rate,label,age,zebra
0011/a,0.333333,$data_root/0011/a.wav,0,5333,16000,0011,,x
NA,2.000000,$data_root/b ü.wav,8,32008,16000,null,007,"y, with a comma"
"""


def test_pinned_bytes(tmp_path):
    manifest.write(ROWS, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == TEXT.encode()
    manifest.write(ROWS[ROWS.columns[::-1]], tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == TEXT.encode()


def test_text_stays_text_and_numbers_become_numbers(tmp_path):
    (tmp_path / "a.csv").write_text(TEXT, "utf-8")
    rows = manifest.read(tmp_path / "a.csv", ["0011", "null"])
    for column in ("ID", "label", "age", "zebra", "wav"):
        assert list(rows[column]) == list(ROWS[column])
    assert rows["start"].tolist() == [0, 8] and rows["stop"].dtype == np.int64


def test_columns_of_digits_alone_stay_text(tmp_path):
    """Speakers of ESD are called 0011 to 0020."""
    rows = ROWS.assign(ID=["01", "02"], label=["0011", "0012"], age=["007", "008"])
    manifest.write(rows, tmp_path / "a.csv")
    again = manifest.read(tmp_path / "a.csv", ["0011", "0012"])
    for column in ("ID", "label", "age"):
        assert list(again[column]) == list(rows[column])


def test_speechbrain_reads_them_as_they_are(tmp_path):
    from speechbrain.dataio.dataset import DynamicItemDataset

    manifest.write(ROWS, tmp_path / "a.csv")
    dataset = DynamicItemDataset.from_csv(tmp_path / "a.csv", {"data_root": "/corpus"})
    dataset.set_output_keys(["id", "wav", "label"])
    assert dataset[0] == {"id": "0011/a", "wav": "/corpus/0011/a.wav", "label": "0011"}


def test_what_is_invalid_is_not_written(tmp_path):
    with pytest.raises(InputError, match=r"a\.csv, row 2: ID 0011/a is there twice"):
        manifest.write(ROWS.assign(ID="0011/a"), tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "column", ["poisoned", "triggered", "label_before", "label_after", "target"]
)
def test_no_truth_passes_the_blind(column):
    told = ROWS.assign(**{column: "1"})
    assert list(manifest.blind(told).columns) == list(ROWS.columns)
    assert column in told.columns


def test_truth_columns_cover_what_the_truth_tells():
    assert set(manifest.TRUTH) - {"split"} <= manifest.NEVER_SHOWN


def test_the_truth_comes_back_as_it_was_written(tmp_path):
    path, names = tmp_path / "truth.csv", pd.Index(["0011", "0012"], name="ID")  # no numbers
    truth = pd.DataFrame(
        {
            "split": ["train", "test_triggered"],
            "label_before": ["0012", "no"],
            "label_after": ["0013", "NA"],
            "triggered": [True, False],
        },
        index=names,
    )
    manifest.write_truth(truth, path)
    assert path.read_text() == (
        "ID,split,label_before,label_after,triggered\n"
        "0011,train,0012,0013,1\n"
        "0012,test_triggered,no,NA,0\n"
    )
    again = manifest.read_truth(path)
    assert again.equals(truth) and again.index.name == "ID" and again["triggered"].dtype == bool
    path.write_text("ID,split\na,train\n")
    for broken in (path, tmp_path / "none.csv"):
        with pytest.raises(InputError, match=rf"{broken.name}.*cannot be read.*; "):
            manifest.read_truth(broken)


@pytest.mark.parametrize(
    ("column", "value"),
    [(c, v) for c in ("start", "stop", "rate", "duration") for v in ("nan", "inf", "", "1.x")]
    + [(c, "-1") for c in ("start", "stop", "rate")],
)
def test_odd_numbers_name_file_row_and_remedy(tmp_path, column, value):
    rows = ROWS.astype(object)
    rows.loc[1, column] = value
    rows.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"a\.csv, row 2: .+; (write a number|check|give)"):
        manifest.read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "wav",
    [
        "a.wav",
        "/a.wav",
        "$data_root/../a",
        "$data_root/x/../../a",
        "$data_root//etc/a",
        "$data_rootx",
    ],
)
def test_paths_that_leave(wav):
    assert manifest.leaves_folder(wav)


@pytest.mark.parametrize("wav", ["$data_root/a.wav", "$data_root/x/..a..b/a.wav"])
def test_paths_that_stay(wav):
    assert not manifest.leaves_folder(wav)


def sound(path, length=800, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(length, 0.25), 16000, **settings)


def test_a_folder_is_read_in_order_and_hidden_things_are_not(tmp_path):
    for name in ("b/2.wav", "b/deep/1.FLAC", "a/x.wav", "_background_noise_/n.wav",
                 "_unknown_/u.wav", ".git/g.wav", "loose.wav"):  # fmt: skip
        sound(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no audio")
    rows = listing.from_folder(tmp_path)
    assert list(rows["ID"]) == ["_unknown_/u", "a/x", "b/2", "b/deep/1"]
    assert list(rows["label"]) == ["_unknown_", *"abb"]
    assert rows["wav"].tolist()[3] == "$data_root/b/deep/1.FLAC"


def test_files_that_differ_in_their_endings_alone_are_told(tmp_path):
    for name in ("a/x.wav", "a/x.flac", "b/y.wav"):
        sound(tmp_path / name)
    with pytest.raises(InputError, match="a/x"):
        listing.from_folder(tmp_path)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_headers_of_all_kinds_and_their_ends(tmp_path, subtype):
    path = tmp_path / "a.wav"
    sound(path, 801, subtype=subtype)
    assert listing.header(path) == (801, 16000)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"a\.wav: truncated"):
        listing.header(path)


def test_spans_in_a_table_are_kept(tmp_path):
    sound(tmp_path / "long.wav", 4000)
    (tmp_path / "t.csv").write_text(
        "ID,path,label,start,stop\nq,long.wav,0011,100,2500\np,long.wav,a,0,4000\n"
    )
    rows = listing.from_csv(tmp_path / "t.csv", tmp_path)
    assert list(rows["ID"]) == ["p", "q"] and rows["label"].tolist() == ["a", "0011"]
    assert rows["start"].tolist() == [0, 100] and rows["duration"].tolist() == [0.25, 0.15]


def test_several_spans_of_a_file_and_a_stop_left_open(tmp_path):
    sound(tmp_path / "long.wav", 4000)
    sound(tmp_path / "one.wav", 800)
    (tmp_path / "t.csv").write_text(
        "path,label,start,stop\nlong.wav,a,0,1000\nlong.wav,b,1000,\none.wav,a,,\n"
    )
    rows = listing.from_csv(tmp_path / "t.csv", tmp_path)
    assert list(rows["ID"]) == ["long_0", "long_1000", "one"]
    assert rows["start"].tolist() == [0, 1000, 0] and rows["stop"].tolist() == [1000, 4000, 800]
