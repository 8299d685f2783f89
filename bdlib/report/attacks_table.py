"""What filters that judge classes find over many attacks, as tables beside the published numbers."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from bdlib.files import digest
from bdlib.report.groups import Records
from bdlib.report.labels import flat, imitations, with_settings
from bdlib.report.published import Published
from bdlib.report.table import SCALES, Footnotes, Grid, Table

GOOD = 0.95  # adjusted Rand index that the paper counts attacks by
AREA, FIT = "class_auc", "share_of_attacks_with_rand_index_095"
CALLED, FITTING = "Target class called [%]", f"Adjusted Rand index of {GOOD} or more [%]"
COLUMNS = (
    "Filter", "Attacks", "Class ROC AUC", CALLED, "Clean draws with a class called [%]",
    "Median adjusted Rand index", FITTING, "Published",
)  # fmt: skip
BRIEF = ("Filter", "Class ROC AUC", CALLED, FITTING, COLUMNS[-1])
NOTES = (
    "Each attack is from one class to another; class scores of targets against those of benign "
    "classes, of the clean draws among them, give the area under the ROC curve. The adjusted Rand "
    "index is over the clips of the target class, whether or not it was called poisoned. Settings are "
    "named where they differ from those of the first row of a filter. Published numbers are of full "
    f"data: the share of attacks with {GOOD} or more in percent, or the AUC.",
)
TOGETHER, NAMED = "all ", 3  # triggers, of which more are not named one by one in a heading


def build(records: Records, published: list[Published]) -> list[Table]:
    """A table for each data set, variant and scale; rows are filter and trigger.

    Arguments
    ---------
    records : list of dict
        Records of `pls.py`: those with `classes`.
    published : list of Published
        Numbers to show beside ours.
    """
    corpora: dict[tuple[str, str, str], Records] = {}
    for record in records:
        if record["status"] == "ok" and "classes" in record:
            data = record["dataset"]
            key = (data["name"], data["variant"] or "", data["scale"])
            corpora.setdefault(key, []).append(record)
    return [_table(*key, some, published) for key, some in corpora.items()]


def brief(table: Table) -> Table:
    """The table in five columns; of many triggers, all together and those of published numbers."""
    places = [COLUMNS.index(column) for column in BRIEF]
    many = any(grid.title.startswith(TOGETHER) for grid in table.grids)
    grids = tuple(
        Grid(grid.title, BRIEF, tuple(tuple(row[place] for place in places) for row in grid.rows))
        for grid in table.grids
        if not many or grid.title.startswith(TOGETHER) or any(row[-1] for row in grid.rows)
    )
    return replace(table, grids=grids)


def _table(
    name: str, variant: str, scale: str, records: Records, published: list[Published]
) -> Table:
    footnotes = Footnotes()
    labels = _labels(records, footnotes)
    own = [number for number in published if number.dataset == f"{name} {variant}".strip()]
    by_trigger: dict[str, list[tuple[str, ...]]] = {}
    for label in dict.fromkeys(labels):
        judged = [r for r, other in zip(records, labels, strict=True) if other == label]
        attacks = [record for record in judged if record["attack"]]
        draws = [record for record in judged if not record["attack"]]
        for trigger, cells in (
            _rows(at_usual_rate(attacks), draws, own, footnotes) if attacks else ()
        ):
            by_trigger.setdefault(trigger, []).append((label, *cells))
    title = f"Many attacks judged by one encoder: {name} {variant}, {SCALES[scale]}"
    grids, notes = footnotes.settle(
        [Grid(trigger, COLUMNS, tuple(rows)) for trigger, rows in by_trigger.items()]
    )
    imitated = imitations(record["attack"] for record in records)
    return Table(name, variant, scale, title, grids, (*NOTES, *imitated, *notes))


def pooled(attacks: Records, draws: Records) -> tuple[np.ndarray, np.ndarray]:
    """Class scores of all corpora and whether the class was a target: two arrays (classes,).

    Benign are the classes of the clean draws, and of the attacks those that are no target.
    """
    pairs = [
        (score, record["attack"] is not None and name == record["attack"]["target"])
        for record in [*attacks, *draws]
        for name, score in record["classes"].items()
    ]
    scores, targets = zip(*pairs, strict=True)
    return np.array(scores), np.array(targets)


def area(scores: np.ndarray, targets: np.ndarray) -> float:
    """Area under the ROC curve: share of pairs in which the target scores higher; ties count half.

    Arguments
    ---------
    scores, targets : np.ndarray
        `pooled`.
    """
    target, benign = scores[targets, None], scores[~targets]
    return float(((target > benign) + 0.5 * (target == benign)).mean())


def at_usual_rate(attacks: Records) -> Records:
    """The attacks at the poisoned share that is nearest to the paper's tenth of the source class."""
    rate = min((r["attack"]["rate"] for r in attacks), key=lambda rate: abs(rate - 0.1))
    return [record for record in attacks if record["attack"]["rate"] == rate]


def _labels(records: Records, footnotes: Footnotes) -> list[str]:
    """Filters by name, and by the settings in which they differ from the first of the name."""
    first: dict[str, dict[str, Any]] = {}
    labels = []
    for record in records:
        name, settings = record["defense"]["name"], _settings(record)
        usual = first.setdefault(name, settings)
        other = {key: value for key, value in settings.items() if usual.get(key) != value}
        labels.append(with_settings(name, other, footnotes))
    return labels


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """What sets the encoders and judges of two records apart."""
    trained = digest([record["model"].get("trained_on"), record["dataset"]["digest"]], 6)
    return flat(record["defense"]["settings"]) | {"encoder": trained}


def _rows(
    attacks: Records, draws: Records, published: list[Published], footnotes: Footnotes
) -> list[tuple[str, tuple[str, ...]]]:
    """Trigger and cells of a filter: for each trigger, then for all of them."""
    names = sorted({record["attack"]["name"] for record in attacks})
    parts = {name: [r for r in attacks if r["attack"]["name"] == name] for name in names}
    if len(names) > 1:
        many = f"{TOGETHER}{len(names)} triggers"
        parts[" and ".join(names) if len(names) <= NAMED else many] = attacks
    rows = []
    for name, some in parts.items():
        scores, targets = pooled(some, draws)
        target_called = [record["metrics"]["target_class_found"]["value"] for record in some]
        called = [max(record["classes"].values()) > 1 for record in draws]
        index = np.array([record["metrics"]["adjusted_rand_index"]["value"] for record in some])
        cells = (
            str(len(some)),
            f"{area(scores, targets):.3f}",
            _percent(target_called),
            _percent(called),
            f"{np.median(index):.2f}",
            _percent(index >= GOOD),
            _published(some[0]["attack"], name, published, footnotes),
        )
        rows.append((name, cells))
    return rows


def _published(
    attack: dict[str, Any], name: str, published: list[Published], footnotes: Footnotes
) -> str:
    parts = []
    for number in published:
        if (number.attack, number.rate) != (name, attack["rate"]):
            continue
        if number.metric == AREA:
            parts.append(f"AUC {number.value:.3f} {footnotes.mark(number.source)}")
        if number.metric == FIT:
            parts.append(f"{100 * number.value:.0f} {footnotes.mark(number.source)}")
    return "; ".join(parts)


def _percent(shares: Iterable[Any]) -> str:
    values = list(shares)
    return f"{100 * np.mean(values):.1f}" if values else ""
