"""What each training makes of every attack, with the floor beside it."""

import itertools

from bdlib.report import trainings

MVD = {"name": "mvd", "stage": "training", "clean_budget": 0, "selection": "fixed"}


def rate(value):
    return {"value": value, "count": round(1000 * value), "total": 1000}


def records(
    make_record, models=("base", "views", "mvd"), attacks=("clap", "whistle", "horn"), floor=True
):
    """Two seeds of each: the second has 10 points more success and 2 more without a trigger."""
    made = []
    for model, attack, seed in itertools.product(models, (None, *attacks), (0, 1)):
        changes = {
            "id": f"{model}{attack}{seed}",
            "seed": seed,
            "experiment": "e",
            "model.name": model,
            "defense": MVD if model == "mvd" else None,
            "metrics.clean_accuracy": rate(0.8 if attack else 0.9),
        }
        if attack is None:
            changes["attack"] = None
        else:
            changes["attack.name"] = attack
            success = 0.5 + 0.1 * seed + 0.2 * (model == "mvd")
            changes["metrics.attack_success_rate"] = rate(success)
            if floor:
                changes["metrics.no_trigger_rate"] = rate(0.01 + 0.02 * seed)
        made.append(make_record(changes))
    return made


def test_a_row_an_attack_a_column_a_training(make_record):
    (table,) = trainings.build(records(make_record))
    success, accuracy = table.grids
    assert success.columns == ("Attack", "base", "mvd", "views")
    assert len(success.rows) == 3 and success.rows[0][1:] == (
        "55.0 (2.0)",
        "75.0 (2.0)",
        "55.0 (2.0)",
    )
    assert len(accuracy.rows) == 4 and accuracy.rows[0] == ("no attack", *["90.0"] * 3)
    assert accuracy.rows[1][1:] == ("80.0",) * 3
    assert table.notes[-1].startswith("Means over 2 seeds")


def test_twins_that_were_never_poisoned_have_a_grid_of_their_own(make_record):
    made = records(make_record)
    twins = [
        record | {"id": f"twin{record['id']}", "attack": record["attack"] | {"rate": 0.0}}
        for record in made
        if record["attack"]
        and record["attack"]["name"] != "horn"
        and record["model"]["name"] != "views"
    ]
    for twin in twins:
        twin["metrics"] = twin["metrics"] | {"attack_success_rate": rate(0.04)}
    (table,) = trainings.build(made + twins)
    (before,) = trainings.build(made)
    assert table.grids[:2] == before.grids and len(before.grids) == 2
    assert table.grids[2].rows == tuple(
        (name, "4.0 (2.0)", "4.0 (2.0)", "")
        for name, *_ in before.grids[0].rows
        if not name.startswith("horn")
    )
    assert table.notes[-2:] == (
        *before.notes[-1:],
        "Nets trained without poison: seeds of training, 2.",
    )


def test_no_table_without_a_floor_a_defense_or_something_to_compare(make_record):
    assert not trainings.build(records(make_record, floor=False))
    assert not trainings.build(records(make_record, models=("base", "views", "other")))
    assert not trainings.build(records(make_record, models=("base", "mvd")))
    assert not trainings.build(records(make_record, attacks=("clap", "whistle")))
