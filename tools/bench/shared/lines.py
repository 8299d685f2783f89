"""Lines of JSON in a file that a killed program leaves readable."""

import json
import os
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; none of a file that is not there."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:  # cut short by a kill
            continue
    return found


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line, on a line of its own, and see it on the disk."""
    cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * bool(cut) + json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
