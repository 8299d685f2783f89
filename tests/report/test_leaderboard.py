"""Rows of the leaderboard by hand: means over attacks, worst attacks, cells that are missing."""

from itertools import product
from pathlib import Path

import pytest

from bdlib.cli.render import planned
from bdlib.errors import InputError
from bdlib.report.blocks import fill
from bdlib.report.board_page import brief, page, tables
from bdlib.report.figures import board_figure
from bdlib.report.leaderboard import HALVES, Planned, boards, recommended
from bdlib.report.render import render

ROOT = Path(__file__).parents[2]
SUCCESS = {"clap": (0.9, 1.0), "room": (0.4, 0.6), "tempo": (0.0, 0.2)}


def cell(attack, defense, seed):
    command = f"{attack} {defense} {seed}"
    return Planned("SpeechCommands", "development", attack, defense, command, "subset", seed)


def run(make_record, attack, defense, seed, success, **changes):
    stage = {"none": None, "fix": "repair", "ask": "inference"}[defense]
    about = stage and {"name": defense, "stage": stage, "selection": "fixed", "clean_budget": 60}
    rates = {"clean_accuracy": 0.8, "attack_success_rate": success, "robust_accuracy": 0.5}
    if stage == "inference":  # of what it lets through
        rates |= {"detection_auc": 0.75, "false_rejection_rate": 0.03}
        rates |= {f"passed_{name}": rates[name] for name in list(rates)[:3]}
        rates |= {"clean_accuracy": 0.9, "attack_success_rate": 1.0, "robust_accuracy": 0.0}
    return make_record({
        "command": cell(attack, defense, seed).command,
        "defense": about,
        "seed": seed,
        "metrics": {name: {"value": value, "total": 2000} for name, value in rates.items()},
        "parts": {"training": {"time": f"{attack} {seed}"}},
        "runtime": {"device": "cpu", "train_s": 100.0, "score_ms": 1.5,
                    **({"repair_s": 7.0} if stage else {})},
        **changes,
    })  # fmt: skip


def test_hours_count_a_training_once(make_record):
    """A filter that drops nothing gives back the undefended net, whose training is counted already."""
    asked = [cell("clap", name, 0) for name in ("none", "fix")]
    none = run(make_record, "clap", "none", 0, 1.0)
    about = {"name": "fix", "stage": "filter", "selection": "fixed", "clean_budget": 0}
    same = run(make_record, "clap", "fix", 0, 1.0) | {"defense": about}
    same["runtime"] = {"device": "cpu", "train_s": 100.0, "filter_s": 11.0, "score_ms": 1.5}
    (board,) = boards([none, same], asked)
    assert board.hours == pytest.approx((100 + 11 + 2 * 6) / 3600)


def test_a_row_of_several_seeds(make_record):
    """The worst attack is that of the mean over seeds; of clips, seconds and milliseconds the median is told."""
    found = {
        ("clap", 0): 0.0,
        ("clap", 1): 1.0,
        ("room", 0): 0.6,
        ("room", 1): 0.6,
        ("tempo", 0): 0.2,
    }
    asked = [cell(a, "fix", s) for a, s in found]
    made = [run(make_record, a, "fix", s, rate) for (a, s), rate in found.items()]
    for record, (budget, seconds, auc) in zip(
        made, [(0, 1, 0.6), (0, 1, 0.6), (0, 1, 1.0), (90, 50, 1.0), (90, 50, 0.2)], strict=True
    ):
        record["defense"]["clean_budget"] = budget
        record["runtime"] |= {"train_s": seconds, "repair_s": 0.0, "score_ms": seconds}
        record["metrics"]["filter_auc"] = {"value": auc}
    row = tables(boards(made, asked))[0].grids[0].rows[0]
    assert row[3] == "60.0 (room)" and row[5] == "0.600"
    assert row[7:10] == ("0", "1", "1.0")


