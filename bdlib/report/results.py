"""Tables of what was measured: a heading an attack, a row a model and a defense."""

import json
from dataclasses import dataclass
from typing import Any

from bdlib.report.groups import (
    Records,
    Runs,
    above_floor,
    clean_twins,
    estimate,
    group_records,
    let_through,
)
from bdlib.report.labels import (
    attack_label,
    attack_titles,
    data_labels,
    imitations,
    policy_label,
    row_labels,
    system_label,
    trigger_label,
)
from bdlib.report.published import Published, beside, standing
from bdlib.report.table import (
    FIRST,
    INTERVALS,
    PUBLISHED,
    SCALES,
    Footnotes,
    Grid,
    Table,
    percent,
    without_empty_columns,
)

RATES = {
    "Clean accuracy [%]": "clean_accuracy",
    "Accuracy, triggered set [%]": "triggered_accuracy",
    "ASR [%]": "attack_success_rate",
    "No trigger [%]": "no_trigger_rate",
    "Filter TPR [%]": "filter_tpr",
    "Filter FPR [%]": "filter_fpr",
    "Clean rejected (FRR) [%]": "false_rejection_rate",
    "Triggered accepted (FAR) [%]": "false_acceptance_rate",
    "ASR, rejected clips stopped [%]": "passed_attack_success_rate",
}
ABOVE = "ASR above floor [points]"
TWIN = "Clean accuracy, trained on clean data [%]"
GATHERED = 2  # rows up to which attacks of one policy share a grid


