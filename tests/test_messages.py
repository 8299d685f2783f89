"""What the library says when an argument is wrong: it names the argument, never an option of a program."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bdlib"
# These have options of their own; the style sheet has variables that look alike.
PROGRAMS = [PACKAGE / "cli", PACKAGE / "mini" / "__main__.py", PACKAGE / "report" / "page_style.py"]
FILES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not any(path.is_relative_to(program) for program in PROGRAMS)
]
OPTION = re.compile(r"(?<![\w-])--[a-z]\w*")


def literals(tree):
    """String literals of a module with their lines; not what a call gives to git."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and "git" in ast.unparse(node)[:30]:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        yield from literals(node)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_option_of_a_program_is_named(path):
    named = [
        (number, text)
        for number, text in literals(ast.parse(path.read_text()))
        if OPTION.search(text) and "`pip " not in text
    ]
    assert not named
