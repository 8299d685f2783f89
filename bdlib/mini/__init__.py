"""Offline mini corpora: synthetic speech in the layouts of the three data sets.

They stand in for a download, so that every recipe runs, and is tested, without one. The speech
is made by eSpeak NG, from the optional package espeakng-loader (``pip install -e ".[mini]"``),
whose licence is the GPL; nothing of it is part of this project. Linux and macOS.
"""

from pathlib import Path
from typing import Any

from bdlib.errors import InputError, fits
from bdlib.files import alone, atomic, read_json, write_json
from bdlib.mini import esd, espeak, ravdess, speech_commands
from bdlib.names import is_hidden

NOTE = "mini.json"
VERSION = 1
"""Raised with every change of what is heard, so that older corpora are made anew."""

DATASETS = {"SpeechCommands": speech_commands, "ESD": esd, "RAVDESS": ravdess}


def make(dataset: str, folder: str | Path, seed: int = 0, nested: bool = False) -> Path:
    """Make a mini corpus, unless the same one is already there.

    Parameters
    ----------
    dataset : str
        ``SpeechCommands``, ``ESD`` or ``RAVDESS``.
    folder : str or Path
        The corpus folder itself. It appears when it is complete; ``mini.json`` in it says what
        it is. A mini corpus of another seed, version or layout is replaced.
    seed : int
        The same seed gives the same bytes.
    nested : bool
        ESD alone: folders ``train``, ``evaluation`` and ``test`` below each emotion.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the data set is unknown, the folder holds anything but its mini corpus or cannot be
        written, or espeakng-loader is not installed.
    """
    folder = Path(folder)
    if dataset not in DATASETS:
        raise InputError(
            f"{dataset}: there is no mini corpus of it, only of {', '.join(DATASETS)}; "
            "give one of these, or a corpus of your own"
        )
    if nested and dataset != "ESD":
        raise InputError(f"{dataset}: has one layout only; nested is an option of ESD")
    identity = {
        "dataset": dataset,
        "seed": seed,
        "version": VERSION,
        **({"layout": "nested" if nested else "flat"} if dataset == "ESD" else {}),
    }
    with alone(folder.parent):
        if _holds(folder, identity):
            return folder
        with atomic(folder) as temporary:
            options = {"nested": True} if nested else {}
            counts = DATASETS[dataset].write(temporary, seed, **options)
            description = {
                **identity,
                "scale": "mini",
                "source": f"synthetic speech by eSpeak NG {espeak.version()}, "
                f"in the layout of {dataset}; stands in for a download",
                "counts": counts,
                "files": sum(1 for _ in temporary.rglob("*.wav")),
                "names": sorted(_names(temporary)),
            }
            write_json(temporary / NOTE, description)
        return folder


def _names(folder: Path) -> set[str]:
    """All files below a folder but the note of what they are, and what is hidden."""
    found = (path for path in folder.rglob("*") if path.is_file() and not is_hidden(path, folder))
    return {path.relative_to(folder).as_posix() for path in found} - {NOTE}


def _holds(folder: Path, identity: dict[str, Any]) -> bool:
    """Tell whether the corpus is there and complete; refuse a folder that is something else."""
    note = folder / NOTE
    if not note.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder}: holds something other than a mini corpus; choose another folder"
            )
        return False
    found = read_json(note)
    if found.get("dataset") != identity["dataset"]:
        raise InputError(
            f"{folder}: holds the mini corpus of {found.get('dataset')}; choose another folder"
        )
    there = _names(folder)
    whole = sum(name.endswith(".wav") for name in there) == found.get("files")
    listed = found.get("names", sorted(there) if whole else ())  # an older note has none
    names = set(listed if fits(listed, list[str]) else ())
    if foreign := sorted(there - names):
        raise InputError(
            f"{folder / foreign[0]}: {NOTE} does not list it; move it away, or delete {folder}"
        )
    return there == names and all(found.get(key) == value for key, value in identity.items())
