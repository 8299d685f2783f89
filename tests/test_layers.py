"""Imports point down the layers of the house, in no circle, and torch is imported where it computes."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = (  # each imports only from those before it, and what stands beside it is not before it
    ("errors",),
    ("names", "sampling"),
    ("files",),
    ("audio", "embed", "making", "seals", "sheets"),
    ("manifest", "mini"),
    ("listing",),
    ("pack",),
    ("corpus",),
    ("features",),
    ("models", "encoders"),
    ("attacks", "training"),
    ("defenses",),
    ("evaluation",),
    ("records",),
    ("stages",),
    ("scanning", "report", "notebook", "checkpoints"),
    ("bdlib", "cli"),  # the package itself holds the names of the interface
    ("recipes", "tools"),
)
LEVEL = {place: number for number, places in enumerate(LEVELS) for place in places}


def place(module: str) -> str:
    """Where a module of the project stands: the part of its name that `LEVELS` has."""
    first, *rest = module.split(".")
    return rest[0] if first == "bdlib" and rest else first


def imports(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """What each module imports of the project: at its top, in functions, under TYPE_CHECKING.

    That a module runs the packages it stands in is not counted: no module could do without.

    Arguments
    ---------
    modules : Mapping[str, str]
        Source texts by dotted name.
    """
    trees = {name: ast.parse(text) for name, text in modules.items()}
    named = {name: {i for node in ast.walk(tree) for i in _named(node, trees)}
             for name, tree in trees.items()}  # fmt: skip
    known = {*trees, "recipes", "tools"}
    return {
        name: {i for i in others if i != name and (i in known or place(i) in known)}
        for name, others in named.items()
    }


def _named(node: ast.AST, trees: Mapping[str, ast.Module]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        # `import bdlib` runs nothing that was not run, and gives its version.
        yield from (alias.name for alias in node.names if alias.name != "bdlib")
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, f"relative import: {ast.unparse(node)}"
        for alias in node.names:
            below = f"{node.module}.{alias.name}"
            # A package may give one of its functions the name of the module that has it.
            is_module = below in trees and alias.name not in _given(trees.get(node.module))
            yield below if is_module else node.module


def _given(package: ast.Module | None) -> set[str]:
    """Names that a package imports to pass them on."""
    nodes = package.body if package else []
    given = (node.names for node in nodes if isinstance(node, ast.ImportFrom))
    return {alias.asname or alias.name for names in given for alias in names}


def upward(modules: Mapping[str, str]) -> list[str]:
    """Arrows, as ``from -> to``, between places of which the second is not below the first."""
    return [
        f"{module} -> {other}"
        for module, others in imports(modules).items()
        for other in sorted(others)
        if place(module) != place(other) and LEVEL[place(other)] >= LEVEL[place(module)]
    ]


def circle(modules: Mapping[str, str]) -> list[str]:
    """Modules that import each other in turn, the first once more at the end; none if there are none."""
    try:
        graphlib.TopologicalSorter(imports(modules)).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def heavy(names: list[str]) -> str:
    """Which of these modules imports torch, or what imports torch, as it is imported itself."""
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    if loaded := {'torch', 'torchaudio', 'speechbrain'} & set(sys.modules):\n"
        "        sys.exit(f'{name}: {sorted(loaded)}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr.strip()


@pytest.fixture(scope="module")
def house() -> dict[str, str]:
    """The modules of bdlib."""
    modules = {}
    for path in (ROOT / "bdlib").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return modules


# --- the house


def test_every_module_has_a_place(house):
    assert len(house) > 100
    assert {place(module) for module in house} <= set(LEVEL)


def test_no_arrow_runs_back_up(house):
    assert upward(house) == []


def test_no_circle(house):
    assert circle(house) == []


def test_torch_comes_when_it_is_needed(house):
    """Reading and rendering do without it, and an error of the input is told before it is there."""
    light = [name for name in house if place(name) in ("records", "report")]
    programs = [f"bdlib.cli.{name}" for name in ("train", "defend", "poison", "prepare", "pls")]
    assert heavy([*sorted(light), "bdlib.stages", *programs]) == ""


# --- the checks themselves

BELOW = {
    "bdlib.pack": "",
    "bdlib.stages": "",
    "bdlib.stages.train": "from bdlib.pack import Pack\n",
}
TOP = "{}\n"
FUNCTION = "def f():\n    {}\n"
TYPES = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    {}\n"


@pytest.mark.parametrize("form", [TOP, FUNCTION, TYPES])
@pytest.mark.parametrize(
    "statement",
    [
        "import bdlib.stages.train",
        "from bdlib.stages.train import x",
        "from bdlib.stages import train",
    ],
)
def test_an_arrow_up_and_a_circle_are_found(form, statement):
    modules = BELOW | {"bdlib.pack": form.format(statement)}
    assert upward(modules) == ["bdlib.pack -> bdlib.stages.train"]
    assert sorted(set(circle(modules))) == ["bdlib.pack", "bdlib.stages.train"]
    assert upward(BELOW) == circle(BELOW) == []


@pytest.mark.parametrize("form", [TOP, FUNCTION, TYPES])
def test_a_circle_within_a_place_is_found(form):
    modules = {
        "bdlib.stages.train": form.format("from bdlib.stages.score import score"),
        "bdlib.stages.score": "from bdlib.stages import measure\n",
        "bdlib.stages.measure": "import bdlib.stages.train as train\n",
    }
    assert set(circle(modules)) == set(modules) and upward(modules) == []


def test_a_package_passes_on_what_it_imports():
    """A name that a package takes from a module of the same name leads to the package."""
    modules = {
        "bdlib.stages": "from bdlib.stages.train import train\n",
        "bdlib.stages.train": "",
        "bdlib.stages.surrogate": "from bdlib.stages import train\n",
    }
    assert imports(modules)["bdlib.stages.surrogate"] == {"bdlib.stages"}
    assert circle(modules | {"bdlib.stages.train": "from bdlib.stages import train\n"})


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("bdlib.attacks.insert", "from bdlib.training import losses"),  # beside it
        ("bdlib.defenses.base", "from bdlib import Corpus"),  # the interface
        ("bdlib.cli.train", "from recipes.ESD import prepare"),
        ("bdlib.cli.train", "import tools.bench"),
    ],
)
def test_what_is_not_below_is_above(module, statement):
    modules = {"bdlib": "", "bdlib.training": "", "bdlib.training.losses": "", module: statement}
    assert len(upward(modules)) == 1
    assert (
        upward({"bdlib": "", module: "import bdlib\nimport numpy.typing\nfrom files import x\n"})
        == []
    )


def test_torch_is_found_where_it_is_imported():
    assert heavy(["bdlib.manifest", "bdlib.corpus"]).startswith("bdlib.corpus: ['torch'")
