"""Records that no page may rest on, and pictures that no longer show theirs."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from bdlib.errors import InputError
from bdlib.records.provenance import git
from bdlib.report.figures.figure import Picture, made_of
from bdlib.report.groups import Records

PARTS = ("model", "defense", "attack", "dataset")
BEFORE = ("training", "looked_at")  # parts of a record that its defense has not made
NAMED = 3  # ids that a refusal names
UNHELD = (
    "are of code that no commit holds; commit, delete these lines and what they rest on "
    "(`exp` of the recipe), and measure again"
)


def refused_records(files: Mapping[Path, Records], root: Path, checks: Path) -> list[str]:
    """Why records of a repository cannot stand, a line a reason.

    A record is refused that is of code no commit holds, of a commit that the history of HEAD lacks,
    of an id that another has, or older than the commit that mended its part. What `known` lists is
    passed over, and counted on the terminal.

    Arguments
    ---------
    files : Mapping[Path, Records]
        Records by their file.
    root : Path
        The repository; without git, or with a part of its history only, commits are not looked up,
        and that is said.
    checks : Path
        A yaml with two lists, `stale_before` and `known`. An entry has `commit` and `why` and may
        name a `model`, `defense`, `attack` or `dataset`, as a shell pattern or a list of them. The
        first list mends such records, the second, where `commit` is a list, lets those of these
        commits stand.

    Raises
    ------
    InputError
        If the yaml is broken.
    """
    rules = _read(checks)
    reasons: dict[tuple[Path, str], list[str]] = {}
    for path, record, why in _faults(files, root, rules["stale_before"]):
        known = [entry for entry in rules["known"] if _excused(record, entry)]
        place = path if not known else None
        reasons.setdefault((place, known[0]["why"] if known else why), []).append(record["id"])
    told = []
    for (path, why), ids in reasons.items():
        ids = list(dict.fromkeys(ids))
        names = ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
        if path is None:
            print(f"note: {len(ids)} records stand although known to be stale: {why}")
        else:
            told.append(f"{path}: {len(ids)} records ({names}) {why}")
    return told


def refused_pictures(pictures: Mapping[str, Picture | str], folder: Path) -> list[str]:
    """Which pictures of a folder do not show what the records say, a line each.

    Arguments
    ---------
    pictures : Mapping[str, Picture | str]
        By the stem of a file, all that there should be, or the digests of their data.
    folder : Path
        Holds them as png.
    """
    told = []
    for path in sorted({*folder.glob("*.png"), *(folder / f"{stem}.png" for stem in pictures)}):
        wanted = pictures.get(path.stem)
        if wanted is None:
            told.append(f"{path}: no record is drawn in it; delete it")
        elif not path.exists():
            told.append(f"{path}: not drawn; run tools/render.py")
        elif made_of(path) != (wanted.digest if isinstance(wanted, Picture) else wanted):
            told.append(f"{path}: drawn from other records; run tools/render.py")
    return told


def _faults(
    files: Mapping[Path, Records], root: Path, stale_before: Iterable[dict[str, Any]]
) -> Iterator[tuple[Path, dict[str, Any], str]]:
    history = _git_log(root, "HEAD")
    fixes = [(rule, _since(root, rule["commit"])) for rule in stale_before] if history else []
    seen: set[str] = set()
    audio: dict[str, str] = {}
    for path, record in ((path, record) for path, some in files.items() for record in some):
        sources = _sources(record)
        if any(source["dirty"] for source in sources.values()):
            yield path, record, UNHELD
        if record["id"] in seen:
            yield path, record, "have an id that stands before; delete one of the lines"
        seen.add(record["id"])
        data = record["dataset"]
        heard = data.get("audio")  # which the oldest records do not tell
        if heard and audio.setdefault(data["digest"], heard) != heard:
            yield path, record, "are of other audio than those before, of the same manifests"
        if not history:
            continue
        if lacking := {source["commit"] for source in sources.values()} - history:
            yield path, record, f"are of commit {min(map(str, lacking))[:7]}, which HEAD lacks"
        for rule, since in fixes:
            if _is_of(record, rule) and any(
                source["commit"] not in since for source in _sources(record, rule).values()
            ):
                yield path, record, f"are older than {rule['commit'][:7]}: {rule['why']}"


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    empty = {"stale_before": [], "known": []}
    if not path.exists():
        return empty
    try:
        told = empty | (yaml.safe_load(path.read_text("utf-8")) or {})
        entries = [entry for rules in told.values() for entry in rules]
        if set(told) != set(empty) or not all(
            {"commit", "why"} <= set(entry) <= {"commit", "why", *PARTS} for entry in entries
        ):
            raise ValueError("an entry or a list has a wrong key")
    except (OSError, yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: {' '.join(str(error).split())}; write the lists stale_before and known, of "
            f"entries with commit, why and {', '.join(PARTS)}"
        ) from error
    return told


def _is_of(record: dict[str, Any], rule: Mapping[str, Any]) -> bool:
    """Whether a rule is about a record, or about all."""

    def called(part: str) -> bool:
        patterns = rule[part] if isinstance(rule[part], list) else [rule[part]]
        name = (record[part] or {}).get("name", "")
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    return all(called(part) for part in PARTS if part in rule)


def _excused(record: dict[str, Any], entry: Mapping[str, Any]) -> bool:
    commits = tuple(str(commit) for commit in entry["commit"])
    return _is_of(record, entry) and str(record["commit"]).startswith(commits)


def _sources(record: dict[str, Any], rule: Mapping[str, Any] = {}) -> dict[str, dict[str, Any]]:
    """What made a record, by part; for a rule about a defense, without what was there before it."""
    parts = record.get("parts") or {"run": record}
    if "defense" in rule:
        return {name: part for name, part in parts.items() if name not in BEFORE}
    return parts


def _git_log(root: Path, *revisions: str) -> frozenset[str]:
    """Commits that git lists; none where there is no git, or not the whole history, and then a line."""
    whole = git("rev-parse", "--is-shallow-repository", root=root) == "false"
    if not whole:
        print("note: no git, or not all of its history: commits of records are not looked up")
        return frozenset()
    return frozenset((git("rev-list", *revisions, root=root) or "").split())


def _since(root: Path, commit: str) -> frozenset[str]:
    """A commit and what is built on it."""
    full = git("rev-parse", "--verify", f"{commit}^{{commit}}", root=root)
    if full is None:
        raise InputError(f"{root}: no commit {commit}, which stale_before names; correct it")
    return _git_log(root, "--ancestry-path", f"{full}..HEAD") | {full}
