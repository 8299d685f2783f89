"""Gradients of the neurons that a trigger moves over those of the neurons it leaves alone (GN-FT's observation)."""

from collections import defaultdict
from typing import Any

from bdlib.report.groups import Records, unpoisoned
from bdlib.report.labels import attack_label, trigger_label
from bdlib.report.matrix import shown, trained
from bdlib.report.table import SCALES, Grid, Table, markdown

COLUMNS = (
    "Data",
    "Net",
    "Attack",
    "Poisoned clips",
    "Clean clips",
    "Triggered clips",
    "Triggered, after a repair",
)
SETS = ("neuron_ratio_clean", "neuron_ratio_triggered")  # fmt: skip


def neurons(records: Records) -> str:
    """A table as Markdown, a row a trained classifier that was repaired.

    A quotient is the median over layers of the gradient norm of backdoored neurons over that of clean
    ones (`evaluation.neurons.contrast`); beside it in how many layers the groups are in the order
    backdoored, hybrid, clean. After a repair: least and most over the repairs of this classifier that
    changed it.

    Arguments
    ---------
    records : list of dict
        Records of schema 1.
    """
    parts: dict[tuple[Any, ...], Records] = {}
    for net, some in by_net(records).items():
        data, attack, seed = some[0]["dataset"], some[0]["attack"], some[0]["seed"]
        name = f"{data['name']} {data['variant'] or ''}".strip()
        net_name = f"{some[0]['model']['name']}, seed {seed}"
        if attack["seed"] != seed:
            net_name += f", poison seed {attack['seed']}"
        key = (
            f"{name}, {SCALES[data['scale']]}",
            net_name,
            trigger_label(attack),
            unpoisoned(some[0]),
        )
        parts[*key, attack["poisoned"], attack_label(attack), net] = some
    longer: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for key in parts:
        longer[key[2:4]].add(key[5])
    rows = []
    for key, some in sorted(parts.items()):
        name = (
            key[5] if len(longer[key[2:4]]) > 1 else key[2]
        )  # what tells attacks of a trigger apart
        rows.append((*key[:2], name, f"{key[4]:,}", *_quotients(some)))
    return markdown(Table("", "", "", "", (Grid("", COLUMNS, tuple(rows)),), ())).lstrip("# \n")


def by_net(records: Records) -> dict[str, Records]:
    """Records of repairs that tell of neurons, by the net that was repaired, as it came out of its training.

    Not of one that a filter went before: that net is another.
    """
    found: dict[str, Records] = defaultdict(list)
    for record in records:
        told = record["status"] == "ok" and all(name in record["metrics"] for name in SETS)
        if told and shown(record):
            found[trained(record)].append(record)
    return found


def _quotients(records: Records) -> tuple[str, ...]:
    """Of both sets before, and of the triggered one after a repair."""
    before = [records[0]["metrics"][name] for name in SETS]
    shown = (f"{one['value']:.1f} ({one['ordered']} of {one['layers']})" for one in before)
    changed = [
        later["value"]
        for record in records
        if (later := record["metrics"][SETS[1]]["after"])
        and record["metrics"].get("repaired", {}).get("value")
        and later["value"] != before[1]["value"]
    ]
    return (*shown, f"{min(changed):.1f} to {max(changed):.1f}" if changed else "")
