"""What is scanned: a folder a class, a CSV, or lhotse's manifests, as people have them. Nothing is written into it."""

import contextlib
import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bdlib.errors import InputError
from bdlib.files import check_regular
from bdlib.listing import may_be_class
from bdlib.manifest import DATA_ROOT
from bdlib.names import forges, plain
from bdlib.scanning import lhotse

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".sph"}
SPLITS = {"train", "training", "valid", "validation", "dev", "eval", "test", "testing"}
PATHS = ("path", "wav", "file_name", "file", "filename", "audio", "audio_path")
LABELS = ("label", "class", "command", "category", "target", "speaker", "spk_id")


@dataclass(frozen=True)
class Source:
    """A corpus that is to be scanned.

    Arguments
    ---------
    root : Path
        What paths are relative to.
    rows : pd.DataFrame
        One row a clip: `path` below `root`, `label`, and `start` and `stop` in samples (0 and -1
        for the whole file).
    left_out : tuple[str, ...]
        What was seen and is not scanned, a line each.
    listed : bool
        Whether a table lists the clips, beside which `root` may hold other things.
    """

    root: Path
    rows: pd.DataFrame
    left_out: tuple[str, ...] = ()
    listed: bool = False

    @classmethod
    def of(
        cls,
        corpus: str | Path,
        path_column: str | None = None,
        label_column: str | None = None,
        data_folder: str | Path | None = None,
    ) -> "Source":
        """A folder, a CSV or a manifest.

        Arguments
        ---------
        corpus : str | Path
            A folder with a folder a class (split folders above them, or a `metadata.csv` as
            Hugging Face's audiofolder has them), a CSV, or one of lhotse's two manifests
            (``*recordings*.jsonl``, ``*supervisions*.jsonl``, or ``.gz``), the other beside it.
        path_column, label_column : str | None
            Of a CSV; by default the first usual name that it has. Of supervisions the second, by
            default ``text``, and then such names.
        data_folder : str | Path | None
            What paths in a table are relative to, and ``$data_root``; by default its own folder.

        Raises
        ------
        InputError
            If nothing can be scanned: the line says what is missing.
        """
        corpus = Path(corpus).expanduser()
        if corpus.is_dir():
            root = corpus.resolve()
            rows, left_out = _folder(root, path_column, label_column)
        elif corpus.is_file():
            root = (
                Path(data_folder).expanduser().resolve() if data_folder else corpus.resolve().parent
            )
            if corpus.name.endswith(lhotse.SUFFIXES):
                left_out = []
                names = (label_column,) if label_column else ("text", *LABELS)
                entries = lhotse.entries(corpus, names, left_out)
                rows = _clips(entries, root, corpus, left_out)
            else:
                rows, left_out = _table(corpus, root, path_column, label_column)
        else:
            raise InputError(
                f"{corpus}: no such folder or file; give a folder with a folder a class, a CSV, "
                "or a lhotse manifest"
            )
        table = pd.DataFrame(rows, columns=["path", "label", "start", "stop"])
        return cls(root, _checked(table, corpus, left_out), tuple(left_out), corpus.is_file())

    def holds(self, place: str | Path) -> bool:
        """Whether a place lies in the corpus: of a table, in a folder of its clips, but not in a new one of `root`."""
        place = Path(place).expanduser().resolve()
        if not self.listed:
            return place.is_relative_to(self.root)
        folders = {(self.root / path).parent.resolve() for path in self.rows["path"]}
        return place in folders or any(map(place.is_relative_to, folders - {self.root}))

    def spans(self, clips: Iterable[int]) -> pd.DataFrame:
        """`start` and `stop` of clips in samples, by which a table tells them apart.

        An empty `stop` is the end of the file. Of a corpus of whole files there are no columns.
        """
        spans = self.rows.loc[list(clips), ["start", "stop"]].reset_index(drop=True)
        if not ((self.rows["start"] > 0) | (self.rows["stop"] >= 0)).any():
            return spans[[]]
        return spans.assign(stop=spans["stop"].astype(object).where(spans["stop"] >= 0, ""))


def _checked(rows: pd.DataFrame, corpus: Path, left_out: list[str]) -> pd.DataFrame:
    """The rows that can be compared with each other, if any can; a line for each class of one clip."""
    if not len(rows):
        seen = f"; not scanned: {left_out[0]}" if left_out else ""
        raise InputError(
            f"{corpus}: no audio in it; a folder a class is needed, with {' '.join(sorted(SUFFIXES))}{seen}"
        )
    alone = ~rows["label"].duplicated(keep=False)
    left_out += [
        f"{path}: the only clip of class {label!r}"
        for path, label in zip(rows["path"][alone], rows["label"][alone], strict=True)
    ]
    rows = rows[~alone]
    if rows["label"].nunique() < 2:
        seen = f"; not scanned: {left_out[0]}" if left_out else ""
        raise InputError(
            f"{corpus}: {rows['label'].nunique()} classes of two clips or more; labels are compared with "
            f"each other, so give a corpus of at least two such classes{seen}"
        )
    return rows.sort_values(["path", "start"], ignore_index=True)


def _inside(path: Path, root: Path) -> bool:
    """Whether a file, links followed, lies in the corpus."""
    real = os.path.realpath(path)  # `resolve` fails where a link leads to itself
    return Path(real).is_relative_to(root)


