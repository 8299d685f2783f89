"""Records that one figure shows, a panel each: defenses of one net under one attack."""

from bdlib.report.groups import Records
from bdlib.report.labels import attack_label, flat, named_apart
from bdlib.report.stems import filter_key


def panels(records: Records) -> list[dict[str, dict]]:
    """The records of each net and attack by the name of their defense; of several seeds the lowest.

    Arguments
    ---------
    records : list of dict
        Records of schema 1, each with an attack and a defense.
    """
    attacks: dict[str, Records] = {}
    for record in records:
        attacks.setdefault(filter_key(record), []).append(record)
    found = []
    for some in attacks.values():
        lowest = min(record["seed"] for record in some)
        shown = [record for record in some if record["seed"] == lowest]
        settings = [(r["defense"]["name"], flat(r["defense"].get("settings") or {})) for r in shown]
        found.append(dict(zip(named_apart(settings), shown, strict=True)))
    return found


def heading(record: dict) -> str:
    """Of a figure: data, net and attack."""
    data, attack, model = (record[key] for key in ("dataset", "attack", "model"))
    name = " ".join([data["name"], data["variant"] or "all", data["scale"]])
    return f"{name}, {model['name']}: {attack_label(attack)}"
