"""Check that the installed packages fit together; say what to do where they do not."""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version

PINNED = {"torch": "2.11.", "torchaudio": "2.11.", "torchvision": "0.26.", "speechbrain": "1.1.2"}
REMEDY = 'delete .venv and run tools/quickstart.sh, or: pip install -e ".[dev]"'


def problems() -> list[str]:
    """What is wrong, one line each; empty if all is well."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return [f"Python {sys.version.split()[0]}: use 3.11 to 3.13"]
    found = []
    for name, pin in PINNED.items():
        try:
            if not version(name).startswith(pin):
                found.append(f"{name} {version(name)} is installed, {pin}* is needed")
        except PackageNotFoundError:
            found.append(f"{name} is not installed")
    if not found:
        try:
            import torchaudio  # noqa: F401 - a torch built for another CUDA fails here
        except OSError as error:
            found.append(f"torch and torchaudio do not fit together ({error})")
    return found


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    wrong = problems()
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    if wrong:
        print(f"remedy: {REMEDY}", file=sys.stderr)
    sys.exit(bool(wrong))
