"""Check that the installed packages fit together; say what to do where they do not."""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PINNED = {
    "torch": "2.11.0",
    "torchaudio": "2.11.0",
    "torchvision": "0.26.0",
    "speechbrain": "1.1.2",
}
REMEDY = 'delete .venv and run tools/quickstart.sh, or: pip install -e ".[dev]"'
FITTING = Path(sys.prefix) / ".bdlib_fitting"
"""Holds the versions that were seen to load each other, which takes seconds to try."""


def problems() -> list[str]:
    """What is wrong, one line each; empty if all is well."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return [f"Python {sys.version.split()[0]}: use 3.11 to 3.13"]
    wrong, installed = [], {}
    for name, pin in PINNED.items():
        try:
            installed[name] = version(name)
            if not installed[name].startswith(pin):
                wrong.append(f"{name} {installed[name]} is installed, {pin} is needed")
        except PackageNotFoundError:
            wrong.append(f"{name} is not installed")
    if wrong or (FITTING.exists() and FITTING.read_text() == str(installed)):
        return wrong
    try:
        import torchaudio  # noqa: F401 - a torch built for another CUDA fails here
    except OSError as error:
        return [f"torch and torchaudio do not fit together ({error})"]
    if FITTING.parent.name == ".venv":  # other environments are not ours to write into
        FITTING.write_text(str(installed))
    return []


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    lines = problems()
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    if lines:
        print(f"remedy: {REMEDY}", file=sys.stderr)
    sys.exit(bool(lines))
