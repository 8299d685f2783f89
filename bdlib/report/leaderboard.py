"""The defenses against the attacks of docs/leaderboard.md, from the records of its own cells."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from bdlib.report.groups import Estimate, Records, t_interval

HALVES = ("development", "confirmation")
LEAST = 3  # attacks that an interval wants
FIRST = 0  # seed of the cells from which the recommended default is chosen
AFFORDABLE = 0.02  # clean accuracy that the recommended default may cost on either task
NO_DEFENSE = {"none", "perfect_filter_oracle", "random_filter"}
SECONDS = ("train_s", "repair_s", "filter_s")
OWN = {"repair": ("repair_s",), "inference": ()}  # by stage; of all others the training as well
SCORED = ("clean_accuracy", "triggered_accuracy")  # rates of all clips of the two test sets


@dataclass(frozen=True)
class Planned:
    """A cell that the protocol asks for.

    Arguments
    ---------
    dataset : str
        Of the recipe.
    half : str
        `development` or `confirmation`.
    attack, defense : str
        What a reader calls them.
    command : str
        As its record tells it.
    scale : str
        Of its data: a subset is not the whole.
    seed : int
        Of the poison and the training.
    """

    dataset: str
    half: str
    attack: str
    defense: str
    command: str
    scale: str
    seed: int


@dataclass(frozen=True)
class Row:
    """What a defense comes to. Shares of one; None where nothing was measured.

    `measured` and `refused` of `planned` cells have a record; `attacks` are those that it met. Of
    `forbidden` cells clean clips forbade the repair, and the undefended net counts.
    """

    defense: str
    stage: str | None
    planned: int
    measured: int
    refused: int
    forbidden: int
    attacks: frozenset[str]
    accuracy: Estimate | None
    success: Estimate | None
    worst: tuple[float, str] | None
    robust: Estimate | None
    auc: Estimate | None
    alarms: Estimate | None
    clean: float | None
    seconds: float | None
    answering: float | None


@dataclass(frozen=True)
class Board:
    """One half of the attacks on one task: `data` is a record's account of it, if there is a record.

    `hours` are those of all trainings, filters, repairs and answers that stand behind it; `corpora` are
    the digests of the data.
    """

    dataset: str
    half: str
    data: dict[str, Any] | None
    rows: tuple[Row, ...]
    reasons: tuple[str, ...]
    devices: tuple[str, ...]
    hours: float
    corpora: frozenset[str]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Cells: planned, measured, refused and missing."""
        planned, measured, refused = (
            sum(getattr(row, name) for row in self.rows)
            for name in ("planned", "measured", "refused")
        )
        return planned, measured, refused, planned - measured - refused


def boards(records: Records, planned: Sequence[Planned]) -> list[Board]:
    """The boards of a protocol, in its order; records of other commands do not count.

    Arguments
    ---------
    records : list of dict
        Records of schema 1, in the order of their files; of a command the last one that is no
        failure counts.
    planned : sequence of Planned
        All cells; those of a data set have one scale.
    """
    newest: dict[str, dict[str, Any]] = {}
    scales = {cell.dataset: cell.scale for cell in planned}
    for record in records:
        if record["dataset"]["scale"] != scales.get(record["dataset"]["name"]):
            continue
        if record["status"] == "ok" or record["command"] not in newest:
            newest[record["command"]] = record
    parts: dict[tuple[str, str], list[Planned]] = defaultdict(list)
    for cell in planned:
        parts[cell.dataset, cell.half].append(cell)
    return [_board(*key, cells, newest) for key, cells in parts.items()]


def _board(
    dataset: str, half: str, cells: list[Planned], newest: dict[str, dict[str, Any]]
) -> Board:
    by_defense: dict[str, list[Planned]] = defaultdict(list)
    for cell in cells:
        by_defense[cell.defense].append(cell)
    known = [newest[cell.command] for cell in cells if cell.command in newest]
    good = [record for record in known if record["status"] == "ok"]
    bad = [record for record in known if record["status"] != "ok"]
    reasons = (str(record.get("error", "no reason told")).splitlines()[-1:] for record in bad)
    return Board(
        dataset,
        half,
        good[0]["dataset"] if good else None,
        tuple(_row(name, own, newest) for name, own in by_defense.items()),
        tuple(dict.fromkeys(line for lines in reasons for line in lines)),
        tuple(dict.fromkeys(record["runtime"]["device"] for record in good)),
        sum(map(_own_seconds, good)) / 3600,
        frozenset(record["dataset"]["digest"] for record in good),
    )


