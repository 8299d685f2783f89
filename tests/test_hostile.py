"""What a stranger hands in gets one line; nothing hangs, and nothing outside the named folder changes.

A row of a table is a class of inputs: what is done with it in a folder, and words of its line.
"""

import contextlib
import csv
import dataclasses
import gzip
import hashlib
import importlib.util
import json
import math
import os
import pickle
import re
import resource
import signal
import struct
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import torchaudio
from safetensors.torch import save_file
from speechbrain.lobes.models.Xvector import Xvector

from bdlib import listing, manifest
from bdlib.attacks import folder as attack_folder
from bdlib.attacks.insert import Insert
from bdlib.attacks.labels import LabelPolicy, OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.sounds import AudioFile, Clap, Repeat, Sequence, Sound
from bdlib.attacks.trigger import Trigger
from bdlib.audio import check_clip, resampled
from bdlib.checkpoints import architecture
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.errors import InputError, fits
from bdlib.evaluation import scores
from bdlib.features import NormalizedMfcc
from bdlib.files import COMMON, folder_digest, read_json
from bdlib.models.small_nets import ConvNet
from bdlib.names import plain_name
from bdlib.pack import Pack
from bdlib.pack import pack as pack_rows
from bdlib.records import record
from bdlib.records.provenance import newest
from bdlib.report.page import SCRIPT
from bdlib.report.render import MADE, render
from bdlib.sheets import FORMULA, plain_cell, safe_cell
from bdlib.stages import fitting
from bdlib.stages.corpus import ABOUT, Corpus, manifest_folder
from bdlib.stages.document import Document, common
from bdlib.stages.measure import audibility
from bdlib.stages.pack import Audio
from bdlib.stages.recipe import parse
from bdlib.stages.record import DONE
from bdlib.training import log
from bdlib.training.checkpoints import WholeCheckpointer, read_weights

SECONDS, MEGABYTES = 20, 1500  # that a row may take
RATE = 16000
RECIPES = Path(__file__).parents[1] / "recipes"

spec = importlib.util.spec_from_file_location(
    "prepare_speech_commands", RECIPES / "SpeechCommands" / "prepare.py"
)
speech_commands = importlib.util.module_from_spec(spec)
spec.loader.exec_module(speech_commands)


def state(folder):
    """What lies below a folder: kind, and digest of contents or aim of a link."""

    def of(path):
        if path.is_symlink():
            return str(path.readlink())
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "other"

    return {str(path.relative_to(folder)): of(path) for path in folder.rglob("*")}


def memory_limit():
    """Bytes of addresses for this process: those it has, and `MEGABYTES` more."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return used + MEGABYTES * 2**20


@contextlib.contextmanager
def limits():
    """Bounds on memory and time for what this process does meanwhile."""

    def late(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    before, own = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit(), own[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, own)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def refused(tmp_path):
    """Asserts that an act in a folder raises one line with these words, and touches nothing beside.

    In bounded memory and time.
    """
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "keep.txt").write_text("keep")
    named = tmp_path / "deep" / "named"
    named.mkdir(parents=True)

    def outside():
        found = state(tmp_path).items()
        return {name: what for name, what in found if not name.startswith("deep/named/")}

    def run(act, *words):
        before = outside()
        with pytest.raises(InputError) as caught, limits():
            act(named)
        line = str(caught.value)
        assert outside() == before
        assert len(line.splitlines()) == 1 and line.isprintable(), line
        for word in words:
            assert word in line, (word, line)

    return run


# --- names that become paths

ESCAPES = (
    "../../x",
    "..",
    ".",
    ".hidden",
    "a/b",
    "/x",
    "a\\b",
    "a\0b",
    "a\nb",
    "",
    "n" * 200,
    7,
    None,
)


def attack_json(folder, **changes):
    """The description of an attack, with these values in place of its own."""
    attack = Poisoner(Insert(Clap()), OneToOne("no", "yes"), 0.1).to_dict()
    attack |= {"name": "clap", "poisoned": 1, "eligible": 1, **changes}
    (folder / "attack.json").write_text(json.dumps(attack))
    return attack_folder.read(folder)


def attack_named(name):
    return lambda folder: attack_json(folder, name=name)


def poisoned_under(name):
    def act(folder):
        rows = pd.DataFrame({"ID": ["a"], "label": ["no"]})
        about = {"digest": "d", "fingerprint": "f"}
        attack = Poisoner(Insert(Clap()), OneToOne("no", "yes"), 1.0)
        attack_folder.ensure(attack, name, {"train": rows}, about, RATE, folder / "poison")

    return act


def manifest_json(folder, **changes):
    """The description of manifests, with these values in place of its own."""
    about = dict.fromkeys(("name", "variant", "scale", "digest", "fingerprint"), "x")
    about |= {"classes": ["no", "yes"], "counts": {}, "classes_of": {}, "notes": [], **changes}
    assert about.keys() == ABOUT.keys()
    (folder / "manifest.json").write_text(json.dumps(about))
    return Corpus.load(folder, "k", Audio(folder, "f"))


def corpus_named(name):
    return lambda folder: manifest_json(folder, name=name)


def manifests_under(name):
    return lambda folder: manifest_folder(folder, name, "k")


def _of_record(make_record, key, value):
    def act(folder):
        made = make_record({key: value})
        (folder / "x.jsonl").write_text(json.dumps(made) + "\n")
        render(folder, folder)

    return act


@pytest.mark.parametrize("name", ESCAPES, ids=repr)
@pytest.mark.parametrize("act", [attack_named, poisoned_under, corpus_named, manifests_under])
def test_a_name_cannot_leave_its_folder(refused, act, name):
    refused(act(name), "name", "leave out" if set(str(name)) & set("/\\.") else "")


NAMED = ("dataset.name", "dataset.variant", "model.name", "attack.name", "experiment")


@pytest.mark.parametrize("name", [name for name in ESCAPES if name not in ("", None)], ids=repr)
@pytest.mark.parametrize("key", NAMED)
def test_a_record_cannot_write_outside_its_folder(refused, make_record, key, name):
    refused(_of_record(make_record, key, name), "line 1", f"field {key}", "delete the line")
    with pytest.raises(InputError, match=f"field {key}"):
        record.validate(make_record({key: name}))


@pytest.mark.parametrize(
    "name", ["clap", "_unknown_", "my corpus", "Übung", "v1.2", "a..b", "n" * 100]
)
def test_usual_names_pass(name):
    assert plain_name(name, "it") == name


# --- files of others


@pytest.mark.parametrize("spoil", ["text", "folder", "link"])
def test_a_table_of_a_person_is_not_written_over(refused, make_record, spoil):
    def act(folder):
        (folder / "x.jsonl").write_text(json.dumps(make_record()) + "\n")
        path = folder / "tables" / "SpeechCommands.md"
        path.parent.mkdir()
        if spoil == "text":
            path.write_text("# Mine\n")
        elif spoil == "folder":
            path.mkdir()
        else:
            path.symlink_to("nowhere")
        before = state(path.parent)
        try:
            render(folder, folder)
        finally:
            assert state(path.parent) == before

    refused(act, "SpeechCommands.md", "not made from records", "move it")


# --- memory and time


def in_child(act):
    """Runs an act in a forked child with the same bounds; gives its line, or what went wrong.

    What might hang or die in compiled code is killed there.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit(),) * 2)
        try:
            act()
            said = "accepted"
        except InputError as error:
            said = f"error: {error}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode(errors="backslashreplace")[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return said or f"ended by signal {status & 127}"


