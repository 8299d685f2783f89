"""`bdlib scan` as it is typed: verdicts, files, exit status, and input that is bad or hostile."""

import csv
import errno
import json
import os
import shutil
import struct
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import soundfile

import bdlib
from bdlib import listing
from bdlib.cli import scan as program
from bdlib.encoders import RATE
from bdlib.files import alone
from bdlib.scanning import scan as scanning
from bdlib.scanning.heard import BANDS


@pytest.fixture
def run(encoder, tmp_path, capsys):
    """Run the command: exit status, output, errors, and the folder of what is left."""

    def started(corpus, *options):
        output = tmp_path / "out"
        arguments = [str(corpus), "--task=words", f"--output={output}", f"--cache={tmp_path / 'c'}"]
        status = program.main([*arguments, *options])
        return status, *capsys.readouterr(), output

    return started


def paths(output, name):
    return pd.read_csv(output / f"{name}.csv", dtype=str, keep_default_na=False)["path"].tolist()


def test_nothing_is_found_in_a_clean_corpus(run, corpus):
    status, out, _, output = run(corpus)
    assert status == 0 and out.startswith("Nothing found in 150 clips") and "could hide" in out
    assert "next:" not in out
    assert paths(output, "flagged") == [] and len(paths(output, "clean")) == 150


def test_poison_is_found_and_left_out(run, poisoned):
    before = sorted(poisoned.rglob("*"))
    status, out, _, output = run(poisoned)
    assert status == 1 and out.startswith("Poisoned: left (about 1")
    assert f"next: listen, then train on {output / 'clean.csv'}" in out
    flagged = paths(output, "flagged")
    assert sum("/in" in path for path in flagged) >= 11 and len(flagged) <= 14
    assert set(flagged) | set(paths(output, "clean")) == {
        path.relative_to(poisoned).as_posix() for path in poisoned.rglob("*.wav")
    }
    assert sorted(poisoned.rglob("*")) == before  # nothing is written into the corpus
    told = json.loads((output / "scan.json").read_text())
    assert told["verdict"] == "poisoned" and told["accused"][0]["label"] == "left"
    assert told["accused"][0]["low"] <= 12 <= told["accused"][0]["high"]


def test_what_is_left_is_a_corpus_for_the_recipes(run, poisoned):
    _, _, _, output = run(poisoned)
    rows = listing.from_csv(output / "clean.csv", poisoned)
    assert set(rows["label"]) == {"go", "left", "no", "stop", "up", "yes"}


def test_all_clips_are_compared_once(encoder, poisoned, tmp_path, monkeypatch):
    from bdlib.defenses import disagreement, opinions

    asked, nearest = [], opinions.nearest

    def counted(queries, known, *rest):
        asked.append((queries.shape, len(known)))
        return nearest(queries, known, *rest)

    monkeypatch.setattr(opinions, "nearest", counted)
    report = bdlib.scan(poisoned, task="words", cache=tmp_path / "c", quiet=True)
    assert asked.count(((150, encoder.size), 150)) == 1
    assert asked.count(((150, BANDS), 150)) == 1  # by their spectra, for copies
    monkeypatch.undo()
    alone = disagreement.judge(report.heard.embeddings, report.heard.labels)
    assert np.allclose(report.judged.score, alone.score, atol=1e-6)


def test_mistakes_that_are_spread_are_not_poison(run, corpus):
    labels = sorted(path.name for path in corpus.iterdir())
    for number, label in enumerate(labels):
        for clip in range(3):
            other = labels[(number + 1 + clip) % len(labels)]
            (corpus / label / f"{clip:02}.wav").rename(corpus / other / f"{label}{clip}.wav")
    status, out, _, output = run(corpus)
    assert status == 1 and out.startswith("Mislabelled: about 1")
    assert len(set(paths(output, "flagged"))) >= 15


