"""What a stranger hands in gets one line; nothing hangs, and nothing outside the named folder changes.

A row of a table is a class of inputs: what is done with it in a folder, and words of its line.
"""

import hashlib
import json
import os

import pandas as pd
import pytest

from bdlib.attacks import folder as attack_folder
from bdlib.attacks.insert import Insert
from bdlib.attacks.labels import OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.sounds import Clap
from bdlib.errors import InputError
from bdlib.files import plain_name
from bdlib.records import record
from bdlib.report.render import render
from bdlib.stages.corpus import ABOUT, Corpus, manifest_folder
from bdlib.stages.pack import Audio

SECONDS = 20  # for what has to end
RATE = 16000


def state(folder):
    """What lies below a folder: kind, and digest of contents or aim of a link."""

    def of(path):
        if path.is_symlink():
            return os.readlink(path)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "other"

    return {str(path.relative_to(folder)): of(path) for path in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path):
    """Asserts that an act in a folder raises one line with these words, and touches nothing beside."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "keep.txt").write_text("keep")
    named = tmp_path / "deep" / "named"
    named.mkdir(parents=True)

    def outside():
        found = state(tmp_path).items()
        return {name: what for name, what in found if not name.startswith("deep/named/")}

    def run(act, *words):
        before = outside()
        with pytest.raises(InputError) as caught:
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
    about = dict.fromkeys(ABOUT, "x") | {"classes": ["no", "yes"], "counts": {}, **changes}
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
