"""What a record is about, in a few words that a person can read."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bdlib.report.groups import Runs
from bdlib.report.table import Footnotes

# Without a rule for their strength.
LEVELLED = {
    *("quantise", "median_filter", "squeeze", "resample", "low_pass", "mp3", "opus", "vorbis"),
    *("spectral_gate", "vad_trim", "time_shift"),
}
IMITATIONS = {"Clap": "clap", "Whistle": "whistle", "CarHorn": "horn", "DogClicker": "clicker"}
OURS = (
    "The attack phase is a simplified trigger of this project: of the paper that it is named after, "
    "only the title is public."
)
FEW = 3  # settings that fit into a cell; more stand in a note


def attack_label(attack: dict[str, Any] | None) -> str:
    """An attack in a few words, such as ``clap, scale 0.1, 10 % of no → on``."""
    if attack is None:
        return "no attack (clean data)"
    return f"{trigger_label(attack)}, {policy_label(attack)}"


def trigger_label(attack: dict[str, Any]) -> str:
    """What triggers an attack, such as ``clap, scale 0.1`` or ``audio_file clapping.wav, scale 0.1``."""
    trigger = attack.get("trigger") or {}
    words = [attack_name(attack)]
    if file := (trigger.get("sound") or {}).get("path"):
        words[0] += f" {file}"
    if "scale" in trigger:
        words.append(f"scale {trigger['scale']:g}")
    if trigger.get("position", "start") != "start":
        words.append(f"position {trigger['position']}")
    return ", ".join(words)


def imitations(attacks: Iterable[dict[str, Any] | None]) -> tuple[str, ...]:
    """The notes of tables with attacks that only stand in for others, or nothing.

    Sounds stand in for Armory's files, and `phase` for what its paper does.
    """
    triggers = [str((attack or {}).get("trigger")) for attack in attacks]
    played = [
        sound
        for kind, sound in IMITATIONS.items()
        if any(f"'bdlib.attacks.sounds.{kind}'" in trigger for trigger in triggers)
    ]
    phase = any("'bdlib.attacks.phase.PhaseInjection'" in trigger for trigger in triggers)
    ours = (OURS,) if phase else ()
    if not played:
        return ours
    *first, last = played
    names = " and ".join(filter(None, (", ".join(first), last)))
    are, files = ("are imitations", "files") if first else ("is an imitation", "file")
    return (
        f"The {names} {are} of Armory's {files} in duration, envelope, spectrum and level; the attack "
        f"audio_file plays the {files}.",
        *ours,
    )


def policy_label(attack: dict[str, Any]) -> str:
    """How much of which class an attack turns into which, such as ``10 % of no → on``."""
    source, target = (_names(attack.get(key)) for key in ("source", "target"))
    labels = attack.get("labels") or {}
    if gender := labels.get("target_gender"):
        target += f" ({gender})"
    if labels.get("unheard"):
        target += ", all clips not trained on"
    rate = f"{100 * attack['rate']:g} % of "
    if attack["of"] == "dataset":
        rate += "the data set, "
    return f"{rate}{source} → {target}"


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


def attack_titles(
    attacks: Sequence[dict[str, Any] | None],
    label: Callable[[dict[str, Any] | None], str] = attack_label,
) -> list[str]:
    """Headings of different attacks, no two alike: with the settings in which they differ."""
    settings = [_attack_settings(attack or {}) for attack in attacks]
    titles = named_apart(list(zip(map(label, attacks), settings, strict=True)))
    for title in {title for title in titles if titles.count(title) > 1}:
        twins = [place for place, other in enumerate(titles) if other == title]
        # Settings that one tells and the other does not.
        shared = set.intersection(*({*settings[place]} for place in twins))
        for number, place in enumerate(twins, start=1):
            own = {key: value for key, value in settings[place].items() if key not in shared}
            titles[place] = with_settings(title, own)
            if titles[place] in titles[:place]:
                titles[place] += f", another ({number})"
    return titles


def row_labels(groups: Sequence[Runs], footnotes: Footnotes) -> list[tuple[str, str]]:
    """Model and defense of groups that share attack and data, no two rows alike.

    The yaml and the settings that differ tell apart what bears the same names; what still reads the
    same gets a note with the commit.
    """
    names = [(g.record["model"]["name"], defense_label(g.record["defense"])) for g in groups]
    labels = []
    for group, name in zip(groups, names, strict=True):
        twins = [g.record for g, other in zip(groups, names, strict=True) if other == name]
        model, defense = name
        if len({twin["model"]["yaml"] for twin in twins}) > 1:
            model += f" ({group.record['model']['yaml']})"
        own, others = _settings(group.record, "model"), [_settings(t, "model") for t in twins]
        model = with_settings(model, differing(own, others), footnotes)
        own, others = _settings(group.record, "defense"), [_settings(t, "defense") for t in twins]
        budgets = [(twin["defense"] or {}).get("clean_budget") for twin in twins]
        if len(set(budgets)) > 1:
            own["clean budget"] = group.record["defense"]["clean_budget"]
            others = [{**o, "clean budget": b} for o, b in zip(others, budgets, strict=True)]
        labels.append((model, with_settings(defense, differing(own, others), footnotes)))
    return [_numbered(label, labels.count(label), group.record, footnotes)
            for label, group in zip(labels, groups, strict=True)]  # fmt: skip


def system_label(model: str, defense: str, stage: str | None) -> str:
    """Model and defense in one; a training that is a defense is named by its model alone."""
    words = set(defense.split("_"))
    if stage is None or (stage == "training" and words <= set(model.split("_"))):
        return model
    return f"{model} + {defense}"


def data_labels(datasets: Sequence[dict[str, Any]]) -> dict[str, str]:
    """States of one data set told apart in words, by digest; one state needs none.

    They are told by their training clips; of equally many, the second is called another draw.
    """
    counts = {dataset["digest"]: dataset["counts"].get("train", 0) for dataset in datasets}
    if len(counts) < 2:
        return dict.fromkeys(counts, "")
    labels: dict[str, str] = {}
    for digest, count in counts.items():
        draw = sum(counts[known] == count for known in labels) + 1
        labels[digest] = f"{count:,} training clips" + (f", draw {draw}" if draw > 1 else "")
    return labels


def named_apart(items: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Names, each with those of its settings in which others of the name differ."""
    texts = []
    for name, settings in items:
        twins = [other for known, other in items if known == name]
        texts.append(with_settings(name, differing(settings, twins)))
    return texts


