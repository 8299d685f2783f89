"""Reading and rendering records pulls in neither torch nor speechbrain."""

import subprocess
import sys
from pathlib import Path

import pytest

BDLIB = Path(__file__).parents[2] / "bdlib"
HEAVY = {"torch", "torchaudio", "speechbrain"}


@pytest.mark.parametrize("package", ["records", "report"])
def test_records_and_report_come_without_torch(package):
    modules = [
        ".".join(("bdlib", *path.relative_to(BDLIB).with_suffix("").parts))
        for path in sorted((BDLIB / package).rglob("*.py"))
    ]
    code = f"import sys, importlib\nfor name in {modules}: importlib.import_module(name)\n"
    code += "print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY.intersection(done.stdout.split())


def test_the_renderer_starts_without_what_it_draws_with():
    """Help and input errors come at once."""
    code = "import sys, bdlib.cli.render\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "pandas", "scipy", "sklearn", "rich"}.intersection(
        done.stdout.split()
    )