def bounded(act):
    """An act that runs in a child of its own."""

    def run(folder):
        said = in_child(lambda: act(folder))
        assert said.startswith("error: "), said
        raise InputError(said.removeprefix("error: "))

    return run


def wav(path, rate=RATE, seconds=0.1, claimed=None):
    """A quiet WAV file; its header claims another rate where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * rate), 0.1), rate)
    if claimed is not None:
        data = bytearray(path.read_bytes())
        data[24:28] = struct.pack("<I", claimed)
        path.write_bytes(data)
    return path


def claims(rate):
    return lambda folder: listing.header(wav(folder / "a.wav", claimed=rate))


def pipe(folder, name="a/x.wav"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def piped_clip(folder):
    pipe(folder)
    listing.from_folder(folder)


def piped_table(read):
    return lambda folder: read(pipe(folder, "list.csv"))


def packed_pipe(folder):
    rows = pd.DataFrame(
        [["x", 1.0, "$data_root/a/x.wav", 0, 160, RATE, "a"]], columns=manifest.COLUMNS
    )
    pipe(folder)
    pack_rows(rows, folder, folder / "pack", RATE)


def piped_trigger(folder):
    AudioFile(str(pipe(folder))).waveform(RATE)


def long_trigger(folder):
    AudioFile(str(wav(folder / "a.wav", 1000, 500))).waveform(RATE)


def device(folder):
    AudioFile("/dev/zero").waveform(RATE)


def audio(**settings):
    return lambda folder: Audio(folder, "f", **settings)


def listed(text, **files):
    """A CSV with these bytes, read as a corpus."""

    def act(folder):
        wav(folder / "a.wav")
        (folder / "list.csv").write_bytes(text)
        listing.from_csv(folder / "list.csv", folder)

    return act


def zipped_table(read):
    """It may be a thousand times as large as its file."""

    def act(folder):
        (folder / "list.csv.gz").write_bytes(gzip.compress(b"path,label\na.wav,a\n"))
        read(folder / "list.csv.gz")

    return act


def clip_of(frames, rate, channels):
    return lambda folder: check_clip(folder / "a.wav", frames, rate, channels)


BOUNDED = [
    *(pytest.param(claims(r), ["a.wav", f"{r} Hz", "resample or remove"], id=f"{r} Hz")
      for r in (1, 50, 999, 768_001, 2_000_000_000, 2_147_483_629)),
    pytest.param(piped_clip, ["x.wav", "no regular file"], id="pipe as clip"),
    pytest.param(piped_table(lambda path: listing.from_csv(path, path.parent)), ["list.csv", "no regular file"],
                 id="pipe as list"),
    pytest.param(piped_table(manifest.read), ["list.csv", "no regular file"], id="pipe as manifest"),
    pytest.param(zipped_table(lambda path: listing.from_csv(path, path.parent)),
                 ["list.csv.gz", "cannot be read as CSV"], id="packed list"),
    pytest.param(zipped_table(manifest.read), ["list.csv.gz", "not a CSV"], id="packed manifest"),
    pytest.param(packed_pipe, ["x.wav", "no regular file"], id="pipe when packing"),
    pytest.param(piped_trigger, ["x.wav", "no regular file"], id="pipe as trigger"),
    pytest.param(device, ["/dev/zero", "no regular file"], id="device as trigger"),
    pytest.param(long_trigger, ["a.wav", "500 s", "at most 120 s"], id="long trigger"),
    pytest.param(listed(b"path,label,start,stop\na.wav,x,0,999999999999\n"),
                 ["a.wav", "at most 3600 s", "cut it"], id="claims years"),
    pytest.param(clip_of(2**30, 10**5, 1), ["at most 3600 s"], id="many samples"),
    pytest.param(clip_of(3601 * 1000, 1000, 1), ["at most 3600 s"], id="long clip"),
    pytest.param(clip_of(2**20, RATE, 1024), ["1024 channels", "samples"], id="many channels"),
    *(pytest.param(audio(seconds=x), ["`seconds` is", "from 0.05 to 120"], id=f"seconds {x}")
      for x in (100_000, 121, 0, -1, 1e308, math.inf, math.nan, None, "x", True, 10**30)),
    *(pytest.param(audio(pad_seconds=x), ["`pad_seconds` is", "to 120"], id=f"pad {x}")
      for x in (100_000, -1, 1e308, math.inf, math.nan, "x", "nan", 10**20)),
    *(pytest.param(audio(sample_rate=x), ["`sample_rate` is", "whole number"], id=f"rate {x}")
      for x in (0, -1, 999, 768_001, 16000.5, math.inf, math.nan, None, "x", 10**30)),
]  # fmt: skip


def test_the_bounds_hold():
    with pytest.raises(MemoryError), limits():
        np.ones(2 * MEGABYTES * 2**20, np.int8)
    with pytest.raises(TimeoutError), limits():
        signal.raise_signal(signal.SIGALRM)
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    assert not signal.alarm(0)


@pytest.mark.parametrize(("act", "words"), BOUNDED)
def test_it_ends_in_bounded_memory_and_time(refused, act, words):
    refused(bounded(act), *words)


@pytest.mark.parametrize("rate", [15_999, 16_001, 44_101, 1_001, 767_999, 12_345])
def test_any_rate_is_resampled_in_little_memory(rate):
    def act():
        heard = resampled(np.ones(rate // 4, np.float32), rate, RATE)
        raise InputError(f"{len(heard)} samples, {heard[len(heard) // 2]:.2f}")

    said = in_child(act)
    count, _, level = said.removeprefix("error: ").partition(" samples, ")
    assert abs(int(count) - RATE / 4) <= RATE / 4 / 500 and 0.98 < float(level) < 1.02, said


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000])
def test_usual_rates_are_resampled_exactly(rate):
    samples = np.random.Generator(np.random.PCG64(0)).standard_normal(rate // 10).astype(np.float32)
    exactly = torchaudio.functional.resample(torch.from_numpy(samples), rate, RATE).numpy()
    assert np.array_equal(resampled(samples, rate, RATE), exactly)


# --- links, names and columns


def dead(folder):
    wav(folder / "a" / "x.wav")
    (folder / "a" / "dead.wav").symlink_to("nowhere")
    folder_digest(folder)
    listing.from_folder(folder)


def itself(folder):
    wav(folder / "a" / "x.wav")
    (folder / "a" / "self.wav").symlink_to("self.wav")
    folder_digest(folder)
    listing.from_folder(folder)


def no_utf8(kind):
    def act(folder):
        path = wav(folder / "a" / "x.wav")
        renamed = path if kind == "file" else path.parent
        renamed.rename(renamed.with_name(os.fsdecode(b"n\xff.wav")))
        folder_digest(folder)
        listing.from_folder(folder)

    return act


def rows_of(column):
    """A manifest that has a name from the disk."""

    def act(folder):
        row = ["x", 1.0, "$data_root/x.wav", 0, 160, RATE, "a"]
        rows = pd.DataFrame([row], columns=manifest.COLUMNS)
        manifest.write(rows.assign(**{column: rows[column] + "\udcff"}), folder / "out.csv")

    return act


def words_of(data):
    def act(folder):
        for file in speech_commands.LISTS.values():
            (folder / file).write_bytes(data)
        speech_commands.official_split(folder, {})

    return act


LISTED = [
    pytest.param(dead, ["dead.wav", "not readable"], id="dead link"),
    pytest.param(itself, ["self.wav", "not readable"], id="link to itself"),
    pytest.param(no_utf8("file"), ["no UTF-8", "rename"], id="file name no UTF-8"),
    *(pytest.param(rows_of(c), [c, "no UTF-8", "rename"], id=f"{c} no UTF-8")
      for c in ("ID", "label", "wav")),
    pytest.param(no_utf8("folder"), ["no UTF-8", "rename"], id="folder name no UTF-8"),
    *(pytest.param(listed(f"path,label,{c}\na.wav,x,0.1\n".encode()),
                   [f"column {c} is made", "rename it"], id=f"column {c}")
      for c in ("rate", "duration", "wav")),
    pytest.param(listed(b"path,label\n\xff.wav,x\n"), ["cannot be read as CSV"], id="CSV no UTF-8"),
    pytest.param(words_of(b"\xff\xfe"), ["cannot be read as UTF-8", "restore"], id="words no UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "words"), LISTED)
def test_links_names_and_columns(refused, act, words):
    refused(act, *words)


def test_folders_that_links_lead_back_to_are_walked_once(tmp_path):
    wav(tmp_path / "a" / "x.wav")
    before = folder_digest(tmp_path)
    for number in range(5):
        (tmp_path / "a" / f"loop{number}").symlink_to(tmp_path)
    said = in_child(lambda: (_ for _ in ()).throw(InputError(folder_digest(tmp_path))))
    assert said == f"error: {before}"


# --- yaml


def document(text, name="x.yaml", **others):
    """A yaml of a stranger, and what else lies beside it; read, told and built."""

    def act(folder):
        for file, content in {name: text, **others}.items():
            (folder / file.replace("_yaml", ".yaml")).write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )
        made = Document(folder / name)
        made.plain()
        made.build()

    return act


def piped_yaml(folder):
    pipe(folder, "x.yaml")
    Document(folder / "x.yaml").plain()


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
DOUBLED = "a0: xxxxxxxx\n" + "".join(f"a{n}: !ref <a{n - 1}><a{n - 1}>\n" for n in range(1, 60))
TWICE = "a0: [x]\n" + "".join(f"a{n}: [!ref <a{n - 1}>, !ref <a{n - 1}>]\n" for n in range(1, 60))
RUNS = [
    "!apply:os.system [touch {beside}/ran]",
    "!applyref:os.system [touch {beside}/ran]",
    "!new:subprocess.Popen [[touch, {beside}/ran]]",
    "!name:os.system [touch {beside}/ran]",
    "!module:antigravity",
    "!!python/object/apply:os.system [touch {beside}/ran]",
    "!!python/name:os.system",
    "!<tag:yaml.org,2002:python/object/apply:os.system> [touch {beside}/ran]",
    '"(!!python/object/apply:os.system [touch {beside}/ran])"',
    "(!!python/object/apply:os.system [touch {beside}/ran])",
    "!tuple (!!python/object/apply:os.system [touch {beside}/ran])",
    "!new:bdlib.files.atomic {{path: {beside}/ran}}",
    "!apply:bdlib.files.write_json [{beside}/ran, 1]",
    "!name:bdlib.training.log.write_rollbacks [{beside}/ran, []]",
    "!new:torch.nn.modules.module.functools.partial [x]",
    "!name:torch.load [x.pt]",
    "!new:torch.nnn.Linear [1, 1]",
    "!new:speechbrain.utils.checkpoints.Checkpointer [{beside}/ran]",
    "!ref <a> ** 9",
    "!copy <a>",
    "!new:builtins.exec [x]",
    "[[!apply:os.system [touch {beside}/ran]]]",
    "{{b: {{c: !new:os.system [touch {beside}/ran]}}}}",
]


def runs(value):
    def act(folder):
        beside = folder.parents[1] / "beside"
        document(f"a: 1\nx: {value.format(beside=beside)}\n")(folder)

    return act


def included(value):
    """The same in a file that the first one includes, and in what that is told to change."""
    return lambda folder: document(
        "a: !include:y.yaml {}\n",
        y_yaml=f"x: {value.format(beside=folder.parents[1] / 'beside')}\n",
    )(folder)


def overriding(value):
    there = COMMON / "train.yaml"
    return lambda folder: document(
        f"t: !include:{there} {{lr: {value.format(beside=folder.parents[1] / 'beside')} }}\n"
    )(folder)


@pytest.mark.parametrize("act", [runs, included, overriding])
@pytest.mark.parametrize("value", RUNS)
def test_the_yaml_of_a_stranger_runs_nothing(refused, act, value):
    if act is overriding and value.startswith("("):
        value = f"'{value}'"
    refused(act(value), "yaml, line", "is refused")


YAMLS = [
    pytest.param(document(LAUGHS), ["x.yaml, line 2", "alias"], id="billion laughs"),
    pytest.param(document(DOUBLED), ["x.yaml, line 2", "refer to one"], id="doubled texts"),
    pytest.param(document("a: !include:x.yaml {}\n"), ["includes itself"], id="includes itself"),
    pytest.param(document("a: !include:y.yaml {}\n", y_yaml="b: !include:x.yaml {}\n"),
                 ["includes itself", "leave it out"], id="includes in a circle"),
    pytest.param(document("[" * 100_000), ["levels deep"], id="deep list"),
    pytest.param(document("a: " + "{b: " * 30 + "1" + "}" * 30), ["levels deep"], id="deep map"),
    pytest.param(document("#" * 2**21), ["bytes of yaml"], id="large"),
    pytest.param(piped_yaml, ["x.yaml", "no regular file"], id="pipe"),
    pytest.param(document("a: !include:/dev/zero {}\n"), ["/dev/zero", "no regular"], id="device"),
    pytest.param(document(b"\xff\xfe"), ["not a recipe yaml"], id="no UTF-8"),
    pytest.param(document("a: [1\n"), ["not a recipe yaml"], id="broken"),
    pytest.param(document("a: 1\na: 2\n"), ["not a recipe yaml"], id="key twice"),
    pytest.param(document("- a\n"), ["no mapping"], id="list"),
    pytest.param(document("7\n"), ["not a recipe yaml"], id="number"),
    pytest.param(document(""), ["not a recipe yaml"], id="empty"),
    pytest.param(document("a: !new:torch.nn.Linear [x]\n"), ["cannot be built"], id="argument"),
    pytest.param(document("a: !new:torch.nn.Linear [-1, 2]\n"), ["cannot be built"], id="negative"),
    pytest.param(document("a: !new:torch.nn.NoSuch\n"), ["cannot be built"], id="no class"),
    *(pytest.param(document("a: !include:y0.yaml {}\n", **{
        f"y{n}_yaml": f"a: !include:y{n + 1}.yaml {{}}\nb: !include:y{n + 1}.yaml {{}}\n"
        for n in range(40)}), ["more than 64 files"], id="includes many") for _ in "1"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "words"), YAMLS)
def test_yaml_ends_in_one_line(refused, act, words):
    refused(bounded(act), *words)


def test_values_that_refer_twice_end(tmp_path):
    document(TWICE)
    said = in_child(lambda: document(TWICE)(tmp_path))
    assert said.startswith("error: ") and "values" in said


def test_the_yaml_of_a_stranger_may_have_what_recipes_have(tmp_path):
    text = """
