"""Clips of a folder a class, with or without folders of splits above the classes, or with tables beside them."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bdlib.errors import InputError
from bdlib.listing import may_be_class
from bdlib.names import is_hidden, plain
from bdlib.scanning import tables
from bdlib.scanning.tables import LABELS, MISLEADS, PATHS, Clip, header, inside, misleads

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".sph"}
SPLITS = {"train", "training", "valid", "validation", "dev", "eval", "test", "testing"}


def _folders(folder: Path) -> list[Path]:
    """Those that may be classes; links to folders are not followed."""
    found = (p for p in sorted(folder.iterdir()) if p.is_dir() and not p.is_symlink())
    return [p for p in found if may_be_class(p.name)]


def _audio(folder: Path) -> Iterator[Path]:
    """Audio below a folder in sorted order; links to folders are not followed, so nothing loops."""
    for here, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        files = (Path(here) / name for name in sorted(names))
        yield from (file for file in files if file.suffix.lower() in SUFFIXES)


def _passed_by(root: Path) -> list[str]:
    """A line for all that is not scanned and that a training may hear: links to folders, hidden audio."""
    links: list[Path] = []
    hidden, aims = [], set()  # what scanned links lead to is heard, wherever it lies
    for here, folders, names in os.walk(root, followlinks=False):
        links += (path for name in folders if (path := Path(here) / name).is_symlink())
        for path in (Path(here) / name for name in names if Path(name).suffix.lower() in SUFFIXES):
            if is_hidden(path, root):
                hidden.append(path)
            elif path.is_symlink():
                aims.add(os.path.realpath(path))
    counts = Counter(_hiding(path, root) for path in hidden if str(path) not in aims)
    told = dict.fromkeys(links, "a link to a folder; copy what it holds into the corpus")
    told |= {p: f"hidden, with {n} clips; rename it to have it scanned" for p, n in counts.items()}
    return [f"{plain(p.relative_to(root).as_posix())}: {told[p]}" for p in sorted(told)]


def _hiding(path: Path, root: Path) -> Path:
    """The first folder below the root on the way to a hidden file, or the file, whose name begins with a dot."""
    parts = path.relative_to(root).parts
    first = next(number for number, part in enumerate(parts) if part[0] == ".")
    return root.joinpath(*parts[: first + 1])


def read(
    root: Path, path_column: str | None, label_column: str | None
) -> tuple[list[Clip], list[str]]:
    """Clips of a folder a class, with or without folders of splits above the classes."""
    tops, left_out = _folders(root), _passed_by(root)
    listing = [table for f in (root, *tops) if (table := f / "metadata.csv").is_file()]
    if listing and (label_column or any(set(LABELS) & set(header(table)) for table in listing)):
        rows = []
        for table in listing:
            some, out = tables.read(table, table.parent, path_column or "file_name", label_column)
            prefix = table.parent.relative_to(root)
            if misleads(str(prefix)):
                out = [f"{plain(str(prefix))}: {MISLEADS}; rename it"]
            else:
                rows += [((prefix / path).as_posix(), *rest) for path, *rest in some]
            left_out += out
        return rows, left_out
    splits = [p for p in tops if p.name.lower() in SPLITS]
    nested = bool(splits) and all(any(c.is_dir() for c in p.iterdir()) for p in splits)
    if nested and len(splits) == len(tops):
        tops = [c for p in splits for c in _folders(p)]
    rows, left_out = [], [*_other_labels(root), *left_out]
    for top in tops:
        for file in (path for path in _audio(top) if not is_hidden(path, top)):
            name = file.relative_to(root).as_posix()
            if misleads(name):
                left_out.append(f"{plain(name)}: {MISLEADS}; rename it")
            elif inside(file, root):
                rows.append((name, top.name, 0, -1))
            else:
                left_out.append(f"{name}: a link that leaves the corpus; copy the file into it")
    return rows, left_out


def _other_labels(root: Path) -> list[str]:
    """A line for each table beside the folders of classes that has labels of its own."""
    lines = []
    for table in sorted(root.glob("*.csv")):
        with contextlib.suppress(InputError):  # not a table that could be scanned
            columns = set(header(table))
            if columns & set(PATHS) and columns & set(LABELS):
                lines.append(
                    f"{plain(table.name)}: folders were taken for labels; to scan by its own, give it"
                )
    return lines
