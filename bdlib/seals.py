"""Seals: digests of what a stage wrote, by which damage is seen when it is read again.

A JSON file that describes what a stage made holds, under `SEAL`, the digest of every file beside it
that numbers rest on, and one of itself. They tell flipped bits, a cut, a shuffled list and an edit by
hand; they are no signature, since whoever can write the file can seal it anew.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bdlib.errors import InputError, fits
from bdlib.files import digest, file_digest, write_json

SEAL = "$sealed"
LENGTH = 32  # digits of a digest


def write_sealed(path: str | Path, value: Mapping[str, Any], files: Iterable[Path] = ()) -> None:
    """Write a JSON object with its seal, atomically.

    Arguments
    ---------
    path : str | Path
        The file.
    value : Mapping[str, Any]
        What JSON can hold, without the key `SEAL`.
    files : Iterable[Path]
        What it describes, in the folder of the file or below; they are whole by now.
    """
    write_json(path, {**value, SEAL: seal(value, digests(Path(path).parent, files))})


def seal(value: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """What stands under `SEAL` in a description of files with these `digests`."""
    return {"files": dict(files), "digest": digest([value, files], LENGTH)}


def digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """The digest of each of these files of a folder, by its name in it."""
    return {
        file.relative_to(folder).as_posix(): file_digest(file, length=LENGTH)
        for file in sorted(files)
    }


def unsealed(
    path: str | Path, value: Mapping[str, Any], files: Iterable[Path] = (), whole: bool = False
) -> dict[str, Any]:
    """A description that was read, without its seal, after both were compared.

    What was made before there were seals has none: it is taken as it is, said so, and sealed.

    Arguments
    ---------
    path : str | Path
        Its file.
    value : Mapping[str, Any]
        What was read.
    files : Iterable[Path]
        Those of the files that are read now; their digests are compared, too.
    whole : bool
        Whether all sealed files have to be among these.

    Raises
    ------
    InputError
        If the description or a file is not as it was written, or a file is gone.
    """
    path, value = Path(path), dict(value)
    found, known = digests(path.parent, files), {}
    mark = value.pop(SEAL, None)
    if mark is not None:
        known = mark.get("files") if fits(mark, dict) else None
        if not fits(known, dict[str, str]) or mark != seal(value, known):
            raise _damaged(path, path)
        gone = list(known.keys() - found.keys()) if whole else []
        if changed := [name for name in found if known.get(name, found[name]) != found[name]]:
            raise _damaged(path, path.parent / changed[0])
        if gone:
            raise _damaged(path, path.parent / gone[0], "it is gone")
    if mark is None or found.keys() - known.keys():
        print(f"note: {path} is older than digests of files: taken as it is, and sealed")
        with suppress(InputError):  # on a disk that is only read it stays without
            write_json(path, {**value, SEAL: seal(value, known | found)})
    return value


def _damaged(about: Path, path: Path, why: str = "its digest differs") -> InputError:
    """Of a file, with the folder to delete: that of its description, which tells what stands."""
    return InputError(
        f"{path}: not as it was written ({why}); delete the folder {about.parent} and run the stage again"
    )
