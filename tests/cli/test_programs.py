"""Which cells are one program, how its command tells of each, and what became of it."""

import fcntl
import random
import shlex
from pathlib import Path

import pytest

from bdlib.cli.cells import Cell, cells
from bdlib.cli.programs import Program, fold, programs, unfold
from bdlib.errors import InputError

RECIPES = Path(__file__).parents[2] / "recipes"
WORDS = ("--a=1", "--b=x;y", "--c='", "--d= ;", "--e=", "f")


def behind(folder, defense, *levels):
    """Cells of a classifier behind a defense at some levels."""
    options = (f"--defense={defense}", "--seed=0")
    return [Cell(folder, "defend", "a.yaml", (*options, f"--quantum={n}")) for n in levels]


def test_what_is_folded_unfolds():
    """Whatever the words, and whether or not lines begin and end alike; and through a shell."""
    draw = random.Random(0)
    for _ in range(300):
        some = [draw.choices(WORDS, k=draw.randrange(4)) for _ in range(draw.randint(1, 5))]
        before, after = draw.choices(WORDS, k=draw.randrange(3)), draw.choices(WORDS, k=2)
        lines = [[*before, *level, *after] for level in some]
        assert unfold(fold(lines)) == lines
        assert unfold(shlex.split(shlex.join(fold(lines)))) == lines


def test_levels_are_written_by_hand():
    expected = [["x", "--a=1", "y"], ["x", "--a=2", "--b=3", "y"], ["x", "y"]]
    for words in (["--levels=--a=1;--a=2 --b=3;"], ["--levels", " --a=1 ; --a=2  --b=3 ; "]):
        assert unfold(["x", *words, "y"]) == expected
    with pytest.raises(InputError, match="--levels=--a=': No closing quotation"):
        unfold(["--levels=--a='"])


def test_a_classifier_behind_all_its_guards_is_one_program():
    """Of the 1,170 cells of Table 4 of MVJ 36 are trainings; the other 1,134 only score these again."""
    listed = cells(RECIPES / "SpeechCommands/experiments/mvj_table4.yaml", "full", "corpus")
    made = programs(listed)
    assert sorted(cell.line for program in made for cell in program.cells) == sorted(
        cell.line for cell in listed
    )
    guards = [program for program in made if program.cells[0].program == "defend"]
    trainings = [program for program in made if program.cells[0].program == "train"]
    assert (len(listed), len(trainings)) == (1170, 36)
    assert {len(program.cells) for program in trainings} == {1}
    # Two attacks and three seeds of base_wrn at 7 levels, mvd and mvj at 7 + 42, the others at 42.
    sizes = sorted(len(program.cells) for program in guards)
    assert sizes == 6 * [7] + 12 * [42] + 12 * [49]
    for program in guards:
        assert unfold(shlex.split(program.line)) == [shlex.split(c.line) for c in program.cells]


def test_repairs_and_guards_from_elsewhere_are_programs_of_their_own():
    for defense, count in (("clp", 2), ("mine.yaml", 2), ("quantise", 1)):
        assert len(programs(behind(Path(), defense, 2, 4))) == count, defense


def test_a_begun_program_is_told_from_a_running_one(tmp_path):
    """By a lock on its log, whose name is the same however many cells are left."""
    listed = behind(tmp_path, "quantise", 2, 4, 8)
    (program,), (rest,) = programs(listed), programs(listed[1:])
    assert program.log == rest.log and rest.state == "new"
    program.log.parent.mkdir(parents=True)
    with program.log.open("w") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        assert rest.state == "running"
    assert rest.state == "begun"


def test_a_program_that_failed_goes_on_behind_the_cell_that_did(tmp_path):
    listed = behind(tmp_path, "quantise", 2, 4, 8)
    program = Program(tuple(listed), "shared")
    program.log.parent.mkdir(parents=True)
    for said, bad, rest in (
        ("", listed[0], tuple(listed[1:])),
        ("recorded in x\n  accuracy\nerror: not recorded\n", listed[1], (listed[2],)),
        ("recorded in x\nrecorded before in x\nerror", listed[2], None),
        (3 * "recorded in x\n", None, None),
    ):
        program.log.write_text(said)
        assert program.failure() == (bad, rest and Program(rest, "shared"))
