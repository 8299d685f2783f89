"""Corpora as people have them, and as nobody should have them."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bdlib import listing
from bdlib.errors import InputError
from bdlib.names import forges
from bdlib.scanning.sources import Source


def place(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, np.zeros(1600), 16000, subtype="PCM_16")
    return root


def table(path, columns, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def read(source):
    return list(source.rows[["path", "label"]].itertuples(index=False, name=None))


FOUR = ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.flac")


def test_a_folder_a_class(tmp_path):
    place(tmp_path, *FOUR, "_unknown_/x/1.wav", "_unknown_/x/2.wav", "_background_noise_/n.wav")
    (tmp_path / "README.md").write_text("no audio")
    (tmp_path / "a" / "notes.txt").write_text("no audio")
    source = Source.of(tmp_path)
    assert read(source) == [
        ("_unknown_/x/1.wav", "_unknown_"), ("_unknown_/x/2.wav", "_unknown_"),
        *((name, name[0]) for name in FOUR),
    ]  # fmt: skip
    assert set(source.rows["stop"]) == {-1}


def test_a_table_beside_folders_is_told(tmp_path):
    place(tmp_path, *FOUR)
    table(tmp_path / "train.csv", ["path", "label"], ["a/1.wav", "b"])
    table(tmp_path / "sizes.csv", ["path", "samples"], ["a/1.wav", "1600"])
    (tmp_path / "broken.csv").write_bytes(b"\xff\xfe\0")
    source = Source.of(tmp_path)
    assert len(source.rows) == 4 and ("a/1.wav", "a") in read(source)
    (line,) = source.left_out
    assert line.startswith("train.csv: folders were taken for labels; to scan by its own, give it")


def test_folders_of_splits_above_the_classes(tmp_path):
    place(tmp_path, *(f"{split}/{name}" for split in ("train", "test") for name in FOUR))
    assert {label for _, label in read(Source.of(tmp_path))} == {"a", "b"}
    assert len(Source.of(tmp_path).rows) == 8


def test_a_class_may_be_called_test(tmp_path):
    place(tmp_path, "test/1.wav", "test/2.wav", "b/1.wav", "b/2.wav")
    assert {label for _, label in read(Source.of(tmp_path))} == {"test", "b"}


def test_metadata_of_an_audiofolder(tmp_path):
    for split in ("train", "test"):
        place(tmp_path, *(f"{split}/{name}" for name in ("1.wav", "2.wav", "3.wav", "4.wav")))
        rows = [("1.wav", "x"), ("2.wav", "x"), ("3.wav", "y"), ("4.wav", "y")]
        table(tmp_path / split / "metadata.csv", ("file_name", "label"), *rows)
    assert read(Source.of(tmp_path))[:2] == [("test/1.wav", "x"), ("test/2.wav", "x")]
    assert len(Source.of(tmp_path).rows) == 8


@pytest.mark.parametrize("columns", [("path", "label"), ("wav", "command"), ("file_name", "class")])
def test_a_csv_by_its_usual_columns(tmp_path, columns):
    place(tmp_path, *FOUR)
    path = table(tmp_path / "rows.csv", columns, *((name, name[0]) for name in FOUR))
    assert read(Source.of(path)) == [(name, name[0]) for name in FOUR]


def test_a_csv_by_given_columns_and_folder(tmp_path):
    place(tmp_path / "audio", *FOUR)
    rows = [(f"$data_root/{name}", name[0], "0", "800") for name in FOUR]
    path = table(tmp_path / "rows.csv", ("sound", "said", "start", "stop"), *rows)
    source = Source.of(path, "sound", "said", tmp_path / "audio")
    assert read(source) == [(name, name[0]) for name in FOUR] and set(source.rows["stop"]) == {800}


def test_files_that_are_not_there_are_told(tmp_path):
    place(tmp_path, *FOUR)
    path = table(
        tmp_path / "rows.csv", ("path", "label"), *((n, n[0]) for n in FOUR), ("c.wav", "a")
    )
    source = Source.of(path)
    assert len(source.rows) == 4 and source.left_out[0].startswith("c.wav: no such file")


def test_links_that_loop_or_leave_are_not_followed(tmp_path):
    root = place(tmp_path / "in", *FOUR)
    place(tmp_path / "out", "secret.wav")
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "leaves.wav").symlink_to(tmp_path / "out" / "secret.wav")
    (root / "a" / "inside.wav").symlink_to(root / "b" / "1.wav")
    (root / "c").symlink_to(tmp_path / "out")
    source = Source.of(root)
    assert [path for path, _ in read(source)] == ["a/1.wav", "a/2.wav", "a/inside.wav", *FOUR[2:]]
    linked = "a link to a folder; copy what it holds into the corpus"
    assert source.left_out == (
        f"a/loop: {linked}",
        f"c: {linked}",
        "a/leaves.wav: a link that leaves the corpus; copy the file into it",
    )


def test_what_a_training_may_hear_is_scanned_or_told(tmp_path):
    """Poison would else hide in what this one passes by, as in a folder whose name begins with a dot."""
    hidden = ("a/.p.wav", "a/._1.wav", "b/.more/1.wav", "b/.more/x/2.wav", ".c/1.wav")
    root = place(tmp_path / "in", *FOUR, *hidden)
    (root / "a" / ".notes.txt").write_text("no audio")
    (root / "d").symlink_to(place(tmp_path / "out", "1.wav"))
    source = Source.of(root)
    assert [path for path, _ in read(source)] == list(FOUR)
    told = {line.partition(":")[0]: line for line in source.left_out}
    assert set(told) == {".c", "a/.p.wav", "a/._1.wav", "b/.more", "d"}
    assert "hidden, with 2 clips" in told["b/.more"] and "a link to a folder" in told["d"]
    heard = {path.relative_to(root).as_posix() for path in listing.audio_files(root)}
    assert heard == set(FOUR)


def test_tables_that_are_hidden_or_behind_a_link_are_told(tmp_path):
    columns, rows = ("file_name", "label"), [(file, file[0]) for file in FOUR]
    for split in ("in/train", "in/.more", "out"):
        table(place(tmp_path / split, *FOUR) / "metadata.csv", columns, *rows)
    (tmp_path / "in" / "test").symlink_to(tmp_path / "out")
    source = Source.of(tmp_path / "in")
    assert {path.partition("/")[0] for path, _ in read(source)} == {"train"}
    assert [line.partition(":")[0] for line in source.left_out] == [".more", "test"]


def test_hidden_clips_that_links_lead_to_are_scanned(tmp_path):
    """As git-annex keeps them."""
    root = place(tmp_path, ".git/annex/1.wav", ".git/annex/2.wav", *FOUR)
    (root / "a" / "3.wav").symlink_to("../.git/annex/1.wav")
    source = Source.of(root)
    assert len(source.rows) == 5 and source.left_out == (
        ".git: hidden, with 1 clips; rename it to have it scanned",
    )
    (root / ".git" / "annex" / "2.wav").unlink()
    assert Source.of(root).left_out == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no audio in it"),
        (("a/1.wav", "a/2.wav"), "1 classes of two clips or more.*such classes$"),
        (("a/1.wav", "a/2.wav", "b/1.wav"), "not scanned: b/1.wav: the only clip of class 'b'"),
    ],
)
def test_a_folder_of_too_little(tmp_path, files, message):
    place(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        Source.of(tmp_path)


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        (("path", "said"), ("a/1.wav", "a"), "no column label or class .* it has path, said: .*`label_column`"),
        (("path", "label"), ("../out.wav", "a"), "line 2: '../out.wav' leaves"),
        (("path", "label"), ("/etc/passwd", "a"), "line 2: '/etc/passwd' leaves"),
        (("path", "label"), ("", "a"), "line 2: '' leaves"),
        (("path", "label"), ("a/1.wav", ""), "line 2: 'a/1.wav' has no label"),
        (("path", "label"), ("a/1.wav",), "line 2: 'a/1.wav' has no label"),
        (("path", "label"), ("a/1.wav", "x" * 256), "line 2: a label of 256 characters"),
        (("path", "label"), (f"{'a' * 300}.wav", "a"), "none of its files is there, first aaa"),
        (("path", "label"), ("gone.wav", "a"), "none of its files is there, first gone.wav"),
        (("path", "label", "start"), ("a/1.wav", "a", "x"), "line 2: start and stop are samples"),
        (("path", "label", "start", "stop"), ("a/1.wav", "a", "9", "9"), "line 2: .*span no samples"),
    ],
)  # fmt: skip
def test_a_csv_that_cannot_be(tmp_path, columns, row, message):
    place(tmp_path, *FOUR)
    with pytest.raises(InputError, match=message) as error:
        Source.of(table(tmp_path / "rows.csv", columns, row))
    assert "\n" not in str(error.value)


def lhotse(folder, sources=None, **changed):
    """Manifests of lhotse over `FOUR`: a tenth of a second each, of which the first half counts."""
    rows = {"recordings": [], "supervisions": []}
    for name in FOUR:
        source = {"type": "file", "channels": [0], "source": name}
        size = {"sampling_rate": 16000, "num_samples": 1600, "duration": 0.1}
        rows["recordings"].append({"id": name, "sources": sources or [source], **size})
        said = {"text": name[0], "speaker": name[2], "custom": {"room": name[2]}}
        span = {"recording_id": name, "start": 0.0, "duration": 0.05, "channel": 0}
        rows["supervisions"].append({"id": name, **span, **said, **changed})
    for part, some in rows.items():
        with gzip.open(folder / f"words_{part}_all.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in some)
    return folder / "words_supervisions_all.jsonl.gz"


def test_manifests_of_lhotse(tmp_path):
    path = lhotse(place(tmp_path, *FOUR))
    source = Source.of(path)
    assert read(source) == [(name, name[0]) for name in FOUR]
    assert set(source.rows["start"]) == {0} and set(source.rows["stop"]) == {800}
    for field in ("speaker", "room"):
        other = Source.of(tmp_path / "words_recordings_all.jsonl.gz", label_column=field)
        assert other.rows["label"].tolist() == ["1", "2", "1", "2"]
    for part in ("recordings", "supervisions"):
        packed = tmp_path / f"words_{part}_all.jsonl.gz"
        (tmp_path / f"{part}.jsonl").write_bytes(gzip.decompress(packed.read_bytes()))
    assert read(Source.of(tmp_path / "supervisions.jsonl")) == read(source)


def test_commands_in_a_manifest_are_not_run(tmp_path):
    place(tmp_path, *FOUR)
    path = lhotse(tmp_path, [{"type": "command", "channels": [0], "source": "touch hacked"}])
    with pytest.raises(InputError, match="no audio in it"):
        Source.of(path)
    assert not list(tmp_path.rglob("hacked")) and not Path("hacked").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": None, "speaker": None}, "line 1: no text or label .* `label_column`"),
        ({"recording_id": "gone"}, "line 1: a supervision has start, duration and the recording_id"),
        ({"duration": float("nan")}, "line 1: a supervision has start"),
        ({"start": "x"}, "line 1: a supervision has start"),
        ({"start": 2.0}, "line 1: start 32000 and stop 1600 span no samples"),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        Source.of(lhotse(place(tmp_path, *FOUR), **changed))


def test_lines_are_those_of_the_file(tmp_path):
    place(tmp_path, *FOUR)
    path = tmp_path / "rows.csv"
    path.write_text('path,label,note\na/1.wav,a,"two\nlines"\n\na/2.wav,,x\n')
    with pytest.raises(InputError, match=r"line 5: 'a/2\.wav' has no label"):
        Source.of(path)


@pytest.mark.parametrize("name", ["x\x1b[2J", "a\nb", "\u202egpj", "x;=1+1", "x; '@f"])
def test_names_that_forge_are_told_and_left_out(tmp_path, name):
    """Of a label, a folder, a table beside folders, a folder with a table; not accents and spaces."""
    root = place(tmp_path / "a", *FOUR, f"{name}/0.wav", "ä ☃/0.wav", "ä ☃/1.wav")
    rows = [[file, file[0]] for file in FOUR]
    listed = table(root / f"{name}.csv", ["path", "label"], *rows, ["a/1.wav", name])
    source = Source.of(root)
    assert len(source.rows) == 6 and len(source.left_out) == 2
    assert not any(map(forges, source.left_out))
    source = Source.of(listed)
    assert len(source.rows) == 4 and not forges(source.left_out[0])
    for split in ("train", name):
        place(tmp_path / "b" / split, *FOUR)
        columns = ["file_name", "label"]
        table(tmp_path / "b" / split / "metadata.csv", columns, *([f, f[0]] for f in FOUR))
    source = Source.of(tmp_path / "b")
    assert len(source.rows) == 4 and len(source.left_out) == 1 and not forges(source.left_out[0])


def test_a_label_that_no_file_can_hold(tmp_path):
    with pytest.raises(InputError, match=r"not scanned: a/1.wav, \\ud800: a name"):
        Source.of(lhotse(place(tmp_path, *FOUR), text="\ud800"))


def test_half_a_manifest_and_what_is_none(tmp_path):
    path = lhotse(place(tmp_path, *FOUR))
    path.write_bytes(b"\x1f\x8bno gzip")
    with pytest.raises(InputError, match="no lhotse manifest"):
        Source.of(path)
    path.unlink()
    with pytest.raises(InputError, match=r"no words_supervisions_all.jsonl.gz beside it"):
        Source.of(tmp_path / "words_recordings_all.jsonl.gz")
    (tmp_path / "rows.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match="neither recordings nor supervisions"):
        Source.of(tmp_path / "rows.jsonl")


def test_what_is_no_text_and_what_is_not_there(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        Source.of(tmp_path / "rows.csv")
    with pytest.raises(InputError, match="no such folder or file"):
        Source.of(tmp_path / "nothing")


def test_a_class_of_one_clip_is_told_and_left_out(tmp_path):
    place(tmp_path, *FOUR, "c/1.wav")
    source = Source.of(tmp_path)
    assert set(source.rows["label"]) == {"a", "b"}
    assert source.left_out == ("c/1.wav: the only clip of class 'c'",)


def test_what_a_corpus_holds(tmp_path):
    """A folder all that is below it; a table the folders of its clips, and beside them nothing."""
    place(tmp_path / "words", *FOUR)
    folder = Source.of(tmp_path / "words")
    for inside in ("words", "words/new", "words/a/new"):
        assert folder.holds(tmp_path / inside)
    table = tmp_path / "list.csv"
    table.write_text("path,label\n" + "".join(f"words/{path},{path[0]}\n" for path in FOUR))
    listed = Source.of(table)
    assert not folder.holds(tmp_path / "scan") and not listed.holds(tmp_path / "scan")
    assert listed.holds(tmp_path / "words/a/new") and not listed.holds(tmp_path / "words")
    place(tmp_path, "1.wav")
    table.write_text(table.read_text() + "1.wav,a\n")
    beside = Source.of(table)
    assert beside.holds(tmp_path) and not beside.holds(tmp_path / "scan")
