"""`tools/render.py --check` refuses records that nobody can trust, and pictures of other records."""

import json
import subprocess

import pytest

from bdlib.errors import InputError
from bdlib.report.render import render

FILTER = {"name": "scan", "stage": "filter", "selection": "fixed", "clean_budget": 0}


@pytest.fixture
def repository(tmp_path, make_record):
    """A function: records in, and a repository out whose results hold them; and its three commits."""

    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", "-C", tmp_path, *name, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init")
    commits = []
    for message in ("old", "mended", "new"):
        git("commit", "--allow-empty", "-m", message)
        commits.append(git("rev-parse", "HEAD"))

    def made(*changes, checks=""):
        (tmp_path / "results").mkdir(exist_ok=True)
        lines = [
            json.dumps(make_record({"id": f"r{number}", "commit": commits[2], **change}))
            for number, change in enumerate(changes)
        ]
        (tmp_path / "results" / "SpeechCommands.jsonl").write_text("\n".join(lines))
        (tmp_path / "results" / "checks.yaml").write_text(checks)
        render(tmp_path / "results", tmp_path)
        return tmp_path

    return made, commits


def refused(root, capsys):
    """What a check says."""
    capsys.readouterr()
    status = render(root / "results", root, check=True)
    told = capsys.readouterr()
    assert status == bool(told.err)
    return told.err, told.out


def part(commit, dirty=False):
    return {"time": "2025-01-01T00:00:00+00:00", "commit": commit, "dirty": dirty}


def test_what_is_in_order_passes(repository, capsys):
    made, (old, _, new) = repository
    parts = {"training": part(old), "scores": part(new)}
    assert refused(made({}, {"seed": 1, "parts": parts}), capsys)[0] == ""


def test_records_that_cannot_be_made_again_are_refused(repository, capsys):
    made, (_, _, new) = repository
    parts = {"training": part(new, dirty=True), "scores": part(new)}
    data = {"name": "SpeechCommands", "variant": "12", "scale": "subset", "digest": "d0",
            "counts": {"train": 9}}  # fmt: skip
    for changes, words in (
        ([{"commit": "f" * 40}], "1 records (r0) are of commit fffffff, which HEAD lacks"),
        ([{"commit": None}], "which HEAD lacks"),
        ([{"dirty": True}], "1 records (r0) are of code that no commit holds"),
        ([{"parts": parts}], "are of code that no commit holds"),
        ([{}, {"id": "r0", "seed": 1}], "1 records (r0) have an id that stands before"),
        ([{"dataset": data | {"audio": "a"}}, {"dataset": data | {"audio": "b"}, "seed": 1}],
         "(r1) are of other audio"),
    ):  # fmt: skip
        told, _ = refused(made(*changes), capsys)
        assert words in told and told.count("\n") == 1, told


def test_a_record_older_than_the_fix_of_its_part_is_refused(repository, capsys):
    made, (old, mended, _) = repository
    checks = "stale_before:\n- {%s, commit: %s, why: it was wrong}\nknown:%s\n"
    model, defense = "model: res*", "defense: scan"
    early, late = {"training": part(old)}, {"training": part(old), "filter": part(mended)}
    for rule, change, stale in (
        (model, {"commit": old}, True),
        (model, {"commit": mended}, False),
        ("model: [mvd, resnet*]", {"commit": old}, True),
        ("model: mvd", {"commit": old}, False),
        (model, {"parts": late}, True),  # the training lacks the fix
        (defense, {"parts": late, "defense": FILTER}, False),  # which is the filter's
        (defense, {"parts": early | {"filter": part(old)}, "defense": FILTER}, True),
        (defense, {"commit": old, "defense": FILTER}, True),  # tells no parts
        (defense, {"commit": old}, False),  # has no defense
    ):
        told, _ = refused(made(change, checks=checks % (rule, mended, " []")), capsys)
        assert ("are older than" in told) == stale, (rule, change, told)
    known = f"\n- {{{model}, commit: [{old[:7]}], why: not yet}}"
    root = made({"commit": old}, checks=checks % (model, mended, known))
    assert refused(root, capsys) == (
        "",
        "note: 1 records stand although known to be stale: not yet\n",
    )
    known = known.replace(old[:7], mended[:7])
    assert refused(made({"commit": old}, checks=checks % (model, mended, known)), capsys)[0]


def test_without_git_commits_are_not_looked_up_and_that_is_said(tmp_path, repository, capsys):
    made, _ = repository
    root = made({"commit": "f" * 40}, {"dirty": True})
    (tmp_path / ".git").rename(tmp_path / "git")
    told, note = refused(root, capsys)
    assert told.count("\n") == 1 and "no commit holds" in told
    assert note.startswith("note: no git")


@pytest.mark.parametrize(
    "text", ["a: [", "stale: []", "known:\n- {commit: a}", "known:\n- {commit: a, why: b, mdel: c}",
             "stale_before:\n- {commit: ffffff, why: b}"]
)  # fmt: skip
def test_broken_checks_are_named(repository, text):
    made, _ = repository
    root = made({})
    (root / "results" / "checks.yaml").write_text(text)
    with pytest.raises(InputError, match=r"checks\.yaml: |stale_before names"):
        render(root / "results", root, check=True)


def noisy(value):
    """An undefended model, and one behind noise: enough for a picture."""
    guard = {"name": "feature_noise", "stage": "inference", "selection": "oracle",
             "clean_budget": 0, "settings": {"noise": 0.2, "step_size": 0}}  # fmt: skip
    rate = {"metrics.attack_success_rate": {"value": value}}
    return [rate, {"defense": guard, **rate}]


def test_a_picture_of_other_records_is_refused(repository, capsys):
    made, _ = repository
    root = made(*noisy(0.5))
    (path,) = (root / "results" / "figures").glob("noise-*.png")
    before = path.read_bytes()
    assert refused(root, capsys)[0] == ""
    made(*noisy(0.4))
    assert path.read_bytes() != before
    path.write_bytes(before)
    render(root / "results", root)  # draws it anew
    assert path.read_bytes() != before and refused(root, capsys)[0] == ""
    path.write_bytes(before)
    (path.parent / "more.png").write_bytes(before)
    told, _ = refused(root, capsys)
    assert f"{path}: drawn from other records" in told and "more.png: no record is drawn" in told
    path.unlink()
    assert "not drawn" in refused(root, capsys)[0]
