"""tools/render.py fills READMEs and tables from records, and notices what was edited by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bdlib.attacks.natural import NaturalAttribute
from bdlib.cli.render import main
from bdlib.errors import InputError
from bdlib.files import digest
from bdlib.report import coverage
from bdlib.report.blocks import EMPTY
from bdlib.report.render import MADE, render
from bdlib.stages.document import common

ROOT = Path(__file__).parents[1]
README = """# Title

<!-- results:begin SpeechCommands subset 12 -->
<!-- results:end -->

between

<!-- results:begin RAVDESS -->
old
<!-- results:end -->
after
"""


def record(dataset="SpeechCommands", scale="subset", **changes):
    return {
        "schema": 1, "id": digest([dataset, scale, changes]), "time": "2025-01-01T00:00:00+00:00", "commit": None,
        "dirty": None, "command": "python train.py x.yaml", "status": "ok",
        "dataset": {"name": dataset, "variant": "12", "scale": scale, "digest": "d",
                    "counts": {"train": 10, "test": 5}},
        "model": {"name": "xvector", "yaml": "x.yaml"}, "attack": None, "defense": None,
        "experiment": None, "seed": 0, "metrics": {"clean_accuracy": {"value": 0.8}},
        "runtime": {}, "versions": {},
    } | changes  # fmt: skip


def write(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.fixture
def root(tmp_path):
    """A repository with two READMEs and one record of each of two scales."""
    (tmp_path / "README.md").write_text(README)
    recipe = tmp_path / "recipes" / "SpeechCommands" / "README.md"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("<!-- results:begin SpeechCommands -->\n<!-- results:end -->\n")
    write(tmp_path / "results" / "SpeechCommands.jsonl", record(), record(scale="mini"))
    return tmp_path


def files(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_block_may_ask_for_one_variant(root):
    readme = root / "README.md"
    readme.write_text(README.replace("subset 12", "subset 10"))
    render(root / "results", root)
    assert readme.read_text().count(EMPTY) == 2


def test_blocks_and_tables_are_filled_and_the_rest_is_kept(root):
    assert render(root / "results", root) == 0
    text = (root / "README.md").read_text()
    assert text.startswith("# Title\n\n<!-- results:begin SpeechCommands subset 12 -->\n\n### ")
    assert text.count("80.0") == 1
    assert "mini corpus" not in text
    assert EMPTY in text
    assert "old" not in text
    assert "\n\nbetween\n\n" in text
    assert text.endswith("<!-- results:end -->\nafter\n")
    assert "mini corpus" in (root / "recipes/SpeechCommands/README.md").read_text()
    table = (root / "results/tables/SpeechCommands.md").read_text()
    assert table.startswith(
        f"{MADE}# SpeechCommands: runs\n\n## SpeechCommands 12, measured on a mini"
    )
    link = "[SpeechCommands.md](../../results/tables/SpeechCommands.md)"
    assert link in (root / "recipes/SpeechCommands/README.md").read_text()
    assert table.count("80.0") == 2
    assert (root / "results/report.html").is_file()


CLAP = {"name": "clap", "trigger": {"scale": 0.1}, "source": "no", "target": "on", "rate": 0.1,
        "of": "source", "seed": 0, "poisoned": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ("", {"10.0", "20.0", "30.0", "80.0"}),
        ("table=repairs", set()),
        ("table=runs", {"10.0", "20.0", "30.0", "80.0"}),
        ('attack="clap, scale 0.1"', {"10.0", "20.0"}),
        ("attack=clap", {"10.0", "20.0", "30.0"}),
        ("attack=cla", set()),
        ("attack=clap model=mvj", {"20.0"}),
        ("model=mvj,xvector table=runs", {"10.0", "20.0", "30.0", "80.0"}),
    ],
)
def test_a_block_may_ask_for_some_runs(root, options, numbers):
    def attacked(value, model="xvector", scale=0.1):
        metrics = {"clean_accuracy": {"value": value}}
        attack = CLAP | {"trigger": {"scale": scale}}
        return record(attack=attack, metrics=metrics, model={"name": model, "yaml": "x.yaml"})

    lines = record(), attacked(0.1), attacked(0.2, "mvj"), attacked(0.3, scale=0.15)
    write(root / "results" / "SpeechCommands.jsonl", *lines)
    readme = root / "README.md"
    readme.write_text(
        f"<!-- results:begin SpeechCommands subset 12 {options} -->\n<!-- results:end -->\n"
    )
    render(root / "results", root)
    text = readme.read_text()
    assert {n for n in ("10.0", "20.0", "30.0", "80.0") if f"| {n} |" in text} == numbers
    assert (EMPTY in text) == (not numbers)


def test_levels_found_on_the_test_set_and_clean_twins_stay_out_of_the_readmes(root):
    def defended(name, accuracy):
        defense = {"name": name, "stage": "inference", "clean_budget": 0, "selection": "oracle"}
        metrics = {"clean_accuracy": {"value": accuracy}}
        return record(id=name, defense=defense, metrics=metrics)

    twin = record(id="t", attack=CLAP | {"rate": 0}, metrics={"clean_accuracy": {"value": 0.6}})
    lines = record(), defended("feature_noise", 0.3), defended("perfect_filter_oracle", 0.4), twin
    write(root / "results" / "SpeechCommands.jsonl", *lines)
    render(root / "results", root)
    text, table = (root / "README.md").read_text(), root / "results/tables/SpeechCommands.md"
    assert "40.0" in text and "30.0" not in text and "60.0" not in text
    assert "30.0" in table.read_text() and "60.0" in table.read_text()


def test_a_second_rendering_changes_nothing(root):
    render(root / "results", root)
    once = files(root)
    render(root / "results", root)
    assert files(root) == once
    assert render(root / "results", root, check=True) == 0


def edit_readme(root):
    path = root / "README.md"
    path.write_text(path.read_text().replace("80.0", "99.0"))
    return path


def edit_table(root):
    path = root / "results/tables/SpeechCommands.md"
    path.write_text(path.read_text().replace("80.0", "99.0"))
    return path


def edit_recipe(root):
    path = root / "recipes/SpeechCommands/README.md"
    path.write_text(path.read_text().replace("mini corpus", "full corpus"))
    return path


def remove_table(root):
    path = root / "results/tables/SpeechCommands.md"
    path.unlink()
    return path


def leave_table(root):
    path = root / "results/tables/Gone.md"
    path.write_text(f"{MADE}# Gone\n")
    return path


@pytest.mark.parametrize("spoil", [edit_readme, edit_table, edit_recipe, remove_table, leave_table])
def test_check_names_a_file_that_differs_and_writes_nothing(root, capsys, spoil):
    render(root / "results", root)
    path = spoil(root)
    before = files(root)
    capsys.readouterr()
    assert render(root / "results", root, check=True) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}: differs")
    assert files(root) == before


def test_a_table_of_a_person_stays_and_one_of_a_former_rendering_goes(root):
    render(root / "results", root)
    gone, mine = leave_table(root), root / "results/tables/mine.md"
    mine.write_text("# Mine\n")
    assert render(root / "results", root, check=True) == 1
    render(root / "results", root)
    assert not gone.exists() and mine.read_text() == "# Mine\n"
    assert render(root / "results", root, check=True) == 0


def test_check_notices_a_new_record(root, capsys):
    render(root / "results", root)
    with (root / "results/SpeechCommands.jsonl").open("a") as file:
        file.write(json.dumps(record(seed=1, metrics={"clean_accuracy": {"value": 0.7}})) + "\n")
    assert render(root / "results", root, check=True) == 1
    error = capsys.readouterr().err
    assert all(name in error for name in ("README.md", "tables/SpeechCommands.md", "report.html"))


def test_a_report_that_was_never_made_does_not_fail_a_check(root):
    render(root / "results", root)
    (root / "results/report.html").unlink()
    assert render(root / "results", root, check=True) == 0


def test_another_folder_is_rendered_in_place_and_printed(root, capsys):
    other = root / "exp" / "quick"
    write(other / "ESD.jsonl", record("ESD", "mini"))
    before = (root / "README.md").read_text()
    assert render(other, root) == 0
    assert (root / "README.md").read_text() == before
    assert not (root / "results/tables").exists()
    assert (other / "tables/ESD.md").is_file()
    out = capsys.readouterr().out
    assert "xvector" in out
    assert "80.0" in out
    assert "report.html" in out


def test_published_numbers_of_the_repository_stand_beside_another_folder(root):
    paper = root / "results/paper"
    paper.mkdir()
    header = (ROOT / "results/paper/mvj.csv").read_text().splitlines()[0]
    row = "Doe 2023,ESD 12,xvector,,,,,,,,clean_accuracy,0.77,"
    (paper / "p.csv").write_text(f"{header}\n{row}\n")
    other = root / "exp"
    write(other / "ESD.jsonl", record("ESD"))
    render(other, root)
    assert "| clean 77.0 [1] |" in (other / "tables/ESD.md").read_text()


def test_no_records_is_said(root, capsys):
    (root / "results/SpeechCommands.jsonl").unlink()
    assert render(root / "results", root) == 0
    assert "no records yet" in capsys.readouterr().out
    assert (root / "README.md").read_text().count(EMPTY) == 2
    assert render(root / "results", root, check=True) == 0


@pytest.mark.parametrize(
    "text, row",
    [
        ("<!-- results:begin ESD mini 12 a -->\n<!-- results:end -->\n", 1),
        ("a\n<!-- results:begin ESD -->\n", 2),
        ("<!-- results:begin ESD -->\n\n<!-- results:begin X -->\n<!-- results:end -->\n", 1),
        ("a\nb\n<!-- results:begin ESD tiny -->\n<!-- results:end -->\n", 3),
        ("<!-- results:begin -->\n<!-- results:end -->\n", 1),
        ("<!-- results:begin ESD defense=x -->\n<!-- results:end -->\n", 1),
        ("<!-- results:begin ESD table=all -->\n<!-- results:end -->\n", 1),
        ("<!-- results:begin ESD attack='clap -->\n<!-- results:end -->\n", 1),
        ("<!-- results:begin A -->\n<!-- results:end -->\n<!-- results:begin B -->\n", 3),
    ],
)
def test_broken_markers_are_named_and_nothing_is_written(root, text, row):
    (root / "README.md").write_text(text)
    before = files(root)
    with pytest.raises(InputError, match=rf"README\.md, row {row}: "):
        render(root / "results", root)
    assert files(root) == before


def test_the_command_line_prints_one_line_and_exits_with_1(root, capsys):
    (root / "results/SpeechCommands.jsonl").write_text("{}\n")
    for arguments, words in [
        (["--results", str(root / "none")], "none: no such folder"),
        (["--results", str(root / "results")], "SpeechCommands.jsonl, line 1: field schema"),
        (["--chek"], "unknown option --chek"),
    ]:
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert words in error
        assert error.count("\n") == 1


def test_the_script_runs_from_anywhere(tmp_path):
    write(tmp_path / "r" / "ESD.jsonl", record("ESD", "mini"))
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "render.py", "--results", "r"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "ESD 12" in done.stdout
    assert (tmp_path / "r" / "report.html").is_file()


def test_a_page_tells_what_was_measured_on_real_speech(root):
    """Of what there is, by the yaml files; a mini corpus is no real speech."""
    for name in ("xvector", "mvd", "resnet"):
        path = root / "recipes" / "SpeechCommands" / "hparams" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    mini = record(scale="mini", model={"name": "mvd", "yaml": "x.yaml"})
    policy = {"labels": {"type": "bdlib.attacks.labels.OneToOne", "source": "no"}}
    write(root / "results" / "SpeechCommands.jsonl", record(attack=CLAP | policy), mini)
    page = root / "docs" / "fidelity.md"
    page.parent.mkdir()
    page.write_text("<!-- results:begin coverage -->\n<!-- results:end -->\n")
    render(root / "results", root)
    rows = {line.split(" | ")[0].strip("| "): line for line in page.read_text().splitlines()}
    assert rows["Nets, SpeechCommands"].endswith("| 1 of 3 | xvector | mvd, resnet |")
    attacks = len(list((ROOT / "recipes/common/attacks").glob("*.yaml")))
    assert f"| 1 of {attacks} | clap | " in rows["Attacks"]
    assert "| 0 of " in rows["Defenses"]
    lacking = (
        "all\\_to\\_all, all\\_to\\_one, clean\\_label, clean\\_label\\_hard, natural\\_attribute"
    )
    assert rows["Labels"].endswith(f"| 1 of 6 | one\\_to\\_one | {lacking} |")


def test_policies_are_called_as_their_yaml():
    for path in (ROOT / "recipes/common/labels").glob("*.yaml"):
        kind = common("labels", path.stem).build()["policy"]
        kind = getattr(kind, "func", kind)
        told = {"attack": {"labels": {"type": f"{kind.__module__}.{kind.__name__}"}}}
        assert coverage._policy(told) == path.stem
    told = {"attack": {"labels": {"type": f"{NaturalAttribute.__module__}.NaturalAttribute"}}}
    assert coverage._policy(told) == coverage.NATURAL