def differing(settings: dict[str, Any], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The settings that another one has otherwise; what another does not tell is no difference."""
    return {k: v for k, v in settings.items() if any(other.get(k, v) != v for other in others)}


def with_settings(name: str, settings: dict[str, Any], footnotes: Footnotes | None = None) -> str:
    """A name with settings in words; of more than `FEW`, they stand in a note if there are notes."""
    words = [
        (key if value else f"no {key}") if isinstance(value, bool) else f"{key} {value}"
        for key, value in settings.items()
    ]
    if footnotes and len(words) > FEW:
        return f"{name} {footnotes.mark(f'{name} with ' + ', '.join(words))}"
    return ", ".join([name, *words])


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Innermost keys and values of nested settings."""
    innermost = {}
    for key, value in settings.items():
        innermost |= flat(value) if isinstance(value, dict) else {key: value}
    return innermost


def _attack_settings(attack: dict[str, Any]) -> dict[str, Any]:
    policy = (attack.get("labels") or {}).get("type", "").rpartition(".")[2]
    return flat(attack.get("trigger") or {}) | ({"labels": policy} if policy else {})


def _settings(record: dict[str, Any], part: str) -> dict[str, Any]:
    """Of a defense behind another one, those of the other as well."""
    told = record[part] or {}
    first = told.get("after") or {}
    others = {f"{first['name']} {key}": v for key, v in flat(first.get("settings") or {}).items()}
    return flat(told.get("settings") or {}) | others


def _numbered(
    label: tuple[str, str], alike: int, record: dict[str, Any], footnotes: Footnotes
) -> tuple[str, str]:
    """A label that others bear as well gets a note."""
    if alike == 1:
        return label
    model, defense = label
    untold = "" if record["model"].get("settings") else ", before records told their settings"
    commit = str(record["commit"])[:7]
    return f"{model} {footnotes.mark(f'Measured at commit {commit}{untold}')}", defense


def _names(value: Any) -> str:
    if value is None:
        return "any class"
    return value if isinstance(value, str) else ", ".join(str(item) for item in value)