def _folders(folder: Path) -> list[Path]:
    """Those that may be classes; links to folders are not followed."""
    inside = (p for p in sorted(folder.iterdir()) if p.is_dir() and not p.is_symlink())
    return [p for p in inside if may_be_class(p.name)]


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder in sorted order; links to folders are not followed, so nothing loops."""
    for here, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield from (Path(here) / name for name in sorted(names) if name[0] != ".")


def _folder(
    root: Path, path_column: str | None, label_column: str | None
) -> tuple[list[tuple[str, str, int, int]], list[str]]:
    """Clips of a folder a class, with or without folders of splits above the classes."""
    tables = [
        root / "metadata.csv",
        *(f / "metadata.csv" for f in sorted(root.iterdir()) if f.is_dir()),
    ]
    tables = [table for table in tables if table.is_file()]
    if tables and (label_column or any(set(LABELS) & set(_header(table)) for table in tables)):
        rows, left_out = [], []
        for table in tables:
            some, out = _table(table, table.parent, path_column or "file_name", label_column)
            prefix = table.parent.relative_to(root)
            if forges(str(prefix)):
                out = [f"{plain(str(prefix))}: no name for a folder; rename it"]
            else:
                rows += [((prefix / path).as_posix(), *rest) for path, *rest in some]
            left_out += out
        return rows, left_out
    tops = _folders(root)
    splits = [p for p in tops if p.name.lower() in SPLITS]
    nested = bool(splits) and all(any(c.is_dir() for c in p.iterdir()) for p in splits)
    if nested and len(splits) == len(tops):
        tops = [c for p in splits for c in _folders(p)]
    rows, left_out = [], _other_labels(root)
    for top in tops:
        for file in _files(top):
            if file.suffix.lower() not in SUFFIXES:
                continue
            name = file.relative_to(root).as_posix()
            if forges(name):
                left_out.append(f"{plain(name)}: no name for a file; rename it")
            elif _inside(file, root):
                rows.append((name, top.name, 0, -1))
            else:
                left_out.append(f"{name}: a link that leaves the corpus; copy the file into it")
    return rows, left_out


def _other_labels(root: Path) -> list[str]:
    """A line for each table beside the folders of classes that has labels of its own."""
    lines = []
    for table in sorted(root.glob("*.csv")):
        with contextlib.suppress(InputError):  # not a table that could be scanned
            header = set(_header(table))
            if header & set(PATHS) and header & set(LABELS):
                lines.append(
                    f"{plain(table.name)}: folders were taken for labels; to scan by its own, give it"
                )
    return lines


def _header(table: Path) -> list[str]:
    check_regular(table)
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as CSV ({error}); save it as UTF-8") from error


def _column(
    header: Sequence[str], given: str | None, usual: Sequence[str], option: str, table: Path
) -> str:
    for name in (given,) if given else usual:
        if name in header:
            return name
    raise InputError(
        f"{table}: no column {given or ' or '.join(usual)}; it has {plain(', '.join(header)[:200]) or 'none'}: "
        f"name one with `{option}`"
    )


def _table(
    table: Path, root: Path, path_column: str | None, label_column: str | None
) -> tuple[list[tuple[str, str, int, int]], list[str]]:
    """Clips of a CSV: paths relative to `root`, or absolute and below it."""
    header = _header(table)
    path_name = _column(header, path_column, PATHS, "path_column", table)
    label_name = _column(header, label_column, LABELS, "label_column", table)
    left_out: list[str] = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        entries = (
            (where := f"{table}, line {number}", row[path_name] or "", row[label_name],
             *_span(row, where))
            for number, row in enumerate(csv.DictReader(file), start=2)
        )  # fmt: skip
        try:
            return _clips(entries, root, table, left_out), left_out
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{table}: cannot be read as CSV ({error}); save it as UTF-8"
            ) from error


def _clips(
    entries: Iterable[lhotse.Entry], root: Path, table: Path, left_out: list[str]
) -> list[tuple[str, str, int, int]]:
    """Rows of those entries of a table whose files are there, and a line for each of the others."""
    rows, missing = [], []
    for where, given, label, start, stop in entries:
        text = given.removeprefix(DATA_ROOT).removeprefix("$data_root/")
        path = root / text
        if forges(text) or forges(label):
            left_out.append(plain(f"{text}, {label}: no names for a file and a class ({where})"))
            continue
        if not text or not _inside(path, root.resolve()):
            raise InputError(
                f"{where}: {text!r} leaves {root}; use paths below it, or `data_folder`"
            )
        if not label:
            raise InputError(f"{where}: {text!r} has no label; every clip needs one")
        if start < 0 or (stop != -1 and stop <= start):
            raise InputError(
                f"{where}: start {start} and stop {stop} span no samples; correct them"
            )
        if not path.is_file():
            missing.append(f"{text}: no such file ({where})")
            continue
        name = os.path.relpath(path, root).replace(os.sep, "/")
        rows.append((name, label, start, stop))
    if missing and not rows:
        raise InputError(
            f"{table}: none of its files is there, first {missing[0]}; give `data_folder`"
        )
    left_out += missing
    return rows


def _span(row: dict[str, str], where: str) -> tuple[int, int]:
    """The samples that a row means; all of the file without `start` and `stop`."""
    try:
        return int(row.get("start") or 0), int(row.get("stop") or -1)
    except ValueError:
        raise InputError(f"{where}: start and stop are samples; write whole numbers") from None
