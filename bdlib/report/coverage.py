"""Which attacks, label policies, defenses and nets were measured on real speech, and which not yet."""

import re
from collections.abc import Iterable
from pathlib import Path

from bdlib.files import COMMON
from bdlib.report.groups import Records
from bdlib.report.table import Grid, Table, markdown

COLUMNS = ("", "Of all", "With a record on real speech", "Without")
NATURAL = "natural_attribute"
"""The policy of `emotion` and `attribute`, which has no yaml of its own."""


def coverage(records: Records, root: Path) -> str:
    """A table as Markdown, a row each for attacks, label policies, defenses and nets.

    Arguments
    ---------
    records : list of dict
        All records; those of mini corpora and of failures do not count.
    root : Path
        The repository, whose yaml files say what there is.
    """
    real = [r for r in records if r["status"] == "ok" and r["dataset"]["scale"] != "mini"]
    rows = [
        _row("Attacks", _names(COMMON.glob("attacks/*.yaml")), {_name(r, "attack") for r in real}),
        _row("Labels", sorted([*_names(COMMON.glob("labels/*.yaml")), NATURAL]), {_policy(r) for r in real}),
        _row("Defenses", _names(COMMON.glob("defenses/*.yaml")), {_name(r, "defense") for r in real}),
        *(
            _row(f"Nets, {path.name}", _names(path.glob("hparams/*.yaml")), {
                _name(r, "model") for r in real if r["dataset"]["name"] == path.name
            })
            for path in sorted(root.glob("recipes/*"))
            if (path / "hparams").is_dir()
        ),
    ]  # fmt: skip
    return markdown(Table("", "", "", "", (Grid("", COLUMNS, tuple(rows)),), ())).lstrip("# \n")


def _row(title: str, there: list[str], measured: set[str]) -> tuple[str, ...]:
    have = [name for name in there if name in measured]
    lack = [name for name in there if name not in measured]
    return title, f"{len(have)} of {len(there)}", ", ".join(have), ", ".join(lack)


def _names(paths: Iterable[Path]) -> list[str]:
    return sorted(path.stem for path in paths)


def _name(record: dict, part: str) -> str:
    return (record[part] or {}).get("name", "")


def _policy(record: dict) -> str:
    """Its label policy as its yaml is called: after the class."""
    kind = ((record["attack"] or {}).get("labels") or {}).get("type", "")
    return re.sub(r"\B(?=[A-Z])", "_", kind.rpartition(".")[2]).lower()
