"""Work in processes of their own, which end at a limit, and with the process that started them."""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bdlib.errors import InputError
from bdlib.files import read_json, write_json

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def way(device: str) -> str:
    """How processes for a device are started; a GPU does not survive a fork, which takes no time."""
    return "fork" if device == "cpu" else "spawn"


def alone(
    work: Callable[..., None], args: Any, stem: Path, limit: float, start: str
) -> dict[str, Any]:
    """Run a part, called with `args` and a function that keeps figures; what it told, and how it ended.

    Arguments
    ---------
    work, args : Callable, Any
        The part, and what it gets.
    stem : Path
        ``.json`` gets what it tells, as soon as it does, and ``.log`` what it prints.
    limit : float
        Seconds, after which it is killed.
    start : str
        See `way`.

    Returns
    -------
    dict[str, Any]
        `status` (ok, failed or cut off), `seconds`, `error` of one that failed, and the figures.
    """
    write_json(stem.with_suffix(".json"), {})
    child = multiprocessing.get_context(start).Process(target=_work, args=(work, args, stem))
    started = time.monotonic()
    child.start()
    child.join(limit)
    late = child.is_alive()
    if late:
        child.kill()
        child.join()
    ended = {"status": "cut off" if late else "failed" if child.exitcode else "ok"}
    ended |= {"seconds": round(time.monotonic() - started, 1)}
    if ended["status"] == "failed":
        lines = stem.with_suffix(".log").read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        ended["error"] = said[-1][:500] if said else f"exit code {child.exitcode}"
    return ended | read_json(stem.with_suffix(".json"))


def _work(work: Callable[..., None], args: Any, stem: Path) -> None:
    """In the child."""
    _die_with_parent()
    with stem.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    figures: dict[str, Any] = {}

    def tell(**more: Any) -> None:
        figures.update(more)
        write_json(stem.with_suffix(".json"), figures)

    try:
        work(args, tell)
    except InputError as error:
        print(error)
        raise SystemExit(1) from error
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(1) from error


def together(work: Callable[..., float], count: int, start: str, *given: Any) -> list[float]:
    """What `count` processes return that each run a work at once.

    Each calls the work with a function that waits for all others, and with what is given.

    Raises
    ------
    RuntimeError
        If one of them failed.
    """
    context = multiprocessing.get_context(start)
    barrier, made = context.Barrier(count), context.SimpleQueue()
    children = [
        context.Process(target=_one, args=(work, barrier, made, given)) for _ in range(count)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    if bad := [child.exitcode for child in children if child.exitcode]:
        raise RuntimeError(f"{len(bad)} of {count} processes failed; see above")
    return [made.get() for _ in children]


def _one(work: Callable[..., float], barrier: Any, made: Any, given: tuple) -> None:
    """In a child."""
    _die_with_parent()
    try:
        made.put(work(barrier.wait, *given))
    except BaseException:
        barrier.abort()  # so that the others do not wait for it
        raise


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
