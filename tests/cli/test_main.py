"""`bdlib`: it lists its subcommands at once, starts each, and refuses what is none."""

import subprocess
import sys

import pytest

from bdlib.cli import main as program
from bdlib.cli.main import COMMANDS


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `bdlib` in this process: exit status, output, errors."""

    def started(*arguments):
        monkeypatch.setattr(sys, "argv", ["bdlib", *arguments])
        try:
            status = program.main()
        except SystemExit as stop:
            status = stop.code
        return status or 0, *capsys.readouterr()

    return started


def test_help_lists_the_subcommands_and_none_is_a_mistake(run):
    for arguments, status in ((["--help"], 0), (["-h"], 0), ([], 2)):
        found, out, err = run(*arguments)
        assert (found, err) == (status, "")
        assert all(f"  {name} " in out and what in out for name, (_, what) in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_a_help(run, name):
    status, out, err = run(name, "--help")
    assert (status, err) == (0, "") and out.startswith("usage: ")


def test_a_name_that_is_none_is_one_line(run):
    status, out, err = run("mend", "--rate=0.1")
    assert (status, out) == (1, "")
    assert err == f"error: mend: no such command; there are: {' '.join(COMMANDS)}\n"


@pytest.mark.parametrize(
    ("words", "status"),
    [("scan {}", 2), ("export {} out", 2), ("guard {} x.wav --calibrate=c", 2), ("render --results={}", 1),
     ("sweep {} --scale=mini", 1)],
)  # fmt: skip
def test_names_in_errors_are_written_out(run, words, status):
    """A terminal would obey what is in them."""
    got, _, err = run(*words.format("x\x1b[2J").split())
    assert got == status and err.startswith("error: ") and "\x1b" not in err and r"x\x1b[2J" in err


def test_the_status_of_a_subcommand_is_that_of_bdlib(run, tmp_path):
    status, _, err = run("render", f"--results={tmp_path}/none")
    assert status == 1 and err.startswith("error: ")


def test_help_imports_no_subcommand():
    """Nor anything else that takes time."""
    code = "import sys\nfrom bdlib.cli import main\nsys.argv[1:] = ['--help']\nmain.main()\n"
    code += "print(*sys.modules, sep='\\n')"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = shown.stdout.split("\n")
    assert "bdlib.cli.main" in loaded
    modules = {module for module, _ in COMMANDS.values()} | {"torch", "numpy", "rich", "argparse"}
    assert not modules & set(loaded)
