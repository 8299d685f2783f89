"""Published numbers, and which of them belongs beside a group of our own runs."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bdlib.errors import InputError
from bdlib.report.groups import Runs
from bdlib.report.labels import attack_name
from bdlib.report.table import Footnotes

METRICS = {
    "clean_accuracy": "clean",
    "triggered_accuracy": "triggered",
    "attack_success_rate": "ASR",
}


@dataclass(frozen=True)
class Published:
    """One number of a paper: a row of `results/paper/*.csv`.

    Names are those of our records: `dataset` is name and variant, `attack` a name such as `clap` or
    `emotion_sad`, `source_class` and `target_class` are class names, or the gender that a target
    was drawn from where a source names no more; `scale` is the factor on the trigger, `rate` and `value` are
    shares of one. Empty means that it does not apply (an undefended model, clean data) or, for
    `scale`, that the source does not say.
    """

    source: str
    dataset: str
    model: str
    attack: str
    scale: float | None
    rate: float | None
    of: str
    source_class: str
    target_class: str
    defense: str
    metric: str
    value: float
    note: str

    def fits(self, group: Runs) -> bool:
        """Whether data set, attack and defense of a group are those of this number.

        The sources add their triggers at the start of a clip, but for those called random.
        """
        dataset, attack = group.record["dataset"], group.record["attack"] or {}
        defense, trigger = group.record["defense"] or {}, attack.get("trigger") or {}
        position = "random" if self.attack.startswith("random_") else "start"
        return (
            self.dataset == f"{dataset['name']} {dataset['variant'] or ''}".strip()
            and self.attack == (attack_name(attack) if attack else "")
            and self.rate == attack.get("rate")
            and self.of == attack.get("of", "")
            and self.source_class == (attack.get("source") or "")
            and self.target_class
            in (attack.get("target") or "", (attack.get("labels") or {}).get("target_gender"))
            and self.defense == _defense_name(defense)
            and self.scale in (None, trigger.get("scale"))
            and trigger.get("position", position) == position
        )


def read_published(folder: str | Path) -> list[Published]:
    """Read every csv of a folder of published numbers; a missing folder holds none.

    Raises
    ------
    InputError
        If a file lacks a column or a row has a number that is none, or not within [0, 1].
    """
    columns = [field.name for field in fields(Published)]
    numbers = []
    for path in sorted(Path(folder).glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != columns:
                raise InputError(f"{path}: the columns must be {','.join(columns)}")
            for number, row in enumerate(reader, start=2):
                try:
                    numbers.append(_parse(row))
                except (TypeError, ValueError) as error:
                    raise InputError(f"{path}, row {number}: {error}; correct the row") from error
    return numbers


def beside(group: Runs, published: list[Published], footnotes: Footnotes) -> str:
    """The published numbers of the same experiment, in words.

    Returns
    -------
    str
        Such as ``triggered 86.9, ASR 99.8 [1]; ...`` when the marks of `footnotes` are settled; empty where nothing fits.
    """
    chosen = _same_experiment(group, published)
    by_text: dict[str, list[str]] = {}
    for where in dict.fromkeys((number.source, number.note) for number in chosen):
        numbers = {n.metric: n for n in chosen if (n.source, n.note) == where}
        parts = [f"{METRICS[m]} {100 * numbers[m].value:.1f}" for m in METRICS if m in numbers]
        by_text.setdefault(", ".join(parts), []).append(": ".join(filter(None, where)))
    other = {number.model for number in chosen} - {group.record["model"]["name"]}
    suffix = f" ({', '.join(other)})" if other else ""
    return "; ".join(
        f"{text}{suffix} {''.join(map(footnotes.mark, notes))}" for text, notes in by_text.items()
    )


def standing(group: Runs, published: list[Published], metric: str, footnotes: Footnotes) -> str:
    """One published metric of the same experiment in percent, such as ``99.8 [1][2]; 100.0 [3]``.

    The model stands in the note where it is another than ours.
    """
    model = group.record["model"]["name"]
    by_value: dict[str, list[str]] = {}
    for number in _same_experiment(group, published):
        if number.metric == metric:
            own = number.model in (model, model.removesuffix("_small"))
            where = number.source + ("" if own else f", {number.model}")
            note = ": ".join(filter(None, (where, number.note)))
            by_value.setdefault(f"{100 * number.value:.1f}", []).append(note)
    return "; ".join(
        f"{value} {''.join(map(footnotes.mark, notes))}" for value, notes in by_value.items()
    )


def _same_experiment(group: Runs, published: list[Published]) -> list[Published]:
    """The numbers of a group's model, or of the large net whose ``_small`` stand-in was run, or, if
    all that fit are of one other model, those."""
    fitting = [number for number in published if number.metric in METRICS and number.fits(group)]
    model = group.record["model"]["name"]
    for names in ({model}, {model.removesuffix("_small")}, {n.model for n in fitting}):
        if chosen := [number for number in fitting if number.model in names]:
            break
    return chosen if len({number.model for number in chosen}) == 1 else []


def _defense_name(defense: dict[str, Any]) -> str:
    """A defense as the published rows name it; noise is told apart from noise and a step."""
    step = (defense.get("settings") or {}).get("step_size")
    return defense.get("name", "") + ("_step" if step else "")


def _parse(row: dict[str, str]) -> Published:
    numbers = {key: float(row[key]) if row[key] else None for key in ("scale", "rate", "value")}
    for key in ("rate", "value"):
        if numbers[key] is not None and not 0 <= numbers[key] <= 1:
            raise ValueError(f"{key} {numbers[key]} is not between 0 and 1")
    if numbers["value"] is None:
        raise ValueError("value is empty")
    return Published(**(row | numbers))
