"""Which cells of an experiment are one program, and what has become of it."""

import fcntl
import functools
import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bdlib.cli.cells import Cell
from bdlib.errors import InputError
from bdlib.files import digest
from bdlib.stages.document import TYPE, common
from bdlib.stages.record import RECORDED

LEVELS = "--levels"


@dataclass(frozen=True)
class Program:
    """Cells that one process runs, one after the other.

    Arguments
    ---------
    cells : tuple[Cell, ...]
        In their order; several differ in their guard alone, and share a classifier.
    shared : str
        What they have in common, however many of them are left.
    """

    cells: tuple[Cell, ...]
    shared: str

    @property
    def folder(self) -> Path:
        """The recipe it runs in."""
        return self.cells[0].folder

    @property
    def line(self) -> str:
        """The command."""
        return shlex.join(fold([shlex.split(cell.line) for cell in self.cells]))

    @property
    def log(self) -> Path:
        """Where its output goes; locked while it runs."""
        return self.folder / "exp" / "sweep" / f"{digest(self.shared)}.log"

    @property
    def state(self) -> str:
        """Of a program with cells that have no record: `new`, `running`, or `begun` and cut off."""
        try:
            with self.log.open() as log:
                fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return "new"
        except BlockingIOError:
            return "running"
        except OSError:
            pass  # a file system without locks
        return "begun"

    def failure(self) -> tuple[Cell | None, "Program | None"]:
        """Of a program that failed, by its log: the cell at which, and those after it as another.

        No cell, if all have their record.
        """
        lines = self.log.read_text(errors="replace").splitlines()
        recorded = sum(line.startswith(RECORDED) for line in lines)
        bad, *rest = (*self.cells[recorded:], None)
        return bad, Program(tuple(rest[:-1]), self.shared) if rest[:-1] else None


def programs(listed: Sequence[Cell]) -> list[Program]:
    """Cells as programs: those of one classifier behind several guards are one, as it is loaded once."""
    groups: dict[str, list[Cell]] = {}
    for cell in listed:
        groups.setdefault(_shared(cell), []).append(cell)
    return [Program(tuple(cells), shared) for shared, cells in groups.items()]


def _shared(cell: Cell) -> str:
    """The command without its guard and the guard's settings; all of it where there is no guard."""
    words = shlex.split(cell.line)
    given = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    own = _settings(given["defense"]) if cell.program == "defend" else frozenset()
    return shlex.join(word for word in words if word[2:].partition("=")[0] not in own)


@functools.cache
def _settings(name: str) -> frozenset[str]:
    """Options of a guard of `recipes/common`, itself among them; none of another defense."""
    if name.endswith(".yaml"):  # seen from the recipe, not from here
        return frozenset()
    settings = common("defenses", name).plain()
    made = settings["defense"]
    is_guard = ".inference." in (made[TYPE] if isinstance(made, dict) else made)
    return frozenset(settings) if is_guard else frozenset()


def fold(lines: Sequence[Sequence[str]]) -> list[str]:
    """One command line for several: one word stands for those in which they differ.

    Example
    -------
    >>> fold([["a", "--x=1", "b"], ["a", "--x=2", "--y=3", "b"]])
    ['a', '--levels=--x=1 ; --x=2 --y=3', 'b']
    """
    if len(lines) == 1:
        return list(lines[0])
    start = _alike(lines)
    rests = [line[len(start) :] for line in lines]
    end = _alike([rest[::-1] for rest in rests])[::-1]
    levels = (shlex.join(rest[: len(rest) - len(end)]) for rest in rests)
    return [*start, f"{LEVELS}={' ; '.join(levels)}", *end]


def _alike(lines: Sequence[Sequence[str]]) -> list[str]:
    """The words with which all lines begin."""
    places = zip(*lines, strict=False)
    return [words[0] for words in itertools.takewhile(lambda words: len({*words}) == 1, places)]


def unfold(words: Sequence[str]) -> list[list[str]]:
    """The command lines that one with `--levels` stands for; itself, if it has none.

    Raises
    ------
    InputError
        If the levels have a quote that does not end.

    Example
    -------
    >>> unfold(["a", "--levels=--x=1; --x=2 --y=3", "b"])
    [['a', '--x=1', 'b'], ['a', '--x=2', '--y=3', 'b']]
    """
    names = [word.partition("=")[0] for word in words]
    if LEVELS not in names:
        return [list(words)]
    start = names.index(LEVELS)
    _, equals, text = words[start].partition("=")
    start, end = words[:start], words[start + 1 :]
    if not equals:
        text, *end = end  # a word of its own
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";")
    lexer.whitespace_split, lexer.commenters = True, ""
    levels: list[list[str]] = [[]]
    try:
        for word in lexer:
            levels.append([]) if word == ";" else levels[-1].append(word)
    except ValueError as error:
        raise InputError(f"{LEVELS}={text}: {error}; correct it") from error
    return [[*start, *level, *end] for level in levels]
