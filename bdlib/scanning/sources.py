"""What is scanned: a folder a class, a CSV, or lhotse's manifests, as people have them. Nothing is written into it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bdlib.errors import InputError
from bdlib.files import at_home
from bdlib.scanning import folders, lhotse, tables


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
        corpus = at_home(corpus)
        if corpus.is_dir():
            root = corpus.resolve()
            rows, left_out = folders.read(root, path_column, label_column)
        elif corpus.is_file():
            root = at_home(data_folder).resolve() if data_folder else corpus.resolve().parent
            if corpus.name.endswith(lhotse.SUFFIXES):
                left_out = []
                names = (label_column,) if label_column else ("text", *tables.LABELS)
                entries = lhotse.entries(corpus, names, left_out)
                rows = tables.clips(entries, root, corpus, left_out)
            else:
                rows, left_out = tables.read(corpus, root, path_column, label_column)
        else:
            raise InputError(
                f"{corpus}: no such folder or file; give a folder with a folder a class, a CSV, "
                "or a lhotse manifest"
            )
        table = pd.DataFrame(rows, columns=["path", "label", "start", "stop"])
        return cls(root, _checked(table, corpus, left_out), tuple(left_out), corpus.is_file())

    def holds(self, place: str | Path) -> bool:
        """Whether a place lies in the corpus: of a table, in a folder of its clips, but not in a new one of `root`."""
        place = Path(place).resolve()
        if not self.listed:
            return place.is_relative_to(self.root)
        holding = {(self.root / path).parent.resolve() for path in self.rows["path"]}
        return place in holding or any(map(place.is_relative_to, holding - {self.root}))

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
            f"{corpus}: no audio in it; a folder a class is needed, with {' '.join(sorted(folders.SUFFIXES))}{seen}"
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