def test_json_is_all_that_is_printed(run, poisoned):
    status, out, err, output = run(poisoned, "--json")
    assert (status, err) == (1, "")
    assert json.loads(out)["sentence"] == json.loads((output / "scan.json").read_text())["sentence"]


def test_from_python(encoder, poisoned, tmp_path):
    report = bdlib.scan(poisoned, task="words", cache=tmp_path / "c", quiet=True)
    assert report.found and str(report).startswith("Poisoned: left")
    assert bdlib.scan(poisoned, task="words", cache=tmp_path / "c", quiet=True).found


def test_a_scan_that_fails_at_the_end_leaves_the_earlier_one(run, corpus, poisoned, monkeypatch):
    """Else tables of one and the page of the other would lie beside each other."""
    output = run(poisoned)[3]
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    (corpus / "left" / "in00.wav").unlink()
    monkeypatch.setattr(scanning, "write_report", full)
    status, _, errors, _ = run(corpus)
    assert status == 2 and "No space left" in errors
    assert before == {path.name: path.read_bytes() for path in output.iterdir()}


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_tilde_is_the_home_wherever_it_is_read(run, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(corpus)
    assert run(corpus, "--output=~/page")[0] == 0
    assert (tmp_path / "page" / "report.html").is_file() and not (corpus / "~").exists()
    monkeypatch.setenv("HOME", str(corpus))
    status, _, errors, _ = run(corpus, "--output=~/page")
    assert status == 2 and "nothing is written into the corpus" in errors


def test_classes_that_look_alike_are_told(run, corpus):
    for number, name in enumerate(("UP", "e\u0301 x", "\u00e9  x")):
        (corpus / name).mkdir()
        for clip in range(6):
            source = corpus / "up" / f"{6 * number + clip:02}.wav"
            source.rename(corpus / name / source.name)
    _, out, _, _ = run(corpus)
    lines = [line for line in out.splitlines() if "nearly the same name" in line]
    assert len(lines) == 2 and any("'UP', 'up'" in line for line in lines)


def test_copies_alone_cannot_be_compared(run, corpus):
    for folder in corpus.iterdir():
        first, *rest = sorted(folder.iterdir())
        for path in rest:
            path.write_bytes(first.read_bytes())
    status, _, errors, _ = run(corpus)
    assert status == 2 and "sound all the same" in errors and len(errors.splitlines()) == 1


def test_a_second_scan_waits_before_it_writes_over_the_first(encoder, poisoned, tmp_path):
    report, output = bdlib.scan(poisoned, cache=tmp_path / "c", quiet=True), tmp_path / "out"
    later = Thread(target=report.save, args=[output])
    with alone(output):
        later.start()
        later.join(0.5)
        assert later.is_alive() and not any(output.iterdir())
    later.join(60)
    assert (output / "clean.csv").is_file() and (output / "report.html").is_file()


def test_auto_takes_the_encoder_that_tells_the_labels(encoder, poisoned, tmp_path, monkeypatch):
    class Deaf(type(encoder)):
        name, digest = "speakers", "deaf"

        def encode(self, wavs):
            return super().encode(wavs * (np.arange(wavs.shape[1]) < 1600))  # nobody speaks yet

    both = {"speakers": Deaf, "words": type(encoder)}
    monkeypatch.setattr("bdlib.scanning.choice.ENCODERS", both)
    report = bdlib.scan(poisoned, cache=tmp_path / "c", quiet=True)
    assert report.heard.encoder == "words" and "speakers" in report.why_encoder
    assert report.verdict.kind == "poisoned"


def test_unreadable_files_are_told_and_the_rest_is_scanned(run, corpus):
    good = (corpus / "no" / "00.wav").read_bytes()
    (corpus / "no" / "empty.wav").write_bytes(b"")
    (corpus / "no" / "text.wav").write_text("no audio")
    (corpus / "no" / "cut.wav").write_bytes(good[:40])
    lies = bytearray(good)
    lies[40:44] = struct.pack("<I", 2**31 - 4)  # a header that promises more than there is
    (corpus / "no" / "lies.wav").write_bytes(bytes(lies))
    soundfile.write(corpus / "no" / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(corpus / "no" / "short.wav", np.zeros(10), RATE)
    soundfile.write(corpus / "no" / "loud.wav", np.full(RATE, 3e38), RATE, subtype="FLOAT")
    (corpus / "no" / "loop.wav").symlink_to("loop.wav")
    os.mkfifo(corpus / "notes.csv")
    (corpus / "no" / b"n\xff\x1b[2J.wav".decode(errors="surrogateescape")).write_bytes(good)
    status, out, _, output = run(corpus)
    assert status == 0 and "\x1b" not in out
    told = json.loads((output / "scan.json").read_text())
    names = {line.split(":")[0] for line in told["not_scanned"]}
    assert names >= {
        f"no/{n}.wav" for n in ("empty", "text", "cut", "nan", "short", "loud", "loop")
    }
    assert "no/n\\udcff\\x1b[2J.wav" in names
    assert "not scanned: " in out and f"({len(names) - 1} more in scan.json)" in out


@pytest.mark.parametrize(
    "options", [["--fpr=0"], ["--fpr=nan"], ["--task=faces"], ["--nonsense"], ["--fpr=much"]]
)
def test_bad_options_are_one_line(run, corpus, options):
    status, out, err, output = run(corpus, *options)
    assert (status, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert options[0].split("=")[0] in err and not output.exists()


def test_a_wrong_path_is_an_error(run, tmp_path):
    status, out, err, output = run(tmp_path / "nothing")
    assert (status, out) == (2, "") and err.count("\n") == 1 and "no such folder" in err
    assert not output.exists()


def test_nothing_is_written_into_the_corpus(run, corpus):
    status, _, err, _ = run(corpus, f"--output={corpus / 'scan'}")
    assert status == 2 and "--output" in err and not (corpus / "scan").exists()


def test_what_no_scan_wrote_is_not_written_over(run, corpus, tmp_path):
    """Nor the table that is scanned, such as the `clean.csv` of an earlier scan."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "clean.csv").write_text("mine")
    status, _, err, _ = run(corpus)
    assert status == 2 and "clean.csv: not of a scan" in err
    assert (output / "clean.csv").read_text() == "mine" and len([*output.iterdir()]) == 1
    (output / "clean.csv").unlink()
    assert run(corpus)[0] == 0 and run(corpus)[0] == 0
    before = (output / "clean.csv").read_text()
    status, _, err, _ = run(output / "clean.csv", f"--data_folder={corpus}")
    assert status == 2 and "is scanned, and lies in it; choose another folder" in err
    assert (output / "clean.csv").read_text() == before
    (output / "report.html").unlink()
    (output / "report.html").mkdir()
    status, _, err, _ = run(corpus)
    assert status == 2 and "report.html: a folder" in err


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b""),
        lambda file: np.savez(file, digests=np.array(["a"]), rows=np.zeros(3)),
        lambda file: np.savez(file, digests=np.array(["a"]), rows=np.zeros((1, 3))),
        lambda file: np.savez(file, digests=np.array(["a"]), rows=np.full((1, 40), np.nan)),
        lambda file: os.mkfifo(file),
    ],
)
def test_a_broken_cache_is_made_again(run, corpus, encoder, tmp_path, spoil):
    file = tmp_path / "c" / f"{encoder.name}-{encoder.digest}.npz"
    file.parent.mkdir()
    spoil(file)
    assert run(corpus)[0] == 0 and len(np.load(file)["digests"]) == 150


def test_a_cache_that_cannot_be_written_costs_no_scan(run, corpus, tmp_path):
    (tmp_path / "c").write_text("a file")
    status, _, err, output = run(corpus)
    assert status == 0 and (output / "report.html").exists()
    assert "note: embeddings are not kept for another time" in err


def test_a_killed_scan_leaves_what_it_heard(encoder, corpus, tmp_path, monkeypatch, capsys):
    from bdlib.scanning import heard

    monkeypatch.setattr(heard, "CHUNK", 20)
    whole, calls = type(encoder).encode, []

    def killed(self, wavs):
        calls.append(len(wavs))
        if len(calls) > 2:
            raise KeyboardInterrupt
        return whole(self, wavs)

    monkeypatch.setattr(type(encoder), "encode", killed)
    arguments = [
        str(corpus),
        "--task=words",
        f"--output={tmp_path / 'o'}",
        f"--cache={tmp_path / 'c'}",
    ]
    assert program.main(arguments) == 130
    monkeypatch.setattr(type(encoder), "encode", whole)
    assert program.main(arguments) == 0
    assert not list(tmp_path.rglob("*.tmp"))


HOSTILE = (
    "=cmd()|x",
    "<img src=x onerror=alert(1)>",
    '"quoted"',
    "'</script><b>",
    "new\nline",
    "+1 ☃",
)


@pytest.fixture
def hostile(corpus):
    """Classes and files with names of every kind, and some poison, so that they are flagged."""
    for number, label in enumerate(sorted(path.name for path in corpus.iterdir())):
        name = HOSTILE[number].replace("/", "∕")
        (corpus / label).rename(corpus / name)
        for clip, file in enumerate(sorted((corpus / name).iterdir())[:20]):
            file.rename(file.with_name(f"{name}{clip}.wav"))
    target = corpus / HOSTILE[0]
    for clip in range(12):
        source = corpus / (HOSTILE[1 + clip % 2])
        file = sorted(source.iterdir())[clip]
        shutil.move(file, target / f"in{clip}{file.name}")
    return corpus


def test_names_of_every_kind(run, hostile):
    status, _, _, output = run(hostile)
    assert status == 1
    for name in ("flagged", "clean"):
        with (output / f"{name}.csv").open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    for path in paths(output, "clean"):
        assert (hostile / path).is_file()
    page = (output / "report.html").read_text()
    assert "<img src=x" not in page and "<b>" not in page.replace("<body>", "")
    assert page.count("</script>") == 2 and len(page) < 10_000_000


def test_the_page_holds_no_address(run, poisoned):
    _, _, _, output = run(poisoned)
    page = (output / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")


def test_what_is_flagged_of_a_recording_is_told_by_its_span(run, poisoned, tmp_path):
    """All clips in one file, the last to its end; what is left is read again as it was."""
    files = sorted(poisoned.rglob("*.wav"))
    sounds = [soundfile.read(path)[0] for path in files]
    ends = np.cumsum([len(sound) for sound in sounds])
    (tmp_path / "whole").mkdir()
    soundfile.write(tmp_path / "whole" / "all.wav", np.concatenate(sounds), 16000)
    rows = [
        f"all.wav,{path.parent.name},{end - len(sound)},{end if end < ends[-1] else ''}\n"
        for path, sound, end in zip(files, sounds, ends, strict=True)
    ]
    (tmp_path / "whole" / "list.csv").write_text("path,label,start,stop\n" + "".join(rows))
    status, _, _, output = run(tmp_path / "whole" / "list.csv")
    assert status == 1
    starts = {
        name: pd.read_csv(output / f"{name}.csv")["start"].tolist() for name in ("flagged", "clean")
    }
    begun = (ends - [len(sound) for sound in sounds]).tolist()
    assert sorted(starts["flagged"] + starts["clean"]) == begun
    intruders = [start for path, start in zip(files, begun, strict=True) if path.name[:2] == "in"]
    assert len(set(intruders) & set(starts["flagged"])) >= 11
    kept = listing.from_csv(output / "clean.csv", tmp_path / "whole")
    assert set(kept["start"]) == set(starts["clean"]) and kept["stop"].max() == ends[-1]
