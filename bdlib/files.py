"""Files that are whole or not there, and digests that name what they were made from."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from bdlib.errors import InputError, fits, named
from bdlib.names import is_utf8

_PACKAGE = Path(__file__).resolve().parent
_CLONE = _PACKAGE.parent / "recipes" / "common"
COMMON = _CLONE if _CLONE.is_dir() else _PACKAGE / "recipes_common"
"""The yaml files that all recipes share; an installed package has a copy of its own."""


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, and rename it to `path` if the block succeeds.

    The block may make a file or a folder under the temporary name. A run that is killed, or a
    block that raises, leaves `path` as it was. What a killed run left under its temporary name is
    removed by the next run on the same machine that writes `path`.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> (folder / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    _remove_leftovers(path)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(path.parent)):
            raise
        raise _unwritable(path, error) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            temporary.unlink()


def at_home(path: str | Path) -> Path:
    """A path with ``~`` as the home of its user, wherever a shell has not made it so.

    Raises
    ------
    InputError
        If that user has none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: there is no such home; give the whole path") from error


def writable(path: str | Path, name: str) -> None:
    """Refuse a place that cannot be made, before the work that is to be written there.

    Arguments
    ---------
    path : str | Path
        A file or a folder, there or not.
    name : str
        Of the argument, for the error.

    Raises
    ------
    InputError
        If the folder that is there, next above it, is none or not one to write into.
    """
    above = Path(path).absolute()
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"`{name}` is {path}: {above} is no folder to write into; choose another")


@contextlib.contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Let one process at a time work in `folder`, which is made; others wait.

    The lock dies with its process. A file system without locks is trusted to have one user.

    Raises
    ------
    InputError
        If the folder cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process to finish in {folder}", flush=True)
            fcntl.flock(place, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
    finally:
        os.close(place)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error}); "
        "free disk space or choose a writable `output_folder`"
    )


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files and folders of dead processes of this machine."""
    prefix, suffix = f".{path.name}.{socket.gethostname()}.", ".tmp"
    for entry in list(path.parent.iterdir()):
        pid = entry.name.removeprefix(prefix).removesuffix(suffix)
        if entry.name != f"{prefix}{pid}{suffix}" or not pid.isdecimal() or _alive(int(pid)):
            continue
        shutil.rmtree(entry, ignore_errors=True)
        with contextlib.suppress(OSError):
            entry.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is there, but not ours
    return True


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: str | Path, keys: Mapping[str, Any] | Collection[str] = ()) -> Any:
    """Read a JSON file; with `keys`, an object that has at least these.

    Arguments
    ---------
    path : str | Path
        The file.
    keys : Mapping[str, Any] | Collection[str]
        Names, or types by name as `errors.fits` has them.

    Raises
    ------
    InputError
        If the file is missing, is not JSON, lacks a key, or has a value of another type.
    """
    check_regular(path)
    try:
        value = json.loads(Path(path).read_text("utf-8"), parse_constant=_no_number)
        if keys and not isinstance(value, dict):
            raise ValueError("no object")
        if missing := [key for key in keys if key not in value]:
            raise ValueError(f"without {missing[0]}")
        for key, kind in keys.items() if isinstance(keys, Mapping) else ():
            if not fits(value[key], kind):
                raise ValueError(f"{key} is {str(value[key])[:50]!a}, not {named(kind)}")
        return value
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); run the stage again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: broken ({error}); delete it and run the stage again") from error


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def digest(value: Any, length: int = 12) -> str:
    """Short sha256 of anything JSON can hold, the same on every machine.

    Example
    -------
    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_digest(*paths: str | Path, length: int = 12) -> str:
    """Short sha256 over the contents of files, in the order given.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    total = hashlib.sha256()
    for path in paths:
        check_regular(path)
        try:
            with Path(path).open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); delete its folder, and the next run "
                "makes it again"
            ) from error
    return total.hexdigest()[:length]


def folder_digest(root: str | Path) -> str:
    """Digest of the names, sizes and times of all files below a folder, so that a change is noticed."""
    total = hashlib.sha256()
    root, seen = Path(root), {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True):
        # A folder that links lead back to is not walked again: it might never end.
        places = {name: os.path.realpath(Path(folder) / name) for name in sorted(folders)}
        folders[:] = [name for name, place in places.items() if place not in seen]
        seen.update(places.values())
        for name in sorted(files):
            path = Path(folder) / name
            try:
                found = path.stat()
            except OSError:  # a link to nothing
                found = path.lstat()
            line = f"{path.relative_to(root)} {found.st_size} {found.st_mtime_ns}\n"
            total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest()


def check_regular(path: str | Path) -> None:
    """Refuse what is there but no regular file: a pipe would be waited for, a device never ends.

    What is not there is left to those who open it.

    Raises
    ------
    InputError
        If it is none, or its name is no UTF-8.
    """
    if not is_utf8(str(path)):
        raise InputError(f"{str(path)!a}: a name that is no UTF-8; rename it")
    try:
        regular = stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return
    if not regular:
        raise InputError(f"{path}: no regular file; give a file, or remove it")


def seed_of(*parts: Any) -> int:
    """A 63-bit seed that depends on the text of its parts alone.

    Python's own `hash` differs from process to process; this does not.
    """
    text = "|".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
