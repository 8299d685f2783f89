"""Made-up records."""

import copy

import pytest

RECORD = {
    "schema": 1,
    "id": "r0",
    "time": "2025-01-01T00:00:00+00:00",
    "commit": "0123abc",
    "dirty": False,
    "command": "python train.py hparams/resnet50.yaml",
    "status": "ok",
    "dataset": {
        "name": "SpeechCommands",
        "variant": "12",
        "scale": "subset",
        "digest": "d0",
        "counts": {"train": 4700, "valid": 500, "test": 800},
    },
    "model": {"name": "resnet50", "yaml": "hparams/resnet50.yaml", "parameters": 10},
    "attack": {
        "name": "clap",
        "trigger": {"type": "bdlib.attacks.insert.Insert", "scale": 0.1, "position": "start"},
        "source": "_unknown_",
        "target": "left",
        "rate": 0.1,
        "of": "source",
        "seed": 0,
        "poisoned": 260,
    },
    "defense": None,
    "experiment": None,
    "seed": 0,
    "metrics": {
        "clean_accuracy": {"value": 0.9, "count": 720, "total": 800},
        "attack_success_rate": {"value": 0.95, "count": 95, "total": 100},
    },
    "runtime": {"wall_s": 1.0, "device": "cpu"},
    "versions": {"python": "3.11", "bdlib": "0.1.0"},
}


@pytest.fixture
def make_record():
    """A function: dotted keys and values in, a record that differs in them out."""

    def make(changes=None):
        record = copy.deepcopy(RECORD)
        for key, value in (changes or {}).items():
            part, names = record, key.split(".")
            for name in names[:-1]:
                part = part[name]
            part[names[-1]] = value
        return record

    return make
