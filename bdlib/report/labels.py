"""What a record is about, in a few words."""

from collections.abc import Callable, Sequence
from typing import Any

from bdlib.report.groups import Runs

LEVELLED = {"quantise", "median_filter", "squeeze"}  # without a rule for their strength


def attack_label(attack: dict[str, Any] | None) -> str:
    """An attack in a few words, such as ``clap, scale 0.1, 10 % of no -> on``."""
    if attack is None:
        return "none (clean data)"
    trigger = attack.get("trigger") or {}
    words = [attack_name(attack)]
    if "scale" in trigger:
        words.append(f"scale {trigger['scale']:g}")
    if trigger.get("position", "start") != "start":
        words.append(f"position {trigger['position']}")
    source, target = (_names(attack.get(key)) for key in ("source", "target"))
    if gender := (attack.get("labels") or {}).get("target_gender"):
        target += f" ({gender})"
    rate = f"{100 * attack['rate']:g} % of "
    if attack["of"] == "dataset":
        rate += "the data set, "
    return ", ".join(words) + f", {rate}{source} → {target}"


def attack_name(attack: dict[str, Any]) -> str:
    """What an attack is called: by its yaml, and by the value where an attribute is the trigger.

    Example
    -------
    >>> attack_name({"name": "emotion", "labels": {"attribute": "emotion", "value": "Sad"}})
    'emotion_sad'
    """
    labels = attack.get("labels") or {}
    if "value" not in labels:
        return attack["name"]
    return f"{labels['attribute']}_{labels['value']}".lower()


def defense_label(defense: dict[str, Any] | None) -> str:
    """A defense by name; one that used the truth is marked."""
    if defense is None:
        return "none"
    return defense["name"] + (" (oracle)" if swept(defense) else "")


def swept(defense: dict[str, Any] | None) -> bool:
    """Whether the levels of a defense were found by looking at the test set."""
    oracle = defense is not None and defense["selection"] == "oracle"
    return oracle and "oracle" not in defense["name"]


def in_readme(defense: dict[str, Any] | None) -> bool:
    """Whether a README tells of a defense: not of the many levels of some."""
    return not swept(defense) and (defense is None or defense["name"] not in LEVELLED)


def tell_apart(columns: dict[str, list[str]], groups: list[Runs]) -> None:
    """Name the yaml, the data, or the settings that differ, in rows that would read the same."""
    labels = list(zip(*columns.values(), strict=True))
    for i, group in enumerate(groups):
        twins = [g for g, label in zip(groups, labels, strict=True) if label == labels[i]]
        if len({g.record["model"]["yaml"] for g in twins}) > 1:
            columns["Model"][i] += f" ({group.record['model']['yaml']})"
        for column, settings_of in SETTINGS.items():
            own, others = settings_of(group.record), [settings_of(g.record) for g in twins]
            for key, value in own.items():
                # A record that does not tell its settings cannot be told apart by them.
                if any(key in other and other[key] != value for other in others):
                    columns[column][i] += f", {key} {value}"
        budgets = {(g.record["defense"] or {}).get("clean_budget") for g in twins}
        if len(budgets) > 1:
            columns["Defense"][i] += f", clean budget {group.record['defense']['clean_budget']}"
    labels = list(zip(*columns.values(), strict=True))
    for i, group in enumerate(groups):
        if labels.count(labels[i]) > 1:
            columns["Model"][i] += f", commit {str(group.record['commit'])[:7]}"


def named_apart(items: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Names, each with those of its settings in which others of the name differ."""
    texts = []
    for name, settings in items:
        twins = [other for known, other in items if known == name]
        differing = [k for k, v in settings.items() if any(t.get(k, v) != v for t in twins)]
        texts.append(", ".join([name, *(f"{key} {settings[key]}" for key in differing)]))
    return texts


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Innermost keys and values of nested settings."""
    found = {}
    for key, value in settings.items():
        found |= flat(value) if isinstance(value, dict) else {key: value}
    return found


def _model_settings(record: dict[str, Any]) -> dict[str, Any]:
    data = {"data": record["dataset"]["digest"][:6]}
    return flat(record["model"].get("settings") or {}) | data


def _part_settings(part: str, key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda record: flat((record[part] or {}).get(key) or {})


SETTINGS = {
    "Attack": _part_settings("attack", "trigger"),
    "Model": _model_settings,
    "Defense": _part_settings("defense", "settings"),
}


def _names(value: Any) -> str:
    if value is None:
        return "any class"
    return value if isinstance(value, str) else ", ".join(str(item) for item in value)