@dataclass(frozen=True)
class Section:
    """The runs of one attack on one state of the data. `policy` and `data` may be empty.

    `twins` are the same models trained on the same data without the attack, where there are any.
    """

    trigger: str
    policy: str
    data: str
    groups: tuple[Runs, ...]
    twins: tuple[Runs | None, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return "; ".join(
            filter(None, (", ".join(filter(None, (self.trigger, self.policy))), self.data))
        )


def corpora(records: Records) -> dict[tuple[str, str, str], list[Runs]]:
    """Groups of runs by name, variant and scale of the data set, in a fixed order."""
    by_corpus: dict[tuple[str, str, str], list[Runs]] = {}
    for group in group_records(records):
        dataset = group.record["dataset"]
        key = (dataset["name"], dataset["variant"] or "", dataset["scale"])
        by_corpus.setdefault(key, []).append(group)
    return by_corpus


def sections(groups: list[Runs]) -> list[Section]:
    """Measured groups by attack, and of an attack by the state of the data."""
    measured = [group for group in groups if group.runs]
    states = data_labels([group.record["dataset"] for group in measured])
    by_attack: dict[str, dict[str, list[tuple[Runs, Runs | None]]]] = {}
    for pair in zip(measured, clean_twins(measured), strict=True):
        record = pair[0].record
        own = by_attack.setdefault(_identity(record["attack"]), {})
        own.setdefault(states[record["dataset"]["digest"]], []).append(pair)
    attacks = [next(iter(own.values()))[0][0].record["attack"] for own in by_attack.values()]
    titles = attack_titles(attacks)
    parts = []
    for attack, title, own in zip(attacks, titles, by_attack.values(), strict=True):
        trigger, policy = attack_label(None).capitalize(), ""
        if attack is not None:
            trigger = trigger_label(attack) + title.removeprefix(attack_label(attack))
            policy = policy_label(attack)
        for data, pairs in own.items():
            some, twins = zip(*pairs, strict=True)
            parts.append(Section(trigger, policy, data, some, twins))
    return parts


def build(records: Records, published: list[Published]) -> list[Table]:
    """All that was measured: a table for each data set, variant and scale, in a fixed order.

    Values are means over seeds in percent, with intervals. Columns that would be empty are left out.

    Arguments
    ---------
    records : list of dict
        Records of schema 1, in the order of their files.
    published : list of Published
        Numbers to show beside ours.
    """
    tables = []
    for corpus, groups in corpora(records).items():
        footnotes = Footnotes()
        grids = [full_grid(section, published, footnotes) for section in sections(groups)]
        over = [
            INTERVALS[estimated.over]
            for group in groups
            for metric in RATES.values()
            if (estimated := estimate(group, metric)) and estimated.over
        ]
        settled, notes = footnotes.settle(grids)
        notes = (*dict.fromkeys(over), *_imitated(groups), *notes)
        failed = tuple(_failure(run) for group in groups for run in group.failed)
        tables.append(Table(*corpus, corpus_title(corpus, groups), settled, notes, failed))
    return tables


def brief(records: Records, published: list[Published], gather: bool = False) -> list[Table]:
    """What a reader wants first, in six narrow columns, by data set, variant and scale.

    Values are means over seeds in percent (clean accuracy and ASR of a guard are of what it lets
    through); the published ones are the attack success rates, without
    an attack the clean accuracies.

    Arguments
    ---------
    records, published
        As in `build`.
    gather : bool
        Whether attacks of few rows that share all but the trigger share a grid.
    """
    tables = []
    for corpus, groups in corpora(records).items():
        footnotes = Footnotes()
        parts = _gathered(sections(groups)) if gather else [[s] for s in sections(groups)]
        grids = [brief_grid(part, published, footnotes) for part in parts]
        count = sum(len(group.failed) for group in groups)
        failed = (f"Failed runs that are left out: {count}.",) * bool(count)
        settled, notes = footnotes.settle(grids)
        tables.append(
            Table(
                *corpus,
                corpus_title(corpus, groups),
                settled,
                (*failed, *_imitated(groups), *notes),
            )
        )
    return tables


def corpus_title(corpus: tuple[str, str, str], groups: list[Runs]) -> str:
    """A heading: name, variant, scale and size of a data set."""
    name, variant, scale = corpus
    counts = {run["dataset"]["counts"].get("train", 0) for g in groups for run in g.runs}
    most = "up to " if len(counts) > 1 else ""
    clips = f": {most}{max(counts):,} training clips" if any(counts) else ""
    return f"{name} {variant}".strip() + f", {SCALES[scale]}{clips}"


def _imitated(groups: list[Runs]) -> tuple[str, ...]:
    return imitations(group.record["attack"] for group in groups)


def _identity(attack: dict[str, Any] | None) -> str:
    """What makes two attacks the same, as `group_records` tells them apart."""
    keys = ("name", "trigger", "rate", "of", "source", "target", "labels")
    return json.dumps([(attack or {}).get(key) for key in keys], sort_keys=True)


def _gathered(sections: list[Section]) -> list[list[Section]]:
    """Sections that stand in one grid: small ones of one policy on the same data."""
    parts: dict[Any, list[Section]] = {}
    for number, section in enumerate(sections):
        small = len(section.groups) <= GATHERED and section.policy
        parts.setdefault((section.policy, section.data) if small else number, []).append(section)
    return list(parts.values())


def full_grid(section: Section, published: list[Published], footnotes: Footnotes) -> Grid:
    """All that is known of a section, with intervals."""
    groups = section.groups
    models, defenses = zip(*row_labels(groups, footnotes), strict=True)
    columns = {"Model": list(models), "Defense": list(defenses)}
    for title, metric in RATES.items():
        columns[title] = [percent(estimate(group, metric)) for group in groups]
        if metric == "no_trigger_rate":
            columns[ABOVE] = [percent(above_floor(group)) for group in groups]
    if section.policy:
        accuracies = [twin and estimate(twin, "clean_accuracy") for twin in section.twins]
        columns[TWIN] = [percent(accuracy) for accuracy in accuracies]
    columns["Seeds"] = [str(len(group.runs)) for group in groups]
    columns["Poisoned clips"] = [
        _span([(run["attack"] or {}).get("poisoned") for run in group.runs]) for group in groups
    ]
    columns["Training clips"] = [
        _span([r["model"].get("clips", r["dataset"]["counts"].get("train")) for r in group.runs])
        for group in groups
    ]
    columns[PUBLISHED] = [beside(group, published, footnotes) for group in groups]
    return _grid(section.title, columns, groups)


def brief_grid(sections: list[Section], published: list[Published], footnotes: Footnotes) -> Grid:
    """Sections of one policy in six columns."""
    groups = tuple(group for section in sections for group in section.groups)
    labels = [
        system_label(*names, (group.record["defense"] or {}).get("stage"))
        for section in sections
        for names, group in zip(row_labels(section.groups, footnotes), section.groups, strict=True)
    ]
    first, title = FIRST, sections[0].title
    if len(sections) > 1:
        triggers = [section.trigger for section in sections for _ in section.groups]
        labels = [f"{t}: {label}" for t, label in zip(triggers, labels, strict=True)]
        first = f"Attack: {FIRST.lower()}"
        title = "; ".join(filter(None, (sections[0].policy, sections[0].data)))
    metric = "attack_success_rate" if sections[0].policy else "clean_accuracy"
    columns = {first: labels}
    for name in ("Clean accuracy [%]", "ASR [%]", "No trigger [%]"):
        estimates = [let_through(group, RATES[name]) for group in groups]
        columns[name] = [f"{100 * e.mean:.1f}" if e else "" for e in estimates]
    columns["Seeds"] = [str(len(group.runs)) for group in groups]
    name = "Published ASR [%]" if sections[0].policy else "Published accuracy [%]"
    columns[name] = [standing(group, published, metric, footnotes) for group in groups]
    return _grid(title, columns, groups)


def _grid(title: str, columns: dict[str, list[str]], groups: tuple[Runs, ...]) -> Grid:
    kept = without_empty_columns(columns)
    return Grid(title, tuple(kept), tuple(zip(*kept.values(), strict=True)), groups)


def _span(counts: list[int | None]) -> str:
    """One count, or the smallest and the largest of several."""
    known = sorted({count for count in counts if count is not None})
    return "–".join(f"{count:,}" for count in dict.fromkeys((*known[:1], *known[-1:])))


def _failure(run: dict[str, Any]) -> str:
    why = run.get("error")
    return run["command"] + (f": {why}" if why else "")