def _own_seconds(record: dict[str, Any]) -> float:
    """What a cell took besides the cells that it builds upon: of a repair and a guard not the training."""
    runtime, metrics = record["runtime"], record["metrics"]
    keys = OWN.get((record["defense"] or {}).get("stage"), ("train_s", "filter_s"))
    clips = sum(metrics.get(name, {}).get("total", 0) for name in SCORED)
    return sum(runtime.get(key, 0) for key in keys) + runtime.get("score_ms", 0) * clips / 1000


def _row(defense: str, cells: list[Planned], newest: dict[str, dict[str, Any]]) -> Row:
    found = [(cell.attack, newest[cell.command]) for cell in cells if cell.command in newest]
    runs = [(attack, record) for attack, record in found if record["status"] == "ok"]
    stage = (runs[0][1]["defense"] or {}).get("stage") if runs else None
    screens = any("false_rejection_rate" in record["metrics"] for _, record in runs)
    through = "passed_" if screens else ""  # what a guard rejects is neither right nor the target's
    success = _by_attack(runs, f"{through}attack_success_rate")
    worst = max(((rate, attack) for attack, rate in success.items()), default=None)
    auc, alarms = (
        ("detection_auc", "false_rejection_rate") if screens else ("filter_auc", "filter_fpr")
    )
    clean = [(record["defense"] or {}).get("clean_budget", 0) for _, record in runs]
    seconds = [sum(r["runtime"].get(key, 0) for key in SECONDS) for _, r in runs]
    answering = [r["runtime"]["score_ms"] for _, r in runs if "score_ms" in r["runtime"]]
    return Row(
        defense,
        stage,
        planned=len(cells),
        measured=len(runs),
        refused=len(found) - len(runs),
        forbidden=sum(r["metrics"].get("repaired", {}).get("value") == 0 for _, r in runs),
        attacks=frozenset(attack for attack, _ in runs),
        accuracy=_over_attacks(_by_attack(runs, f"{through}clean_accuracy")),
        success=_over_attacks(success),
        worst=worst,
        robust=_over_attacks(_by_attack(runs, f"{through}robust_accuracy")),
        auc=_over_attacks(_by_attack(runs, auc)),
        alarms=_over_attacks(_by_attack(runs, alarms)),
        clean=median(clean) if clean else None,
        seconds=median(seconds) if seconds else None,
        answering=median(answering) if answering else None,
    )


def _by_attack(runs: Iterable[tuple[str, dict[str, Any]]], metric: str) -> dict[str, float]:
    """Mean over seeds, by attack."""
    values: dict[str, list[float]] = defaultdict(list)
    for attack, record in runs:
        if metric in record["metrics"]:
            values[attack].append(record["metrics"][metric]["value"])
    return {attack: fmean(some) for attack, some in values.items()}


def _over_attacks(means: dict[str, float]) -> Estimate | None:
    """Mean over attacks and, of three or more, its t-interval within [0, 1]."""
    values = list(means.values())
    if not values:
        return None
    if len(values) < LEAST:
        return Estimate(*[fmean(values)] * 3, over="")
    mean, low, high = t_interval(values)
    return Estimate(mean, max(0.0, low), min(1.0, high), over="attacks")


def recommended(records: Records, planned: Iterable[Planned]) -> str | None:
    """The defense that the rule of the protocol takes, from seed `FIRST` of the development half alone.

    Of those that exist on every task, met all attacks there and cost at most `AFFORDABLE` of the
    clean accuracy of the undefended nets, the one of the least mean ASR over the tasks; of equals
    that of the lower worst ASR, and of fewer clean clips. None while one of these cells has no
    record, where all undefended nets failed, and where no defense is affordable.
    """
    asked = [cell for cell in planned if (cell.half, cell.seed) == (HALVES[0], FIRST)]
    halves = boards(records, asked)
    if not halves or any(board.counts[-1] for board in halves):
        return None
    by_task = [{row.defense: row for row in board.rows if row.measured} for board in halves]
    fit = {}
    if not all("none" in known for known in by_task):
        return None
    for name in set.intersection(*map(set, by_task)) - NO_DEFENSE:
        rows = [(known[name], known["none"]) for known in by_task]
        if all(
            row.attacks == base.attacks
            and round(base.accuracy.mean - row.accuracy.mean, 9) <= AFFORDABLE
            for row, base in rows
        ):
            own = [row for row, _ in rows]
            mean = fmean(row.success.mean for row in own)
            fit[name] = mean, max(row.worst[0] for row in own), sum(row.clean for row in own), name
    return min(fit, key=fit.get, default=None)
