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
SCORED = ("clean_accuracy", "attack_success_rate")  # rates whose clips, and no others, are scored


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
    """What a defense comes to with some seeds. Shares of one; None where nothing was measured.

    `measured` and `refused` of `planned` cells have a record; `met` are the attacks and seeds of the
    former. Of `forbidden` cells clean clips forbade the repair, and the net as it was counts.
    """

    defense: str
    stage: str | None
    planned: int
    measured: int
    refused: int
    forbidden: int
    met: frozenset[tuple[str, int]]
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
class Part:
    """Rows of the same seeds, so that their numbers compare; `undefended` is what the nets of none met."""

    seeds: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """What a reader calls its seeds; nothing where no defense met all attacks with one."""
        return f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}" * bool(
            self.seeds
        )

    @property
    def undefended(self) -> frozenset[tuple[str, int]]:
        """Attacks and seeds of the nets without a defense."""
        return next((row.met for row in self.rows if row.defense == "none"), frozenset())


@dataclass(frozen=True)
class Board:
    """One half of the attacks on one task: `data` is a record's account of it, if there is a record.

    `parts` are of ever fewer seeds, each with the defenses that met all attacks with all of them; the
    last one has what is left as well. `cells` are counted by defense: planned, measured and refused.
    `hours` are those of all trainings, filters, repairs and answers that stand behind it; `corpora` are
    the digests of the data.
    """

    dataset: str
    half: str
    data: dict[str, Any] | None
    parts: tuple[Part, ...]
    cells: dict[str, tuple[int, int, int]]
    reasons: tuple[str, ...]
    devices: tuple[str, ...]
    hours: float
    corpora: frozenset[str]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Cells: planned, measured, refused and missing."""
        planned, measured, refused = (sum(kind) for kind in zip(*self.cells.values(), strict=True))
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
    rows = {name: _row(name, own, newest) for name, own in by_defense.items()}
    known = [newest[cell.command] for cell in cells if cell.command in newest]
    good = [record for record in known if record["status"] == "ok"]
    bad = [record for record in known if record["status"] != "ok"]
    reasons = (str(record.get("error", "no reason told")).splitlines()[-1:] for record in bad)
    return Board(
        dataset,
        half,
        good[0]["dataset"] if good else None,
        _parts(by_defense, rows, newest),
        {name: (row.planned, row.measured, row.refused) for name, row in rows.items()},
        tuple(dict.fromkeys(line for lines in reasons for line in lines)),
        tuple(dict.fromkeys(record["runtime"]["device"] for record in good)),
        _seconds(good) / 3600,
        frozenset(record["dataset"]["digest"] for record in good),
    )


def _parts(
    by_defense: dict[str, list[Planned]], rows: dict[str, Row], newest: dict[str, dict[str, Any]]
) -> tuple[Part, ...]:
    """See `Board`; `rows` are those of all seeds."""
    base = _by_seed(rows["none"].met) if "none" in rows else {}
    whole = {  # seeds with which a defense met all attacks
        name: {seed for seed, met in _by_seed(row.met).items() if met == base.get(seed)}
        for name, row in rows.items()
    }
    some = {tuple(sorted(seeds)) for seeds in whole.values()} - {()}
    parts: dict[tuple[int, ...], list[Row]] = {
        seeds: [] for seeds in sorted(some, key=lambda seeds: (-len(seeds), seeds)) or [()]
    }
    for name, cells in by_defense.items():
        for seeds, shown in parts.items():
            if whole[name] and whole[name].issuperset(seeds):
                shown.append(_row(name, [cell for cell in cells if cell.seed in seeds], newest))
        if not whole[name]:
            shown.append(rows[name])
    return tuple(Part(seeds, tuple(shown)) for seeds, shown in parts.items())


def _by_seed(met: Iterable[tuple[str, int]]) -> dict[int, set[str]]:
    """Attacks by seed."""
    attacks: dict[int, set[str]] = defaultdict(set)
    for attack, seed in met:
        attacks[seed].add(attack)
    return attacks


def _seconds(records: Iterable[dict[str, Any]]) -> float:
    """What cells took, each training once: a filter that drops nothing gives back the undefended net."""
    trained: dict[tuple[str, float], float] = {}
    others = 0.0
    for record in records:
        runtime, metrics = record["runtime"], record["metrics"]
        keys = OWN.get((record["defense"] or {}).get("stage"), ("train_s", "filter_s"))
        if "train_s" in keys:
            spent = runtime.get("train_s", 0)
            trained[record["parts"]["training"]["time"], spent] = spent
        clips = sum(metrics.get(name, {}).get("total", 0) for name in SCORED)
        others += sum(runtime.get(key, 0) for key in keys if key != "train_s")
        others += runtime.get("score_ms", 0) * clips / 1000
    return sum(trained.values()) + others


def _row(defense: str, cells: list[Planned], newest: dict[str, dict[str, Any]]) -> Row:
    known = [(cell, newest[cell.command]) for cell in cells if cell.command in newest]
    good = [(cell, record) for cell, record in known if record["status"] == "ok"]
    runs = [(cell.attack, record) for cell, record in good]
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
        refused=len(known) - len(runs),
        forbidden=sum(r["metrics"].get("repaired", {}).get("value") == 0 for _, r in runs),
        met=frozenset((cell.attack, cell.seed) for cell, _ in good),
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
    last = [board.parts[-1] for board in halves]
    by_task = [{row.defense: row for row in part.rows if row.measured} for part in last]
    fit = {}
    if not all("none" in known for known in by_task):
        return None
    for name in set.intersection(*map(set, by_task)) - NO_DEFENSE:
        rows = [(known[name], known["none"]) for known in by_task]
        if all(
            row.met == base.met and round(base.accuracy.mean - row.accuracy.mean, 9) <= AFFORDABLE
            for row, base in rows
        ):
            own = [row for row, _ in rows]
            mean = fmean(row.success.mean for row in own)
            fit[name] = mean, max(row.worst[0] for row in own), sum(row.clean for row in own), name
    return min(fit, key=fit.get, default=None)
