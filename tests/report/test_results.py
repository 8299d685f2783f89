"""Tables say what was measured, on how much data, and beside which published number."""

import io

from rich.console import Console

from bdlib.attacks.phase import PhaseInjection
from bdlib.report.labels import defense_label
from bdlib.report.published import Published
from bdlib.report.results import brief, build
from bdlib.report.table import PUBLISHED, markdown
from bdlib.report.terminal import terminal

FILTER = {"name": "random_filter", "stage": "filter", "clean_budget": 0, "selection": "fixed"}
ORACLE = {"name": "perfect_filter", "stage": "filter", "clean_budget": 0, "selection": "oracle"}
PAPER = Published(
    "Doe 2023, Table 1", "SpeechCommands 12", "resnet50", "clap", 0.1, 0.1, "source",
    "_unknown_", "left", "", "attack_success_rate", 0.998, "3 runs",
)  # fmt: skip


def cells(table, column):
    """Of a column in all grids that have it."""
    return [
        row[grid.columns.index(column)]
        for grid in table.grids
        for row in grid.rows
        if column in grid.columns
    ]


def rate(count, total):
    return {"value": count / total, "count": count, "total": total}


def test_one_table_for_each_data_set_and_scale(make_record):
    records = [
        make_record(),
        make_record({"dataset.scale": "mini"}),
        make_record({"dataset.variant": "35", "dataset.scale": "full"}),
    ]
    titles = [table.title for table in build(records, [])]
    assert titles == [
        "SpeechCommands 12, measured on a mini corpus (synthesised speech that stands in for a "
        "download): 4,700 training clips",
        "SpeechCommands 12, measured on a subset: 4,700 training clips",
        "SpeechCommands 35, measured on the full data set: 4,700 training clips",
    ]


def test_numbers_intervals_and_counts(make_record):
    records = [
        make_record({"seed": 0, "metrics.clean_accuracy": rate(90, 100)}),
        make_record({"seed": 1, "metrics.clean_accuracy": rate(94, 100), "attack.poisoned": 262}),
        make_record({"defense": FILTER, "metrics.filter_tpr": rate(30, 100)}),
    ]
    (table,) = build(records, [])
    assert cells(table, "Clean accuracy [%]") == ["92.0 (90.0, 94.0)", "90.0 [87.7, 91.9]"]
    assert cells(table, "Filter TPR [%]") == ["", "30.0 [21.9, 39.6]"]
    assert cells(table, "Seeds") == ["2", "1"]
    assert cells(table, "Poisoned clips") == ["260–262", "260"]
    (grid,) = table.grids
    assert grid.title == "clap, scale 0.1, 10 % of _unknown_ → left"
    assert cells(table, "Defense") == ["none", "random_filter"]
    assert len(table.notes) == 2
    assert not {"Filter FPR [%]", PUBLISHED}.intersection(grid.columns)
    assert [len(group.runs) for group in grid.groups] == [2, 1]


def test_clean_runs_have_no_columns_of_attacks(make_record):
    record = make_record({"attack": None, "metrics": {"clean_accuracy": {"value": 0.9}}})
    (table,) = build([record], [])
    (grid,) = table.grids
    assert grid.title == "No attack (clean data)"
    assert grid.columns == ("Model", "Defense", "Clean accuracy [%]", "Seeds", "Training clips")
    assert grid.rows == (("resnet50", "none", "90.0", "1", "4,700"),)


def test_a_published_number_stands_beside_ours_with_its_source(make_record):
    records = [make_record(), make_record({"attack.rate": 0.2})]
    (table,) = build(records, [PAPER])
    assert cells(table, PUBLISHED) == ["ASR 99.8 [1]"]
    assert [PUBLISHED in grid.columns for grid in table.grids] == [True, False]
    assert table.notes[-1] == "[1] Doe 2023, Table 1: 3 runs."
    assert "full data" in PUBLISHED


def test_what_used_the_truth_is_marked():
    assert defense_label(ORACLE) == "perfect_filter (oracle)"
    assert defense_label(ORACLE | {"name": "oracle_filter"}) == "oracle_filter"
    assert defense_label(FILTER) == "random_filter"