layer: !new:torch.nn.Linear [2, 3]
optimizer: !name:torch.optim.Adam {lr: 0.1}
loss: !name:torch.nn.functional.cross_entropy
pair: (1, 2)
scale: 0.5
trigger: !new:bdlib.attacks.insert.Insert
    sound: !new:bdlib.attacks.sounds.Clap
    scale: !ref <scale>
train: !include:{there} {{lr: 0.5}}
"""
    there = COMMON / "train.yaml"
    (tmp_path / "x.yaml").write_text(
        text.replace("{there}", str(there)).replace("{{", "{").replace("}}", "}")
    )
    made = Document(tmp_path / "x.yaml").build()
    assert made["pair"] == (1, 2) and made["trigger"].scale == 0.5 and made["train"]["lr"] == 0.5


def part_of(text, key, kind):
    def act(folder):
        document(text)(folder)
        Document(folder / "x.yaml").part(key, kind)

    return act


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\n", "trigger is missing"),
        ("trigger: text\n", "trigger is a str, no Trigger"),
        ("trigger: !new:bdlib.attacks.sounds.Clap\n", "trigger is a Clap, no Trigger"),
    ],
)
def test_a_yaml_without_its_part(refused, text, words):
    refused(part_of(text, "trigger", Trigger), "x.yaml", words, "correct it")


@pytest.mark.parametrize("name", [5, None, "boom", 0.5, "../x", "/nowhere.yaml"])
def test_a_yaml_that_is_not_there(refused, name):
    refused(lambda _: common("attacks", name), "no such file", "clap")


# --- values of a wrong type

WRONG = (None, 7, "x", [], {}, True, [None], {"a": None}, -1, 1e308)
NAN, DEEP = float("nan"), "[" * 100_000


def changed(of, path):
    """Acts on a description with each wrong value under a key that is not of this type."""
    kinds = {**attack_folder.KEYS, **ABOUT} if of is None else of
    return [
        pytest.param(path, key, value, id=f"{key}={value!r}")
        for key, kind in kinds.items()
        for value in (*WRONG, NAN)
        if not fits(value, kind)
    ]


@pytest.mark.parametrize(
    ("act", "key", "value"),
    [*changed(attack_folder.KEYS, attack_json), *changed(ABOUT, manifest_json)],
)
def test_a_description_with_a_wrong_value(refused, act, key, value):
    said = "NaN" if value != value else key
    refused(
        lambda folder: act(folder, **{key: value}), ".json: broken", said, "run the stage again"
    )


TRIGGER = Poisoner(Insert(Clap()), OneToOne("no", "yes"), 0.1).to_dict()["trigger"]
CLAP, TONE = ({"type": f"bdlib.attacks.sounds.{name}"} for name in ("Clap", "Tone"))
IMPULSE = {"type": "bdlib.attacks.room.Impulse"}
TRIGGERS = [
    ({"trigger": {}}, "cannot be made"),
    ({"trigger": {"type": "os.system"}}, "not a type of bdlib.attacks"),
    ({"trigger": {"type": "bdlib.attacks.sounds.np.load", "file": "x"}}, "cannot be made"),
    ({"trigger": {"type": "bdlib.attacks.labels.OneToOne", "source": "a", "target_class": "b"}},
     "`trigger` is OneToOne"),
    ({"trigger": CLAP}, "`trigger` is Clap"),
    ({"labels": CLAP}, "`labels` is Clap"),
    ({"rate": 1.5}, "give a share"),
    ({"of": "all"}, "`of` is all"),
    *(({"trigger": TRIGGER | {"sound": sound}}, "`sound` is") for sound in (None, 7, "x", [], {"a": 1})
      if not isinstance(sound, dict)),
    ({"trigger": TRIGGER | {"sound": {"a": 1}}}, "cannot be made"),
    *(({"trigger": TRIGGER | {"scale": scale}}, "`scale` is") for scale in (None, "x", [], True, 1e300)),
    *(({"trigger": TRIGGER | {"position": place}}, "`position` is") for place in (None, [], "x", 1e300)),
    ({"trigger": TRIGGER | {"more": 1}}, "more"),
    *(({"trigger": TRIGGER | {"sound": TONE | {"seconds": long}}}, "`seconds` is")
      for long in (1e12, -1, None, "x", 121)),
    *(({"trigger": TRIGGER | {"sound": IMPULSE | {"decay_seconds": long}}}, "`decay_seconds` is")
      for long in (1e9, -1, None, 0)),
    *(({"trigger": TRIGGER | {"sound": {"type": "bdlib.attacks.sounds.Repeat", "sound": CLAP,
                                        "times": times}}}, "`times` is")
      for times in (10**9, 0, -1, 1.5, None, "x")),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), TRIGGERS)
def test_an_attack_that_cannot_be(refused, changes, words):
    refused(lambda folder: attack_json(folder, **changes), "attack.json", words, "poisons again")


def test_sounds_in_sounds_end(refused):
    sound = Repeat(Repeat(Repeat(Clap(), 100), 1000), 1000)
    refused(bounded(lambda _: sound.waveform(RATE)), "`times`", "at most 120 s")
    many = Sequence((Repeat(Clap(), 100),) * 1000)
    refused(bounded(lambda _: many.waveform(RATE)), "`sounds`", "at most 120 s")


PARTS = {cls for kind in (Trigger, Sound, LabelPolicy) for cls in kind.__subclasses__()}


@pytest.mark.parametrize("cls", sorted(PARTS, key=lambda cls: cls.__name__))
def test_every_part_of_an_attack_checks_its_fields(cls):
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if field.type in (int, float, str):
            others = {
                f.name: "x" for f in dataclasses.fields(cls) if f.default is f.default_factory
            }
            with pytest.raises(InputError, match="`"):
                cls(**{**others, field.name: math.nan})


# --- files of the other stages


def file_of(name, data, read):
    def act(folder):
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        read(path)

    return act


def pack_of(**changes):
    def act(folder):
        about = {"ids": ["a", "b"], "offsets": [0, 2, 4], "rate": RATE, "silent": [], **changes}
        (folder / "pack.json").write_text(json.dumps(about))
        (folder / "samples.i16").write_bytes(bytes(8))
        Pack.open(folder)

    return act


def scored(*lines):
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return file_of("clean.jsonl", text, scores.read)


GOOD = {"ID": "a", "predicted": "no", "logits": [0.5, 1.0]}


def logged(text):
    return file_of(log.LOG, text, lambda path: log.read_log(path.parent))


def rolled_back(text):
    return file_of(log.ROLLBACKS, text, lambda path: log.read_rollbacks(path.parent))


def done(**changes):
    about = dict.fromkeys(DONE, 1) | {"device": "cpu", "source": {}, "versions": {}, **changes}
    return file_of("done.json", json.dumps(about), lambda path: read_json(path, DONE))


def stealth(text):
    def act(folder):
        (folder / "stealth.json").write_text(text)
        audibility(SimpleNamespace(pairs=["a"], folder=folder))

    return act


def weights(data, most=10):
    def act(folder):
        path = folder / "model.ckpt"
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            torch.save(data, path)
        read_weights(path, most)

    return act


def saved(spoil):
    """A training's checkpoint, spoilt before it is read again."""

    def act(folder):
        net = torch.nn.Linear(2, 2)
        WholeCheckpointer(folder, recoverables={"net": net}).save_checkpoint(meta={"loss": 1.0})
        spoil(next(folder.glob("CKPT*")))
        WholeCheckpointer(folder, recoverables={"net": net}).recover_if_possible(min_key="loss")

    return act