def test_a_guard_is_asked_for_what_it_lets_through(make_record):
    made = [run(make_record, a, "ask", 0, 0.5) for a in SUCCESS]
    row = tables(boards(made, [cell(a, "ask", 0) for a in SUCCESS]))[0].grids[0].rows[0]
    assert [value.split(" ")[0] for value in row[1:5]] == ["80.0", "50.0", "50.0", "50.0"]


@pytest.fixture
def asked():
    """Three attacks, two seeds, two defenses."""
    return [cell(a, d, s) for a in SUCCESS for d in ("none", "fix", "ask") for s in (0, 1)]


@pytest.fixture
def records(make_record):
    """All cells of `none`, one of which failed later; of `fix` one less, one refused and one replaced;
    of `ask` two attacks. A cell of `fix` is of the whole corpus, which is another."""
    pairs = [(a, s, rate) for a, rates in SUCCESS.items() for s, rate in enumerate(rates)]
    none = [run(make_record, a, "none", s, 1.0) for a, s, _ in pairs]
    fix = [run(make_record, a, "fix", s, rate) for a, s, rate in pairs[1:]]
    fix[-1] |= {"status": "failed", "error": "no clip is left"}
    older = run(make_record, "room", "fix", 0, 0.99)
    ask = [run(make_record, a, "ask", s, 0.5) for a, s, _ in pairs[:4]]
    elsewhere = run(make_record, "clap", "fix", 0, 0.0, command="clap fix 0 of elsewhere")
    later = {**none[0], "status": "failed", "error": "stopped"}
    whole = run(make_record, "clap", "fix", 0, 0.0, **{"dataset.scale": "full"})
    return [older, *none, *fix, *ask, elsewhere, later, whole]


def test_rows_by_hand(records, asked):
    """Of `fix` the clap has one seed, 100 %, room 50 % of two, tempo one, 0 %: in the mean 50 %."""
    (table,) = tables(boards(records, asked))
    none, fix, ask = table.grids[0].rows
    assert none[1:4] == ("80.0 [80.0, 80.0]", "100.0 [100.0, 100.0]", "100.0 (tempo)")
    # t of 0.975 with two degrees of freedom is 4.303: 0.5 -+ 4.303 * 0.5 / sqrt(3) is cut at 0 and 1.
    assert fix == ("fix *", "80.0 [80.0, 80.0]", "50.0 [0.0, 100.0]", "100.0 (clap)",
                   "50.0 [50.0, 50.0]", "", "", "60", "107", "1.5", "4 of 6")  # fmt: skip
    assert none[-4:] == ("0", "100", "1.5", "6 of 6")
    assert ask[0] == "ask *" and ask[2] == "50.0" and ask[5:7] == ("0.750", "3.0")
    assert "Missing: 3 of 18 cells." in table.notes[2]
    # Six trainings, four repairs, and in 14 cells 2,000 clips of each test set; those that a rate counts, no others.
    (board,) = boards(records, asked)
    assert board.hours == pytest.approx((600 + 4 * 7 + 14 * 6) / 3600)
    assert table.notes[-1] == "Refused: no clip is left" and table.notes[1].startswith("*")
    assert not any("corpora" in note for note in table.notes)
    other = {**records[1], "dataset": {**records[1]["dataset"], "digest": "another"}}
    (table,) = tables(boards([*records, other], asked))
    assert any(note.startswith("Of 2 different corpora") for note in table.notes)


@pytest.fixture
def evened(records, make_record):
    """With the cell that `fix` lacks of seed 0: of seed 1 it still has two attacks."""
    return [*records, run(make_record, "clap", "fix", 0, 0.8)]


def test_rows_of_other_seeds_stand_apart(evened, asked):
    """`none` has both seeds, `fix` one, of which its 80, 40 and 0 % are; `ask` has none whole."""
    (board,) = boards(evened, asked)
    (table,) = tables([board])
    both, first = table.grids
    assert (both.title, first.title) == ("Seeds 0, 1", "Seed 0")
    assert [(row[0], row[-1]) for row in both.rows] == [("none", "6 of 6")]
    names = [(row[0], row[2].partition(" ")[0], row[-1]) for row in first.rows]
    assert names == [
        ("none", "100.0", "3 of 3"),
        ("fix", "40.0", "3 of 3"),
        ("ask *", "50.0", "4 of 6"),
    ]
    assert board.counts == (18, 15, 1, 2) and board.cells["fix"] == (6, 5, 1)


