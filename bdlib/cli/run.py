"""The programs of a recipe, one after the other, forked from one process: what `run.sh` calls.

Started by themselves they would import torch, which takes seconds, a dozen times.
"""

import importlib
import multiprocessing
import shlex
import sys
import time
from pathlib import Path

from bdlib.cli import command
from bdlib.errors import InputError
from bdlib.stages.prepare import Prepare

NVIDIA = Path("/dev/nvidiactl")  # is there where there is a GPU
PROGRAMS = ("prepare", "poison", "train", "defend", "render")


def main(prepare: Prepare) -> None:
    """``run.py``: run the commands on standard input, a line each; the first that fails ends it.

    A line that begins with ``#`` is printed with the time of day.
    """
    with command.guarded():
        for line in sys.stdin:
            if line.startswith("#"):
                print(f"[{time.strftime('%H:%M:%S')}] {line[1:].strip()}", flush=True)
            elif words := shlex.split(line):
                _run(prepare, words)


def _run(prepare: Prepare, words: list[str]) -> None:
    program = Path(words[0]).stem
    if program not in PROGRAMS:
        raise InputError(f"{words[0]}: no program of a recipe; they are {' '.join(PROGRAMS)}")
    if program in ("train", "defend"):
        import speechbrain  # noqa: F401 - and torch, for all that follow
    # What imports torch may touch CUDA, which does not survive a fork.
    way = "spawn" if NVIDIA.exists() else "fork"
    child = multiprocessing.get_context(way).Process(
        target=_program, args=(program, words, prepare)
    )
    child.start()
    try:
        child.join()
    except KeyboardInterrupt:  # which the child got, too
        child.join()
    if child.exitcode:
        raise SystemExit(child.exitcode if child.exitcode > 0 else 1)


def _program(program: str, words: list[str], prepare: Prepare) -> None:
    sys.argv = words
    main = importlib.import_module(f"bdlib.cli.{program}").main
    raise SystemExit(main() if program == "render" else main(prepare))