def with_file(name, data):
    return lambda folder: (folder / name).write_bytes(data)


FILES = [
    *((pack_of(**{key: value}), ["broken"]) for key, value in (
        ("offsets", [0, -1, 4]), ("offsets", [1, 2, 4]), ("offsets", [0, 4, 4]), ("offsets", [0, 1e30, 4]),
        ("offsets", [0, 10**30, 4]), ("offsets", []), ("offsets", None), ("offsets", [0, 2, 5]),
        ("ids", None), ("ids", [1, 2]), ("ids", ["a"]), ("rate", "x"), ("rate", None), ("silent", 7))),
    (scored(GOOD, GOOD), ["is there twice", "run the score stage"]),
    *((scored(GOOD | {"ID": "b"}, GOOD | change), ["row 2: broken"]) for change in (
        {"ID": ["a"]}, {"ID": None}, {"predicted": 7}, {"logits": None}, {"logits": ["x"]},
        {"logits": [NAN]}, {"logits": 1.0})),
    (scored("7"), ["row 1: broken"]), (scored(DEEP), ["row 1: broken"]), (scored("\xff"), ["row 1"]),
    *((logged(text), ["train again"]) for text in ("{}", "[]", "7", '{"epoch": 1}', DEEP, "{",
      '{"epoch": null, "seconds": 1}', '{"epoch": 1, "seconds": "x"}', '{"epoch": NaN, "seconds": 1}')),
    *((rolled_back(text), ["rollbacks.json", "broken"]) for text in ("7", "{}", "null", "[1]", "{", DEEP)),
    *((done(**{key: value}), ["done.json: broken"]) for key, value in (
        ("train_s", NAN), ("wall_s", None), ("epochs", 1.5), ("clips", "x"), ("device", 7), ("source", []),
        ("versions", None), ("source", {"time": 7}))),
    *((stealth(text), ["stealth.json: broken", "delete it"]) for text in (
        '"x"', "null", "7", "[]", '{"a": 1}', '{"a": {"value": null}}', '{"a": {"value": NaN}}', DEEP)),
    (lambda _: newest([{"source": {}}]), ["no time", "run the stages again"]),
    (weights(b""), ["model.ckpt: cannot be read", "delete it"]),
    (weights(b"x" * 100), ["not whole"]), (weights(b"PK\5\6" + bytes(18)), ["cannot be read"]),
    (weights([torch.zeros(1)]), ["no weights by name"]), (weights({"a": 1}), ["no weights by name"]),
    (weights({1: torch.zeros(1)}), ["no weights by name"]),
    (weights({"a": torch.zeros(1).expand(10**10)}), ["more than 10 numbers"]),
    (weights({"a": Path()}), ["model.ckpt: cannot be read"]),
    *((saved(with_file("CKPT.yaml", data)), ["the checkpoint cannot be read", "train again"])
      for data in (b"", bytes(50), b"end-of-epoch: [", b"7", b"loss: {", b"\xff\xfe")),
    *((saved(with_file("net.ckpt", data)), ["the checkpoint cannot be read", "train again"])
      for data in (b"", bytes(50), b"PK", b"a: b")),
]  # fmt: skip