def test_an_interval_by_hand(make_record, asked):
    """20, 30 and 40 %: 30 -+ 4.303 * 10 / sqrt(3)."""
    some = [
        run(make_record, a, "none", 0, s) for a, s in zip(SUCCESS, (0.2, 0.3, 0.4), strict=True)
    ]
    (table,) = tables(boards(some, asked))
    assert table.grids[0].rows[0][2:4] == ("30.0 [5.2, 54.8]", "40.0 (tempo)")


def test_the_recommendation_by_hand(make_record):
    """Of six on two tasks: the best costs too much on one, the next has an attack less, the third is the oracle."""
    success = {"none": 1.0, "dear": 0.0, "partial": 0.1, "perfect_filter_oracle": 0.0,
               "worse": 0.3, "good": 0.2}  # fmt: skip
    asked, records = [], []
    for task in ("SpeechCommands", "RAVDESS"):
        for half in ("development", "confirmation"):
            for attack, name in product(("clap", "room"), success):
                command = f"{task} {half} {attack} {name}"
                asked.append(Planned(task, half, attack, name, command, "subset", 0))
                if half == "confirmation":
                    continue  # which is not looked at, as no other seed is
                later = f"{command} again"
                asked.append(Planned(task, half, attack, name, later, "subset", 1))
                accuracy = 0.779 if name == "dear" and task == "RAVDESS" else 0.78
                rates = {"clean_accuracy": 0.8 if name == "none" else accuracy,
                         "attack_success_rate": success[name]}  # fmt: skip
                changes = {"command": command, "parts": {"training": {"time": command}}, "dataset.name": task, "dataset.scale": "subset",
                           "metrics": {k: {"value": value} for k, value in rates.items()}}  # fmt: skip
                record = make_record(changes)
                if name == "partial" and attack == "room" and task == "RAVDESS":
                    record |= {"status": "failed", "error": "no clip is left"}
                records.append(record)
    assert recommended(records, asked) == "good"
    assert "half: **good**" in page(boards(records, asked), "good")
    assert recommended(records[1:], asked) is None
    bare = [r | {"status": "failed"} if r["command"].endswith(" none") else r for r in records]
    assert recommended(bare, asked) is None  # nothing to compare with
    assert "ecommended" not in page(boards(records, asked))


def test_equals_are_told_by_the_worst_attack_then_by_clean_clips(make_record):
    """The mean of both tasks counts, not the worse task; of equals the lower worst ASR, then fewer clips."""
    ways = {"none": ((1.0, 1.0), (1.0, 1.0), 0), "uneven": ((0.0, 0.0), (0.25, 0.25), 0),
            "even": ((0.15, 0.15), (0.15, 0.15), 0), "peaked": ((0.0, 0.0), (0.0, 0.5), 0),
            "hungry": ((0.0, 0.0), (0.25, 0.25), 9)}  # fmt: skip
    tasks = ("SpeechCommands", "RAVDESS")
    asked, records = [], []
    for name, (*success, clean) in ways.items():
        about = {"name": name, "stage": "repair", "selection": "fixed", "clean_budget": clean}
        for task, rates in zip(tasks, success, strict=True):
            for attack, rate in zip(("clap", "room"), rates, strict=True):
                command = f"{task} {attack} {name}"
                asked.append(Planned(task, "development", attack, name, command, "subset", 0))
                records.append(make_record({
                    "command": command, "dataset.name": task, "dataset.scale": "subset",
                    "defense": None if name == "none" else about, "parts": {"training": {"time": command}},
                    "metrics": {"clean_accuracy": {"value": 0.8}, "attack_success_rate": {"value": rate}},
                }))  # fmt: skip
    for winner in ("uneven", "hungry", "peaked", "even"):
        assert recommended(records, asked) == winner
        asked = [cell for cell in asked if cell.defense != winner]