def test_what_would_read_the_same_is_told_apart_in_words(make_record):
    small = {"model.yaml": "hparams/small.yaml"}
    records = [
        make_record(),
        make_record({"attack.trigger.sound": {"file": "horn"}}),
        make_record(small),
        make_record({"dataset.digest": "d1", "dataset.counts.train": 300}),
        make_record({"dataset.digest": "d2"}),
    ]
    (table,) = build(records, [])
    clap = "clap, scale 0.1, 10 % of _unknown_ → left"
    assert sorted(grid.title for grid in table.grids) == [
        f"{clap}; 300 training clips",
        f"{clap}; 4,700 training clips",
        f"{clap}; 4,700 training clips, draw 2",
        "clap, scale 0.1, file horn, 10 % of _unknown_ → left; 4,700 training clips",
    ]
    assert "d1" not in markdown(table)
    assert "resnet50 (hparams/small.yaml)" in cells(table, "Model")


def test_who_is_asked_is_told_of_attributes(make_record):
    labels = {"attribute": "emotion", "value": "sad", "target_gender": "male"}
    known = {"attack.name": "emotion", "attack.labels": labels, "attack.trigger": {}}
    records = [
        make_record(known),
        make_record(known | {"attack.labels": {**labels, "unheard": True}}),
    ]
    (table,) = build(records, [])
    title = "emotion_sad, 10 % of _unknown_ → left (male)"
    assert {grid.title for grid in table.grids} == {title, f"{title}, all clips not trained on"}


def test_settings_that_differ_are_named_and_many_of_them_in_a_note(make_record):
    few = FILTER | {"settings": {"mels": 3, "video": False}}
    many = FILTER | {"settings": {"mels": 4, "video": True, "hop": 2, "window": 4}}
    other = FILTER | {"settings": {"mels": 5, "video": True, "hop": 8, "window": 9}}
    (table,) = build([make_record({"defense": defense}) for defense in (few, many, other)], [])
    assert cells(table, "Defense") == [
        "random_filter [1]",
        "random_filter [2]",
        "random_filter, mels 3, no video",
    ]
    assert table.notes[-2] == "[1] random_filter with mels 4, video, hop 2, window 4."


def test_runs_that_nothing_but_the_code_tells_apart_get_a_note(make_record):
    told = {"model.settings": {"epochs": 3}, "commit": "89abcdef0"}
    (table,) = build([make_record(), make_record(told)], [])
    assert cells(table, "Model") == ["resnet50 [1]", "resnet50 [2]"]
    assert "[1] Measured at commit 0123abc, before records told their settings." in table.notes
    assert "[2] Measured at commit 89abcde." in table.notes


TRAINING = {"name": "mvj", "stage": "training", "clean_budget": 0, "selection": "fixed"}


def test_in_brief_there_are_five_columns_and_no_interval(make_record):
    records = [make_record(), make_record({"seed": 1}), make_record({"defense": FILTER}),
               make_record({"model.name": "mvj_small", "defense": TRAINING}),
               make_record({"status": "failed", "seed": 8, "command": "x"})]  # fmt: skip
    (table,) = brief(records, [PAPER])
    (grid,) = table.grids
    assert grid.columns == (
        "Model + defense", "Clean accuracy [%]", "ASR [%]", "Seeds", "Published ASR [%]"
    )  # fmt: skip
    assert grid.rows == (
        ("mvj_small", "90.0", "95.0", "1", ""),
        ("resnet50", "90.0", "95.0", "2", "99.8 [1]"),
        ("resnet50 + random_filter", "90.0", "95.0", "1", ""),
    )
    assert table.notes == ("Failed runs that are left out: 1.", "[1] Doe 2023, Table 1: 3 runs.")


def test_in_brief_a_guard_is_what_it_lets_through(make_record):
    told = {"clean_accuracy": rate(9, 10), "attack_success_rate": rate(10, 10)}
    told |= {"passed_clean_accuracy": rate(8, 10), "passed_attack_success_rate": rate(2, 10)}
    guard = {"name": "strip_vita", "stage": "inference", "clean_budget": 0, "selection": "fixed"}
    (table,) = brief([make_record({"defense": guard, "metrics": told})], [])
    assert cells(table, "Clean accuracy [%]") == ["80.0"] and cells(table, "ASR [%]") == ["20.0"]


