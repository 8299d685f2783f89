"""The leaderboard as tables and as a page: `results/leaderboard.md`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bdlib.report.leaderboard import FIRST, Board, Part, Row
from bdlib.report.table import SCALES, Grid, Table, markdown, percent

COLUMNS = (
    *("Defense", "Clean accuracy [%]", "ASR [%]", "Worst [%]", "Robust accuracy [%]", "AUROC"),
    *("False alarms [%]", "Clean clips", "Seconds", "ms a clip", "Cells"),
)
OTHER = " *"
PROTOCOL = "../docs/leaderboard.md"
NOTES = (
    "Mean over attacks, of each the mean over seeds; brackets: 95 % t-interval over attacks. "
    "Worst: the attack of the highest ASR, or one of several. Medians of clean clips, seconds and milliseconds; "
    "the machines did other work, too, so that times tell magnitudes.",
    "*: met other attacks or seeds than the undefended nets; its numbers do not compare with theirs.",
)
COUNTED = ("Task", "Half", "Cells", "Measured", "Refused", "Missing")


def tables(some: Iterable[Board]) -> list[Table]:
    """A table a board that has a record."""
    return [_table(board) for board in some if board.data]


def _table(board: Board) -> Table:
    data, grids = board.data, tuple(_grid(part) for part in board.parts)
    rows = [row for row in board.parts[-1].rows if row.measured]
    marked = any(row.met != board.parts[-1].undefended for row in rows)
    notes = [NOTES[0], *NOTES[1:] * marked]
    took = f"Computed on: {', '.join(board.devices)}, in {board.hours:,.1f} hours of one process."
    notes.append(f"{took} {_missing(board)}")
    if len(board.corpora) > 1:
        notes.append(f"Of {len(board.corpora)} different corpora: no number compares with another.")
    notes += [
        f"{row.defense}: clean validation clips forbade {row.forbidden} of {row.measured} repairs; there "
        "the net as it was counts."
        for row in rows
        if row.forbidden
    ]
    notes += [f"Refused: {reason}" for reason in board.reasons]
    title = f"{data['name']} {data['variant'] or ''}".strip() + f", {board.half} half"
    told = (data["name"], data["variant"] or "", data["scale"])
    return Table(*told, f"Leaderboard: {title}, {SCALES[data['scale']]}", grids, tuple(notes))


def _grid(part: Part) -> Grid:
    rows = [row for row in part.rows if row.measured]
    cells = tuple(_cells(row, OTHER * (row.met != part.undefended)) for row in rows)
    return Grid(part.title.capitalize(), COLUMNS, cells)


def _cells(row: Row, mark: str) -> tuple[str, ...]:
    worst = f"{100 * row.worst[0]:.1f} ({row.worst[1]})" if row.worst else ""
    auc = f"{row.auc.mean:.3f}" if row.auc else ""
    return (
        row.defense + mark,
        percent(row.accuracy),
        percent(row.success),
        worst,
        percent(row.robust),
        auc,
        percent(row.alarms and replace(row.alarms, over="")),
        f"{row.clean:,.0f}",
        f"{row.seconds:,.0f}",
        "" if row.answering is None else f"{row.answering:.1f}",
        f"{row.measured} of {row.planned}",
    )


def brief(some: Iterable[Board], half: str, defenses: Sequence[str]) -> str:
    """A few rows of one half on all tasks, as Markdown.

    Of a defense that has more seeds than others there is a row with all of them, and one with those
    that it shares. Nothing is told of a row that met other attacks than the undefended nets.

    Arguments
    ---------
    some : iterable of Board
        Of both halves.
    half : str
        `development` or `confirmation`.
    defenses : sequence of str
        Rows, in their order.
    """
    chosen = [board for board in some if board.half == half and board.data]
    if not chosen:
        return "*No cell of this half has been measured yet.*\n"
    seeds = dict.fromkeys(part.seeds for board in chosen for part in board.parts)
    columns, rows = ["Defense", "Seeds"], {}
    for key in ((name, some) for some in seeds for name in defenses):
        rows[key] = [cells for board in chosen for cells in _brief(board, *key)]
    told = {key: cells for key, cells in rows.items() if any(cells)}
    left = [name for name in defenses if not any(name == told_of for told_of, _ in told)]
    cells = [(name, ", ".join(map(str, some)), *shares) for (name, some), shares in told.items()]
    cells += [(name, *[""] * (1 + 3 * len(chosen))) for name in left]
    notes = []
    for board in chosen:
        task = f"{board.dataset} {board.data['variant'] or ''}".strip()
        columns += [f"{task}: clean accuracy [%]", "ASR [%]", "Worst [%]"]
        planned, measured, _ = (
            sum(kind)
            for kind in zip(*(board.cells.get(n, (0, 0, 0)) for n in defenses), strict=True)
        )
        attacks = len({attack for attack, _ in board.parts[-1].undefended})
        scale = SCALES[board.data["scale"]]
        notes.append(f"{task}, {scale}: {attacks} attacks, {measured} of {planned} cells")
    notes.append("Means over attacks; worst: the attack of the highest ASR, or one of several")
    table = Grid("", tuple(columns), tuple(cells))
    title = f"Leaderboard, {half} half"
    return markdown(Table("", "", "", title, (table,), (". ".join([*notes, ""]).strip(),)))


def _brief(board: Board, defense: str, seeds: tuple[int, ...]) -> tuple[str, str, str]:
    """Clean accuracy, ASR and worst ASR of a defense with these seeds; nothing where they do not compare."""
    parts = [part for part in board.parts if part.seeds == seeds]
    for row, base in ((row, part.undefended) for part in parts for row in part.rows):
        if row.defense == defense and row.met == base and row.worst:
            shares = f"{100 * row.accuracy.mean:.1f}", f"{100 * row.success.mean:.1f}"
            return *shares, f"{100 * row.worst[0]:.1f} ({row.worst[1]})"
    return ("", "", "")


def _missing(board: Board) -> str:
    planned, _, _, missing = board.counts
    return f"Missing: {missing:,} of {planned:,} cells."


def page(some: Sequence[Board], chosen: str | None = None, pictures: Iterable[str] = ()) -> str:
    """`results/leaderboard.md` below its first line: what is there, the tables, what is missing.

    Arguments
    ---------
    some : sequence of Board
        Of both halves.
    chosen : str | None
        The recommended default.
    pictures : iterable of str
        Their paths.
    """
    counted = [
        (board.dataset, board.half, *(f"{count:,}" for count in board.counts)) for board in some
    ]
    about = Table("", "", "", "Leaderboard", (Grid("", COUNTED, tuple(counted)),), ())
    made, reasons = tables(some), dict.fromkeys(why for board in some for why in board.reasons)
    said = (
        f"Protocol: [docs/leaderboard.md]({PROTOCOL}). Records of other experiments do not count."
    )
    lines = [markdown(about, level=1), said, ""]
    if not made:
        refused = f" Refused: {'; '.join(reasons)}." if reasons else ""
        lines.append(f"No cell has been measured yet: there is nothing to compare.{refused}\n")
    if chosen:
        rule = f"by the rule of the protocol on seed {FIRST} of the development half"
        lines.append(f"Recommended, {rule}: **{chosen}**.")
        lines.append(
            f"What the rule cannot judge: [a row that came later]({PROTOCOL}#a-row-that-came-later).\n"
        )
    lines += [f"![Clean accuracy against attack success rate]({path})\n" for path in pictures]
    return "\n".join([*lines, *(markdown(table, level=2) for table in made)])