def test_what_is_missing_is_counted(records, asked):
    text = page(boards(records, asked))
    assert "| SpeechCommands | development | 18 | 14 | 1 | 3 |" in text
    text = page(boards([], asked))
    assert "| SpeechCommands | development | 18 | 0 | 0 | 18 |" in text
    assert "No cell has been measured yet" in text and "Leaderboard:" not in text
    refused = [record for record in records if record["status"] == "failed"]
    assert "compare. Refused: stopped; no clip is left." in page(boards(refused, asked))


def test_the_picture_is_of_defenses_that_met_the_same_attacks(evened, asked):
    (picture,) = board_figure.draw(boards(evened, asked)).values()
    ((panels,),) = (picture.data,)
    assert panels == [("SpeechCommands, seed 0", [
        ("none", None, pytest.approx(80), pytest.approx(100), pytest.approx(100)),
        ("fix", "repair", pytest.approx(80), pytest.approx(40), pytest.approx(80)),
    ])]  # fmt: skip
    (axis,) = picture.figure.axes
    assert [axis.lines[1].get_ydata(), axis.lines[4].get_ydata()] == [[100], [80]]
    assert {text.get_text() for text in axis.texts} == {"none", "fix"}
    assert board_figure.draw(boards([], asked)) == {}


def test_rows_in_brief(evened, asked, tmp_path):
    """Nothing of a row that met other attacks, and the block of a README says where the rest is."""
    text = brief(boards(evened, asked), "development", ["fix", "none", "ask", "other"])
    lines = text.splitlines()
    assert "| fix | 0 | 80.0 | 40.0 | 80.0 (clap) |" in lines
    assert "| none | 0, 1 | 80.0 | 100.0 | 100.0 (tempo) |" in lines
    assert "| none | 0 | 80.0 | 100.0 | 100.0 (tempo) |" in lines
    assert "| ask |  |  |  |  |" in lines and "| other |  |  |  |  |" in lines
    assert "3 attacks, 15 of 18 cells" in lines[-1]
    assert "measured yet" in brief(boards(evened, asked), "confirmation", ["fix"])
    readme = tmp_path / "README.md"
    marker = "<!-- results:begin leaderboard development fix,none,ask,other -->"
    readme.write_text(f"{marker}\n<!-- results:end -->\n")
    folder = tmp_path / "results" / "tables"
    filled = fill(readme, evened, [], [], folder, boards(evened, asked))
    assert text in filled and "(results/leaderboard.md)" in filled
    readme.write_text(marker.replace("development", "other") + "\n<!-- results:end -->\n")
    with pytest.raises(InputError, match="results:begin leaderboard"):
        fill(readme, evened, [], [], folder, boards(evened, asked))


def test_the_cells_are_those_of_the_protocol():
    cells = planned(ROOT)
    assert len({one.command for one in cells}) == len(cells) == 1224
    for dataset, half, seed in product(("SpeechCommands", "RAVDESS"), HALVES, range(3)):
        own = [c for c in cells if (c.dataset, c.half, c.seed) == (dataset, half, seed)]
        assert len(own) == 17 * len({one.attack for one in own}) == 17 * 6
    names = {one.defense for one in cells}
    assert names >= {"none", "gn_ft", "label_disagreement + gn_ft"}
    assert "tempo, one to one" in {one.attack for one in cells}
    assert not [one for one in cells if one.attack == "tempo" or "/tmp" in one.command]


def test_a_folder_without_its_records_gets_no_page(tmp_path, make_record, asked):
    (tmp_path / "results").mkdir()
    for own in (False, True):
        root = tmp_path if own else ROOT
        assert render(tmp_path / "results", root, planned=asked) == 0
        assert (tmp_path / "results" / "leaderboard.md").exists() == own
    assert render(tmp_path / "results", tmp_path, check=True, planned=asked) == 0
    (tmp_path / "results" / "leaderboard.md").write_text("other")
    assert render(tmp_path / "results", tmp_path, check=True, planned=asked) == 1