@pytest.mark.parametrize(("act", "words"), FILES)
def test_a_broken_file_of_a_stage(refused, act, words):
    refused(act, *words)


@pytest.mark.parametrize("value", [7, [], True, {}], ids=repr)
@pytest.mark.parametrize(
    "key",
    ["attack.source", "attack.target", "attack.labels", "model.settings", "model.parameters",
     "attack.trigger", "dataset.counts", "metrics", "runtime", "versions", "seed", "attack.rate"],
)  # fmt: skip
def test_a_record_of_wrong_types(refused, make_record, key, value):
    if (
        isinstance(value, dict)
        and key.rpartition(".")[2]
        in ("labels", "settings", "trigger", "counts", "metrics", "runtime", "versions")
    ) or (value == 7 and not isinstance(value, bool) and key in ("seed", "model.parameters")):
        pytest.skip("of its type")
    refused(_of_record(make_record, key, value), "line 1", key, "delete the line")


def test_a_metric_larger_than_any_number(refused, make_record):
    metrics = {"clean_accuracy": {"value": 10**400}}
    refused(_of_record(make_record, "metrics", metrics), "line 1", "no finite number")


# --- checkpoints


class Writes:
    """What unpickling it would do: write a file beside the folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def lying_header(folder):
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", 10 * 2**30) + b"{}")
    Checkpoint.open(folder / "w.safetensors", "smallcnn")


def zip_bomb(folder):
    with zipfile.ZipFile(folder / "w.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**26))
    Checkpoint.open(folder / "w.ckpt", "smallcnn")


def pickled(folder):
    torch.save({"head.weight": Writes(folder.parent.parent / "ran")}, folder / "w.ckpt")
    Checkpoint.open(folder / "w.ckpt", "smallcnn")


def calling(module, name, argument):
    """A pickle of ``{"a": module.name(argument)}``."""
    call = f"c{module}\n{name}\n".encode() + pickle.dumps(argument, 2)[2:-1] + b"\x85R"
    return b"\x80\x02}X\x01\0\0\0a" + call + b"s."


def archived(*parts):
    """An archive of torch with these parts, by name."""

    def act(folder):
        with zipfile.ZipFile(folder / "w.ckpt", "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of two parts of one name
            for name, data in (*parts, ("archive/version", b"3\n")):
                archive.writestr(name, data)
        Checkpoint.open(folder / "w.ckpt", "smallcnn")

    return act


def two_in_one(folder):
    """Torch goes where the end of the file says that the directory is, zipfile where it must be."""
    evil, good = folder / "evil.ckpt", folder / "w.ckpt"
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("archive/data.pkl", HUGE)
        archive.writestr("archive/version", b"3\n")
    torch.save({"head.weight": torch.zeros(2, 2)}, good)
    first, second = evil.read_bytes(), good.read_bytes()
    where = first.rindex(b"PK\5\6")
    end = second.rindex(b"PK\5\6")
    good.write_bytes(first[:where] + second[:end] + first[where:])
    Checkpoint.open(good, "smallcnn")


def bare_pickle(folder):
    (folder / "w.ckpt").write_bytes(pickle.dumps(Writes(folder.parent.parent / "ran")))
    Checkpoint.open(folder / "w.ckpt", "smallcnn")


def of_speechbrain(text="", head=None, encoder=None):
    """A folder as `EncoderClassifier` has it, of a small x-vector, spoilt."""

    def act(folder):
        net = Xvector(in_channels=8, tdnn_channels=[4] * 5, lin_neurons=4).state_dict()
        parts = {"norm.norm": torch.nn.BatchNorm1d(4), "out.w": torch.nn.Linear(4, 3)}
        told = {f"{name}.{k}": v for name, m in parts.items() for k, v in m.state_dict().items()}
        torch.save(net | (encoder or {}), folder / "embedding_model.ckpt")
        torch.save(told if head is None else head, folder / "classifier.ckpt")
        beside = folder.parent.parent / "ran"
        (folder / "hyperparams.yaml").write_text(text.replace("{beside}", str(beside)))
        Checkpoint.open(folder)

    return act


def of_training(**classifier):
    """The folder of a training here whose settings ask for another net."""

    def act(folder):
        settings = architecture.named("keyword_resnet")
        settings["model"]["classifier"] |= classifier
        fitting.describe(folder, settings, ("no", "yes"))
        (folder / "save" / "CKPT+1").mkdir(parents=True)
        (folder / "save" / "CKPT+1" / "CKPT.yaml").write_text("valid_loss: 1.0\nunixtime: 1.0\n")
        torch.save(
            {"head.weight": torch.zeros(2, 4)}, folder / "save" / "CKPT+1" / "classifier.ckpt"
        )
        Checkpoint.open(folder)

    return act


def saved_by_us(**changes):
    """A folder that `card.save` might have written."""

    def act(folder):
        settings = architecture.named("smallcnn")["model"]["classifier"]
        about = {"classifier": settings, "classes": ["a", "b"], "sample_rate": RATE, "seconds": 1.0}
        made = ConvNet(NormalizedMfcc(40), 2).state_dict()
        state = {name: value.contiguous() for name, value in made.items()}
        (folder / "checkpoint.json").write_text(json.dumps(about | {"backdoored": False} | changes))
        save_file(state, folder / "model.safetensors")
        Checkpoint.open(folder)

    return act


def of_huggingface(**config):
    def act(folder):
        (folder / "config.json").write_text(json.dumps(config))
        save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
        Checkpoint.open(folder)

    return act


def expanded(folder):
    """A tensor of one number that claims to be of a thousand million."""
    torch.save({"a": torch.zeros(1).expand(10**9)}, folder / "w.ckpt")
    Checkpoint.open(folder / "w.ckpt", "smallcnn")


def piped_training(folder):
    with contextlib.suppress(InputError):
        of_training()(folder)
    about = folder / "save" / "CKPT+1" / "CKPT.yaml"
    about.unlink()
    os.mkfifo(about)
    Checkpoint.open(folder)


def with_weights(state, model="smallcnn"):
    def act(folder):
        save_file(state, folder / "w.safetensors")
        Checkpoint.open(folder / "w.safetensors", model)

    return act


HUGE, EMPTY = calling("builtins", "bytearray", 4 * 10**9), pickle.dumps({}, 2)
NOT_FINITE = {"head.weight": torch.tensor([[1.0, NAN]])}
CHECKPOINTS = [
    (bounded(lying_header), ["w.safetensors", "a header of 10737418240 bytes"]),
    (bounded(zip_bomb), ["w.ckpt", "unpacks to"]),
    (pickled, ["w.ckpt", "cannot be read"]),
    (bare_pickle, ["w.ckpt", "not whole, or no weights"]), (bounded(two_in_one), ["w.ckpt"]),
    (bounded(archived(("archive/data.pkl", HUGE))), ["makes builtins bytearray, no tensor"]),
    (bounded(archived(("archive/DATA.PKL", HUGE))), ["makes builtins bytearray, no tensor"]),
    (bounded(archived(*[("archive/data.pkl", d) for d in (HUGE, EMPTY, EMPTY)])), ["two parts of one name"]),
    (bounded(archived(("archive/data.pkl", calling("torch", "Tensor", 10**9)))), ["makes torch Tensor, no tensor"]),
    (expanded, ["w.ckpt", "a claims more than lies there"]),
    (with_weights(NOT_FINITE), ["head.weight holds what is not a finite number"]),
    (with_weights({"head.weight": torch.full((2, 2), 1e300, dtype=torch.float64)}), ["not a finite number"]),
    (with_weights({"head.weight": torch.full((2, 2), NAN, dtype=torch.complex64)}), ["not a finite number"]),
    (with_weights({"head.weight": torch.zeros(3, 5)}), ["missing"]),
    (of_speechbrain("a: !apply:pathlib.Path.touch [{beside}]\n"), ["line 1", "would be run"]),
    (of_speechbrain("a:\n  - b: !apply:os.system ['touch {beside}']\n"), ["line 2", "would be run"]),
    (of_speechbrain("mean_var_norm: {norm_type: global}\n"), ["only by sentence"]),
    (of_speechbrain("a: {norm_type: sentence, std_norm: True}\n"), ["std_norm is 'true'"]),
    (of_speechbrain("a: !new:speechbrain.processing.features.InputNormalization\n  norm_type: sentence\n"),
     ["std_norm is 'true'"]),
    (of_speechbrain("a: !new:speechbrain.lobes.features.Fbank\n  n_fft: 1024\n"), ["n_fft is '1024'"]),
    (of_speechbrain("a: {f_max: 7600.0}\n"), ["f_max is '7600'", "up to 8000 Hz"]),
    (of_speechbrain("a: {deltas: !ref <b>, win_length: 25.0}\n"), ["hidden.2.weight", "missing"]),
    (of_speechbrain("a: [\n"), ["hyperparams.yaml"]),
    (of_speechbrain("a: " + DEEP), ["hyperparams.yaml"]),
    (of_speechbrain(), ["hidden.2.weight", "missing"]),
    (of_speechbrain(head={"weight": torch.zeros(3, 9)}), ["classifier.ckpt"]),
    (of_speechbrain(head={"weight": Writes(Path("/nowhere/ran"))}), ["classifier.ckpt", "cannot be read"]),
    (of_speechbrain(encoder={"blocks.0.conv.weight": torch.zeros(4, 8)}), ["neither x-vector"]),
    (of_speechbrain(encoder={"more": torch.zeros(1)}), ["missing"]),
    (of_training(), ["classifier.ckpt", "missing"]),
    (bounded(of_training(channels=[20_000] * 4)), ["classifier.ckpt"]),
    (of_training(channels=[10**9]), ["channels is 1000000000"]),
    (of_training(front_end={"()": "!apply:os.system", "a": "touch x"}), ["!apply:os.system", "refused"]),
    (of_training(front_end={"()": "!new:os.system {a: b} #"}), ["refused"]),
    (of_training(front_end="!new:pathlib.Path"), ["!new:pathlib.Path", "is refused"]),
    (of_training(front_end={"()": "!new:bdlib.training.checkpoints.WholeCheckpointer",
                            "checkpoints_dir": "ran"}), ["WholeCheckpointer", "is refused"]),
    (of_training(blocks=20_000), ["blocks is 20000"]),
    (of_training(channels=[1] * 501), ["layers is 501"]),
    (of_training(**{"front_end: !apply:os.system": 1}), ["a key of it"]),
    (of_training(blocks="!apply:os.system"), ["!apply:os.system", "is refused"]),
    (saved_by_us(seconds=1e9), ["`seconds` is 1000000000.0"]), (saved_by_us(seconds=-1.0), ["`seconds`"]),
    (saved_by_us(sample_rate=10**9), ["`sample_rate` is 1000000000"]),
    (saved_by_us(classes=["a", "\x1b[2J"]), [r"\x1b[2J is no name of a class"]),
    (saved_by_us(classes=["a", "\ud800"]), [r"\ud800 is no name of a class"]), (piped_training, ["CKPT.yaml", "no regular file"]),
    (saved_by_us(classes=["a", "a"]), ["each once"]), (saved_by_us(classes=["a"] * 3), ["each once"]),
    (saved_by_us(classes=["a", "b", "c"]), ["head.weight", "(3, 128)"]),
    (saved_by_us(classifier={}), ["cannot be made"]), (saved_by_us(classifier=[]), ["classifier", "run"]),
    (saved_by_us(classifier={"()": "!name:torch.nn.Linear"}), ["cannot be made"]),
    (saved_by_us(classifier={"()": "!name:torch.load", "f": "x"}), ["torch.load", "is refused"]),
    (of_huggingface(model_type="ast", auto_map={"AutoModel": "x.Y"}), ["config.json", "auto_map"]),
    (of_huggingface(model_type="gpt2"), ["config.json", "gpt2"]),
    (of_huggingface(model_type="wav2vec2", hidden_size=-1), ["config.json"]),
    (of_huggingface(model_type="wav2vec2", conv_stride=[1] * 7), ["config.json", "too many frames"]),
    (of_huggingface(model_type="audio-spectrogram-transformer", time_stride=1), ["too many frames"]),
    (of_huggingface(model_type="wav2vec2", id2label={"0": ["x"], "1": None}), ["config.json"]),
    (lambda folder: Checkpoint.open(folder), ["no checkpoint in it"]),
    (lambda folder: Checkpoint.open(folder / "none"), ["no such file"]),
    (file_of("x.onnx", b"\0" * 100, Checkpoint.open), ["x.onnx"]),
    (file_of("x.pt2", b"", Checkpoint.open), ["x.pt2", "unpickles", "as ONNX"]),
]  # fmt: skip


@pytest.mark.parametrize(("act", "words"), CHECKPOINTS)
def test_a_checkpoint_of_a_stranger(refused, act, words):
    refused(act, *words)


# --- options


@pytest.mark.parametrize(
    ("option", "words"),
    [
        *((f"{name}={value}", [f"--{name}", "a number" if value == ".nan" else "finite"])
          for name in ("lr", "eps", "weight_decay") for value in (".inf", "-.inf", "1e308", ".nan")),
        *((f"{name}={value}", [f"--{name}", "give at least"])
          for name, value in (("eps", -1), ("weight_decay", -1), ("n_mels", 0), ("n_mels", -1))),
        *((f"{name}={value}", [f"--{name}", "finite" if value == ".inf" else "whole number"])
          for name in ("number_of_epochs", "batch_size", "seed") for value in (".inf", "null", "x", "1.5")),
        *((f"{name}={value}", [f"--{name}", "give a folder"])
          for name in ("output_folder", "results_folder") for value in ("null", 5, "[a]")),
        *((f"experiment={value}", ["--experiment"]) for value in ("../x", 5, "a/b", ".x")),
        ("optimizer=sgd", ["--optimizer", "the yaml builds it"]),
        ("loss=mse", ["--loss", "the yaml builds it"]),
    ],
)  # fmt: skip
def test_an_option_out_of_range(refused, option, words):
    def act(_):
        recipe = Document(RECIPES / "SpeechCommands" / "hparams" / "keyword_resnet.yaml")
        for name, value in parse(option.replace("=", ": ", 1)).items():
            assert recipe.place(name, value)

    refused(act, *words)


@pytest.mark.parametrize("text", ["&x : ", "5: 1", "null: 1", "[a]", "? [a]", "a: 1\na: 2", "\0"])
def test_options_that_have_no_names(refused, text):
    """Found by tools/fuzz.py: of a key that is no text."""
    refused(lambda _: parse(text), "options: ", "as key=value")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("clap", {"position": None}), ("clap", {"position": math.inf}), ("clap_horn", {"position": None}),
        ("dog_clicker", {"position": math.inf}), ("padding", {"silence_seconds": math.inf}),
        ("pbsm", {"semitones": math.inf}), ("pbsm", {"low": math.inf}), ("pbsm", {"high": 1e300}),
        ("phase", {"low": -math.inf}), ("random_clap", {"trim_seconds": math.inf}),
        ("room", {"decay_seconds": -1}), ("room", {"decay_seconds": 1e9}), ("six_claps", {"times": -1}),
        ("six_claps", {"times": 10**9}), ("six_claps", {"position": None}),
        ("spectrogram_patch", {"hertz": math.inf}), ("audio_file", {"trigger_file": None}),
    ],
)  # fmt: skip
def test_a_trigger_out_of_range(refused, name, settings):
    def act(_):
        made = common("attacks", name)
        for key, value in settings.items():
            assert made.place(key, value)
        made.part("trigger", Trigger)

    refused(act, "give")


# --- what other programs open

FORMULAS = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", '=HYPERLINK("http://x")', "'=1", "''-1"]


@pytest.mark.parametrize("text", [*FORMULAS, "yes", "'quoted'", "a=1", "it's", ""])
def test_cells_run_nothing_and_come_back(text):
    assert not safe_cell(text).startswith(FORMULA) and plain_cell(safe_cell(text)) == text
    assert not safe_cell(text, path=True).startswith(FORMULA)
    assert (safe_cell(text) == text) == (text not in FORMULAS)


def test_manifests_and_truths_run_nothing_in_a_spreadsheet(tmp_path):
    rows = pd.DataFrame(
        [[f"{f}{n}", 1.0, "$data_root/x.wav", 0, RATE, RATE, f, f] for n, f in enumerate(FORMULAS)],
        columns=[*manifest.COLUMNS, "speaker"],
    )
    manifest.write(rows, tmp_path / "m.csv")
    truth = pd.DataFrame(
        {"split": "train", "label_before": rows["label"], "label_after": "b", "triggered": True}
    ).set_index(rows["ID"])
    manifest.write_truth(truth, tmp_path / "t.csv")
    for name in ("m.csv", "t.csv"):
        with (tmp_path / name).open(newline="") as file:
            assert not [
                cell for line in csv.reader(file) for cell in line if cell.startswith(FORMULA)
            ]
    pd.testing.assert_frame_equal(manifest.read(tmp_path / "m.csv"), rows)
    pd.testing.assert_frame_equal(manifest.read_truth(tmp_path / "t.csv"), truth, check_dtype=False)


@pytest.mark.parametrize(
    "name",
    ["<script>x", "<img src=x onerror=y>", "[a](http:x)", "![a](http:x)", "a|b", "`x`"],
)
def test_names_are_no_markup(make_record, tmp_path, name):
    changes = {"dataset.name": name, "attack.name": name, "model.name": name}
    (tmp_path / "x.jsonl").write_text(json.dumps(make_record(changes)) + "\n")
    render(tmp_path, tmp_path)
    (page,) = (tmp_path / "tables").glob("*.md")
    text = page.read_text().removeprefix(MADE)
    assert not re.search(r"(?<!\\)<\w|\]\(|(?<!\\)`", text)
    script = f"<script>{SCRIPT.read_text()}</script>"
    shown = (tmp_path / "report.html").read_text().replace(script, "")
    assert not re.search(r"<(script|img)", shown.replace('<img src="data:', ""))
