"""Where a number comes from: commit, versions, memory."""

import contextlib
import datetime
import functools
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bdlib
from bdlib.errors import InputError, fits

_ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("torch", "torchaudio", "speechbrain", "numpy", "scipy", "scikit-learn", "pandas"),
    "soundfile",
)
MADE = {"source": dict[str, str | bool | None], "versions": dict[str, str | int]}
"""Keys of what a stage keeps beside what it made, with their types."""
EXTRAS = ("pedalboard", "pesq", "pystoi", "espeakng-loader", "onnxruntime")
"""Packages on which numbers depend: always, and where they are installed."""
COMPUTES = (".py", ".yaml")  # what an untracked file that changes a number ends in


def newest(made: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of what stages keep, the last that was made.

    Raises
    ------
    InputError
        If one does not say when.
    """
    made = list(made)
    if not all(fits(part["source"].get("time"), str) for part in made):
        raise InputError("what a stage tells of itself has no time; run the stages again")
    return max(made, key=lambda part: part["source"]["time"])


def made() -> dict[str, Any]:
    """What a stage keeps beside what it made: `source` and `versions`."""
    return {"source": source(), "versions": versions()}


def source() -> dict[str, Any]:
    """Time, commit, and whether the code differs from it; None outside a git checkout.

    Code are the tracked files, but for `results`, and those of Python and yaml that git does not
    know and does not ignore: a recipe of one's own can be run before it is added.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    here = git("rev-parse", "--show-toplevel")
    # An installed package may lie within a repository of somebody's own.
    if here is None or Path(here).resolve() != _ROOT:
        return {"time": now, "commit": None, "dirty": None}
    changed = git("status", "--porcelain", "-z", "--untracked-files=all", "--", ":!results")
    differing = [
        entry
        for entry in (changed or "").split("\0")
        if entry and (not entry.startswith("??") or entry.endswith(COMPUTES))
    ]
    return {
        "time": now,
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if changed is None else bool(differing),
    }


def place(folder: Path) -> str:
    """A folder as a record tells it: within the repository, or by its name alone."""
    inside = folder.is_relative_to(_ROOT)
    return folder.relative_to(_ROOT).as_posix() if inside else folder.name


def git(*arguments: str, root: Path | None = None) -> str | None:
    """What git says of a repository, by default the one of this package; None where there is no git, or where it refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root or _ROOT), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str | int]:
    """Versions of what computes the numbers, and on how many threads."""
    torch = sys.modules.get("torch")  # whoever computed with it has imported it
    return {
        "python": platform.python_version(),
        **_packages(PACKAGES, EXTRAS),
        "bdlib": bdlib.__version__,
        **({"threads": torch.get_num_threads()} if torch else {}),
    }


@functools.cache
def _packages(needed: tuple[str, ...], extras: tuple[str, ...]) -> dict[str, str]:
    """Versions of packages, of extras where they are installed; looking for them takes a while."""
    found = {name: version(name) for name in needed}
    for name in extras:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def device_name(device: str) -> str:
    """A device as records tell it: a GPU with its model."""
    if device.startswith("cuda"):
        import torch  # whoever reads records needs none

        return f"{device} ({torch.cuda.get_device_name(device)})"
    return device


def peak_memory_mb(device: str) -> int:
    """Peak memory in MiB: of the GPU where one was used, else of the process."""
    if device.startswith("cuda"):
        import torch  # whoever reads records needs none

        return torch.cuda.max_memory_allocated() >> 20
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20
