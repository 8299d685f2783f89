"""Programs that answer a question by their exit status: 0 nothing found, 1 found, 2 error."""

import json
import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import Any

from bdlib.errors import InputError
from bdlib.names import plain

INTERRUPTED = "interrupted"


def answer(
    program: Callable[[], int],
    names: Collection[str],
    interrupted: str = INTERRUPTED,
    output: str = "--output",
) -> int:
    """The exit status of a program; an error, of whatever kind, is one line on stderr and 2.

    Arguments
    ---------
    program : Callable[[], int]
        Answers, and returns 0 or 1.
    names : Collection[str]
        Arguments of the library that are options: `name` is --name.
    interrupted : str
        What is said if a person stops it.
    output : str
        What tells where results go, which the library calls `output_folder`.
    """
    called = {"output_folder": output} | {name: f"--{name}" for name in names}
    try:
        return program()
    except InputError as error:
        message = str(error)
        for name, option in called.items():
            message = message.replace(f"`{name}`", option)
        print("error:", *map(plain, message.split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return closed()
    except Exception as error:  # a traceback ends with 1, which is an answer
        words = map(plain, str(error).split())
        print(f"error: {type(error).__name__}:", *words, file=sys.stderr)
        return 2


def closed() -> int:
    """The exit status of a program whose reader has enough, as `head` has; nothing is said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # of what is flushed at the end
    return 128 + signal.SIGPIPE


def shown(result: Any, as_json: bool) -> str:
    """A result for a terminal, or as JSON."""
    if not as_json:
        return str(result)
    return json.dumps(result.to_dict(), ensure_ascii=False, indent=2)
