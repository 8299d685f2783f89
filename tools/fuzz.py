"""Draws inputs that a stranger could hand in, and fails on anything but success or an `InputError`.

Each target writes what hypothesis draws into a folder and reads it as the programs do: valid files with
values exchanged, with bytes changed, and texts made of the words of their language.
"""

import argparse
import contextlib
import io
import json
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdlib import listing, manifest
from bdlib.attacks import folder as attack_folder
from bdlib.attacks.insert import Insert
from bdlib.attacks.labels import OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.sounds import Clap
from bdlib.errors import InputError
from bdlib.evaluation import scores
from bdlib.records import record
from bdlib.scanning.sources import Source
from bdlib.stages.document import Document
from bdlib.stages.recipe import parse

ATTACK = Poisoner(Insert(Clap()), OneToOne("no", "yes"), 0.1).to_dict()
ATTACK |= {"name": "clap", "poisoned": 1, "eligible": 1}
RECORD = {
    **{"schema": 1, "id": "a", "time": "2025", "commit": None, "dirty": None, "command": "x"},
    **{"status": "ok", "attack": None, "defense": None, "experiment": None, "seed": 0},
    "dataset": {
        "name": "a",
        "variant": None,
        "scale": "mini",
        "digest": "",
        "counts": {"train": 1},
    },
    "model": {"name": "a", "yaml": "a"},
    "metrics": {"clean_accuracy": {"value": 0.5, "count": 1, "total": 2}},
    **{"runtime": {}, "versions": {}},
}
SCORE = {"ID": "a", "predicted": "no", "logits": [0.5, 1.0], "suspicion": 0.5}
ROWS = "ID,duration,wav,start,stop,rate,label\na,1.0,$data_root/a.wav,0,160,16000,no\n"
LISTED = "path,label,start,stop\na.wav,no,0,100\n"
YAML = ["a", "b", ": ", "- ", "\n", " ", "{", "}", "[", "]", "&x ", "*x", "!ref <a>", "!new:", "!!",
        "!name:torch.nn.Linear", "!include:x.yaml {}", "'", '"', "1e308", ".nan", "null", "<<", "(", "|", "\t", "\x00"]  # fmt: skip

leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
anything = st.recursive(
    leaf, lambda of: st.lists(of, max_size=4) | st.dictionaries(st.text(max_size=5), of, max_size=4)
)


@st.composite
def exchanged(draw: Any, value: Any) -> Any:
    """A value of JSON with some part of it another."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: draw(exchanged(value[key]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [draw(exchanged(value[0])), *value[1:]]
    return draw(anything)


@st.composite
def spoilt(draw: Any, data: bytes) -> bytes:
    """Bytes with some of them changed, cut out or put in."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=6)) + data[place + draw(st.integers(0, 6)) :]
    return data


def of_json(value: Any) -> st.SearchStrategy[bytes]:
    """A JSON file like this one."""
    text = json.dumps(value)
    return exchanged(value).map(lambda v: json.dumps(v).encode()) | spoilt(text.encode())


def wav() -> bytes:
    """A WAV file of 160 samples at 16 kHz."""
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 356, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", 320)  # fmt: skip
    return head + bytes(320)


def _scan(path: Path) -> None:
    (path.parent / "a.wav").write_bytes(wav())
    Source.of(path)


def _yaml(path: Path) -> None:
    document = Document(path)
    document.plain()
    document.build()


def _option(path: Path) -> None:
    parse(path.read_bytes().decode("utf-8", "replace"))


TARGETS: dict[str, tuple[str, st.SearchStrategy[bytes], Callable[[Path], Any]]] = {
    "manifest": ("m.csv", spoilt(ROWS.encode()), manifest.read),
    "truth": ("t.csv", spoilt(b"ID,split,label_before,label_after,triggered\na,train,x,y,1\n"),
              manifest.read_truth),
    "record": ("r.jsonl", of_json(RECORD), record.read),
    "attack": ("attack.json", of_json(ATTACK), lambda path: attack_folder.read(path.parent)),
    "score": ("s.jsonl", of_json(SCORE), scores.read),
    "yaml": ("x.yaml", st.lists(st.sampled_from(YAML), max_size=25).map("".join).map(str.encode)
             | spoilt(b"a: 1\nb: !ref <a>\nc: !new:torch.nn.Linear [1, 2]\n"), _yaml),
    "option": ("o.yaml", st.lists(st.sampled_from(YAML), max_size=12).map("".join).map(str.encode), _option),
    "audio": ("a.wav", spoilt(wav()), listing.header),
    "scan": ("list.csv", spoilt(LISTED.encode()), _scan),
}  # fmt: skip


def tried(folder: Path, name: str, data: bytes) -> None:
    """Hand an input to its target; it succeeds, or raises an `InputError`. What else passes through."""
    file, _, read = TARGETS[name]
    (folder / file).write_bytes(data)
    with contextlib.suppress(InputError), contextlib.redirect_stdout(io.StringIO()):
        read(folder / file)


def fuzz(minutes: float, names: list[str], first: int = 0) -> dict[str, int]:
    """Try targets by turns until the time is over; how many inputs each was given.

    Hypothesis prints the smallest input that fails, and raises what it raised.
    """
    until, counts = time.monotonic() + 60 * minutes, dict.fromkeys(names, 0)
    with tempfile.TemporaryDirectory() as place:
        turn = first
        while time.monotonic() < until:
            name, turn = names[turn % len(names)], turn + 1
            counts[name] += _turn(Path(place), name, turn)
    return counts


def _turn(folder: Path, name: str, turn: int) -> int:
    """Some inputs for one target; how many."""
    count = 0

    @seed(turn)
    @settings(max_examples=60, deadline=None, database=None, phases=(Phase.generate, Phase.shrink),
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(TARGETS[name][1])
    def act(data: bytes) -> None:
        nonlocal count
        count += 1
        tried(folder, name, data)

    try:
        act()
    except BaseException as error:
        error.add_note(f"target {name}, turn {turn}")
        raise
    return count


def main() -> int:
    """Fuzz for some minutes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--turn", type=int, default=random.randrange(10**6), help="to begin with")
    given_ = parser.parse_args()
    print(json.dumps(fuzz(given_.minutes, given_.targets, given_.turn)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
