"""Kills every stage at every commit point, starts the same command again, and compares what it leaves.

A commit point is a call that makes something stand, or takes it away: `os.replace` of a file or a folder,
`os.rename` of a checkpoint, `os.fsync` of a record, `torch.save`, `shutil.rmtree`. A command runs once
undisturbed, which tells its points; then, for each of them, before and after it by SIGKILL and before it by
Ctrl-C, it is killed there in a copy of what the stages before had left, and started again. Equal is a run that
ends with the files of the undisturbed one, times left out, and with no temporary. Programs are forked
after their imports. The table goes to docs/reliability.md, what it is made from to results/reliability/kills.jsonl.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from disturbed import COMMANDS, ROOT, World

from bdlib.files import atomic
from bdlib.records.provenance import source, versions

RESULT = ROOT / "results" / "reliability" / "kills.jsonl"
DOC = ROOT / "docs" / "reliability.md"
MARK = "<!-- kills:{} -->"
SIGNALS = {"SIGKILL": signal.SIGKILL, "Ctrl-C": signal.SIGINT}
WAYS = (("SIGKILL", "before"), ("SIGKILL", "after"), ("Ctrl-C", "before"))
PLACES = (  # of what a point is about, below the folder of a trial: the stage that writes it
    (r"exp/manifest/.*audio\.json|results/\w+\.jsonl", "record"),
    (r"exp/manifest", "prepare"),
    (r"exp/poison/.*(stealth\.json|\.png|\.html)", "measure and draw"),
    (r"exp/poison", "poison"),
    (r"exp/(pack|blind)", "pack"),
    (r"exp/train/.*/scores", "score"),
    (r"exp/train/.*/guarded/.*(model\.ckpt|repair\.json)", "repair"),
    (r"exp/train/.*(kept\.csv|suspicion\.json)|exp/filters", "filter"),
    (r"exp/train/.*(/figures|neurons\.json)", "measure and draw"),
    (r"exp/train", "train"),
    (r"results", "render"),
    (r"out", "export"),
    (r"scan|cache", "scan"),
)


class Points:
    """Counts commit points of this process, and dies at one of them.

    Arguments
    ---------
    folder : Path
        Points below it count.
    log : Path
        Gets a line a point: the call and what it is about.
    fatal : tuple[int, str, int] | None
        Number of the point, `before` or `after`, and the signal.
    """

    def __init__(self, folder: Path, log: Path, fatal: tuple[int, str, int] | None = None) -> None:
        self.folder, self.log, self.fatal, self.number = folder, log, fatal, -1
        for module, name, place in (
            (os, "replace", 1),
            (os, "rename", 1),
            (os, "fsync", 0),
            (torch, "save", 1),
            (shutil, "rmtree", 0),
        ):
            setattr(module, name, self._counted(getattr(module, name), name, place))

    def _counted(self, call: Callable, name: str, place: int) -> Callable:
        def counted(*args: Any, **kwargs: Any) -> Any:
            about = args[place]
            about = about if isinstance(about, str | Path) else _path(about)
            nothing = name == "rmtree" and not os.path.lexists(about)
            if nothing or not str(about).startswith(str(self.folder)):
                return call(*args, **kwargs)
            self.number += 1
            number = self.number
            with self.log.open("a") as log:
                log.write(json.dumps([name, os.path.relpath(about, self.folder)]) + "\n")
            self._die(number, "before")
            made = call(*args, **kwargs)
            self._die(number, "after")
            return made

        return counted

    def _die(self, number: int, when: str) -> None:
        if self.fatal and self.fatal[:2] == (number, when):
            os.kill(os.getpid(), self.fatal[2])
            time.sleep(0.01)  # in which Python notices a Ctrl-C


def _path(file: Any) -> str:
    """The name of an open file, or of its number."""
    number = file if isinstance(file, int) else file.fileno()
    return str(Path(f"/proc/self/fd/{number}").readlink())


def points(world: World, name: str) -> list[tuple[str, str]]:
    """The commit points of a command: the call, and what it is about."""
    log = world.folder / "points.jsonl"
    log.unlink(missing_ok=True)
    here = world.before(name, world.folder / "trial")
    if status := world.run(name, here, partial(Points, here, log)):
        raise SystemExit(f"{name} ended with {status}: {world.said()}")
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()]


def kill(world: World, name: str, number: int, how: str, when: str) -> str:
    """Kill a command at a point and start it again: `equal`, or what is not."""
    here = world.before(name, world.folder / "trial")
    fatal = number, when, SIGNALS[how]
    status = world.run(name, here, partial(Points, here, world.folder / "fatal.jsonl", fatal))
    if status not in (-SIGNALS[how], 130):
        return f"was not killed: ended with {status}"
    hidden = [path.name for path in here.rglob(".*")]
    if how == "Ctrl-C" and hidden:
        return f"left after Ctrl-C: {hidden}"
    return world.again(name, here)


def stage_of(place: str) -> str:
    """The stage that writes a file."""
    return next(stage for pattern, stage in PLACES if re.match(pattern, place))


def measure(world: World, names: Sequence[str]) -> list[dict[str, Any]]:
    """All kills of some commands, each as a dict."""
    kills, commit = [], source()["commit"]
    for name in names:
        for number, (call, place) in enumerate(points(world, name)):
            for how, when in WAYS:
                ended_as = kill(world, name, number, how, when)
                about = {"command": name, "call": call, "place": place, "how": how, "when": when}
                kills.append(about | {"result": ended_as, "commit": commit})
                if ended_as != "equal":
                    print(json.dumps(kills[-1]), flush=True)
        print(f"{name}: {len(kills)} kills so far", flush=True)
    return kills


def table(kills: Sequence[dict[str, Any]]) -> str:
    """Kills as Markdown: stage and commit point by signal and side, equal of all."""
    keys = [(stage_of(k["place"]), k["call"], k["how"], k["when"]) for k in kills]
    total = Counter(keys)
    equal = Counter(key for key, k in zip(keys, kills, strict=True) if k["result"] == "equal")
    lines = [
        "| Stage | Commit point | " + " | ".join(map(" ".join, WAYS)) + " |",
        "|---|---|" + "---:|" * len(WAYS),
    ]
    order = {stage: number for number, (_, stage) in enumerate(PLACES)}
    rows = sorted({key[:2] for key in total}, key=lambda row: (order[row[0]], row[1]))
    for row in rows:
        cells = [f"{equal[*row, *column]} of {total[*row, *column]}" for column in WAYS]
        lines.append(f"| {row[0]} | `{row[1]}` | " + " | ".join(cells) + " |")
    lines += ["", f"{sum(equal.values())} of {sum(total.values())} kills ended equal."]
    return "\n".join(lines)


def main() -> int:
    """Measure, and write the table; 1 if a kill did not end equal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--write", action="store_true", help="keep the result and its table")
    given = parser.parse_args()
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="kills") as folder:
        kills = measure(World(Path(folder)), given.commands)
    print(table(kills), f"\n{time.time() - started:.0f} s")
    if given.write:
        about = {"name": "kills", "source": source(), "versions": versions()}
        if RESULT.exists():  # commands that were not run now keep theirs
            _, *others = map(json.loads, RESULT.read_text().splitlines())
            kills = [k for k in others if k["command"] not in given.commands] + kills
        with atomic(RESULT) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in (about, *kills)))
        head, _, rest = DOC.read_text().partition(MARK.format("begin"))
        tail = rest.partition(MARK.format("end"))[2]
        block = f"{MARK.format('begin')}\n\n{table(kills)}\n\n{MARK.format('end')}"
        with atomic(DOC) as temporary:
            temporary.write_text(head + block + tail)
    return int(any(kill["result"] != "equal" for kill in kills))


if __name__ == "__main__":
    sys.exit(main())
