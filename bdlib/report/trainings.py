"""Attacks x trainings: what each way to train makes of every attack, beside the rate without a trigger."""

from collections import defaultdict
from collections.abc import Callable

from bdlib.report.groups import Records, Runs, estimate, group_records, unpoisoned
from bdlib.report.labels import policy_label, trigger_label
from bdlib.report.table import SCALES, Grid, Table

NOTE = (
    "Means over {} seeds of poison and training; in parentheses the rate without a trigger, which is "
    "the floor. Intervals: in the table of all runs, where a later run of the same settings, of another "
    "experiment, takes the place of a seed."
)
ALONE = "Nets trained without poison: seeds of training, {}."
TWINS = "Rate on triggered clips of nets trained without poison [%]"
LEAST = 3  # models and attacks that make a table


def build(records: Records) -> list[Table]:
    """A table for each experiment in which defenses by training meet others on several attacks.

    Arguments
    ---------
    records : list of dict
        Records of schema 1, in the order of their files.
    """
    parts: dict[tuple[str, str, str, str], Records] = defaultdict(list)
    for record in records:
        dataset, stage = record["dataset"], (record["defense"] or {}).get("stage")
        if record["status"] == "ok" and record["experiment"] and stage in (None, "training"):
            key = (dataset["name"], dataset["variant"] or "", dataset["scale"])
            parts[*key, record["experiment"]].append(record)
    tables = [_table(*key, group_records(some)) for key, some in sorted(parts.items())]
    return [table for table in tables if table]


def _table(
    name: str, variant: str, scale: str, experiment: str, groups: list[Runs]
) -> Table | None:
    twins = [group for group in groups if unpoisoned(group.record)]
    groups = [group for group in groups if not unpoisoned(group.record)]
    attacked = [group for group in groups if group.record["attack"]]
    trained = any(group.record["defense"] for group in attacked)
    measured = all("no_trigger_rate" in run["metrics"] for g in attacked for run in g.runs)
    models = list(dict.fromkeys(group.record["model"]["name"] for group in groups))
    attacks = list(dict.fromkeys(map(_attack, attacked)))
    if not trained or not measured or min(len(models), len(attacks)) < LEAST:
        return None
    policies = dict.fromkeys(policy_label(group.record["attack"]) for group in attacked)
    grids = (
        _grid("Attack success rate [%]", attacks, models, attacked, _success),
        _grid("Clean accuracy [%]", ["no attack", *attacks], models, groups, _accuracy),
    )
    if twins:
        heard = [attack for attack in attacks if attack in map(_attack, twins)]
        grids += (_grid(TWINS, heard, models, twins, _success),)
    title = f"Trainings compared, {experiment}: {name} {variant}, {SCALES[scale]}"
    seeds = sorted({len(group.runs) for group in groups})
    note = NOTE.format(" to ".join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1]))))
    notes = (*(f"Poison: {policy}." for policy in policies), note)
    if twins:
        counts = sorted({len(group.runs) for group in twins})
        notes += (ALONE.format(" to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))),)
    return Table(name, variant, scale, title, grids, notes)


def _attack(group: Runs) -> str:
    attack = group.record["attack"]
    return trigger_label(attack) if attack else "no attack"


def _grid(
    title: str,
    attacks: list[str],
    models: list[str],
    groups: list[Runs],
    cell: Callable[[Runs], str],
) -> Grid:
    """A row an attack, a column a model, in the order of the records."""
    cells = {(_attack(group), group.record["model"]["name"]): cell(group) for group in groups}
    rows = tuple((attack, *(cells.get((attack, m), "") for m in models)) for attack in attacks)
    return Grid(title, ("Attack", *models), rows)


def _success(group: Runs) -> str:
    rates = (estimate(group, name) for name in ("attack_success_rate", "no_trigger_rate"))
    success, floor = (100 * rate.mean for rate in rates)
    return f"{success:.1f} ({floor:.1f})"


def _accuracy(group: Runs) -> str:
    return f"{100 * estimate(group, 'clean_accuracy').mean:.1f}"
