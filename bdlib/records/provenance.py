"""Where a number comes from: commit, versions, memory."""

import datetime
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bdlib

_ROOT = Path(__file__).resolve().parents[2]


def source() -> dict[str, Any]:
    """Time, commit, and whether tracked files differ from it; None outside a git checkout."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!results")
    return {
        "time": now,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if changed is None else bool(changed),
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    packages = ("torch", "torchaudio", "speechbrain", "numpy")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "bdlib": bdlib.__version__,
    }


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