def test_small_attacks_of_one_policy_share_a_grid_when_gathered(make_record):
    records = [
        make_record(),
        make_record({"attack.name": "whistle"}),
        make_record({"attack.name": "whistle", "attack.target": "on"}),
        make_record({"attack": None, "metrics": {"clean_accuracy": {"value": 0.8}}}),
    ]
    (table,) = brief(records, [], gather=True)
    assert [grid.title for grid in table.grids] == [
        "No attack (clean data)",
        "10 % of _unknown_ → left",
        "whistle, scale 0.1, 10 % of _unknown_ → on",
    ]
    assert [row[0] for row in table.grids[1].rows] == [
        "clap, scale 0.1: resnet50",
        "whistle, scale 0.1: resnet50",
    ]
    assert len(brief(records, [])[0].grids) == 4


def test_failed_runs_are_listed_apart_and_not_averaged(make_record):
    changes = {"status": "failed", "metrics": {}, "error": "loss is NaN", "seed": 7}
    failed = make_record({**changes, "command": "python train.py x.yaml --seed=7"})
    (table,) = build([make_record(), failed], [])
    (repeated,) = build([failed, make_record({"command": failed["command"]})], [])
    assert not repeated.failed
    assert cells(table, "Seeds") == ["1"]
    (text,) = table.failed
    assert "train.py x.yaml --seed=7" in text
    assert "loss is NaN" in text
    assert "Failed runs:" in markdown(table)
    (alone,) = build([failed], [])
    assert alone.grids == ()
    assert "--seed=7" in markdown(alone)


def test_markdown_escapes_and_keeps_its_columns(make_record):
    record = make_record({"attack.name": "a|b <i>*x*</i>", "attack.trigger": None})
    text = markdown(build([record], [])[0])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 3
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert r"#### a\|b \<i\>\*x\*\</i\>, 10 % of \_unknown\_ → left" in text
    assert lines[1].count("---:") == 5


def test_the_terminal_writes_out_what_would_control_it(make_record):
    record = make_record({"metrics": {"clean_accuracy": rate(95, 100)}})
    record["attack"]["target"] = "\x1b[2J"
    console = Console(width=80, file=io.StringIO())
    (table,) = build([record], [])
    console.print(terminal(table))
    assert "\x1b" not in console.file.getvalue() and r"\x1b[2J" in console.file.getvalue()


def test_the_terminal_shows_the_numbers_within_80_columns(make_record):
    metrics = {
        name: rate(95, 100)
        for name in ("clean_accuracy", "triggered_accuracy", "attack_success_rate", "filter_tpr",
                     "filter_fpr")
    }  # fmt: skip
    records = [
        make_record({"seed": s, "defense": d, "metrics": metrics})
        for s in (0, 1)
        for d in (None, FILTER, ORACLE)
    ]
    console = Console(width=80, file=io.StringIO())
    (table,) = build(records, [PAPER])
    console.print(terminal(table))
    text = console.file.getvalue()
    assert "…" not in text
    for word in (
        "random_filter",
        "perfect_filter",
        "(oracle)",
        "95.0 ",
        "triggered %",
        "subset",
    ):
        assert word in text


def test_sounds_that_stand_in_for_armorys_files_are_called_so(make_record):
    """Not where the files themselves were played, which attacks are called by."""

    def insert(sound):
        return {"type": "bdlib.attacks.insert.Insert", "sound": sound, "scale": 0.1}

    clap = {"type": "bdlib.attacks.sounds.Clap"}
    trimmed = {"type": "bdlib.attacks.sounds.Trim", "sound": clap, "seconds": 0.2}
    file = {"type": "bdlib.attacks.sounds.AudioFile", "path": "clapping.wav", "digest": "d"}
    other = {**file, "path": "whistle.wav", "digest": "e"}
    played = [
        make_record({"attack.trigger": insert(s), "attack.name": "audio_file"})
        for s in (file, other)
    ]
    for tables in (build, brief):
        (table,) = tables(played, [])
        assert not any("imitation" in note for note in table.notes)
        titles = " ".join(grid.title for grid in table.grids)
        assert "audio_file clapping.wav, scale 0.1" in titles and "whistle.wav" in titles
        (table,) = tables([*played, make_record({"attack.trigger": insert(trimmed)})], [])
        assert "The clap is an imitation of Armory's file" in table.notes[-1]


def test_phase_is_called_a_trigger_of_this_project(make_record):
    """Wherever it is shown, and nowhere else."""
    phase = {"attack.trigger": PhaseInjection().to_dict(), "attack.name": "phase"}
    for changes, shown in ((phase, 1), ({}, 0)):
        (table,) = build([make_record(changes)], [])
        assert sum("phase is a simplified trigger" in note for note in table.notes) == shown
