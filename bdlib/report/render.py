"""A results folder rendered: tables, figures, the blocks of the READMEs and `report.html`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bdlib.errors import InputError
from bdlib.files import atomic
from bdlib.records.record import read
from bdlib.report import (
    ablations,
    attacks_table,
    board_page,
    leaderboard,
    matrix,
    page,
    ranking,
    results,
    trainings,
)
from bdlib.report.blocks import PAGES, fill
from bdlib.report.groups import Records
from bdlib.report.prose import refused_numbers
from bdlib.report.published import Published, read_published
from bdlib.report.table import escaped, markdown

if TYPE_CHECKING:  # matplotlib takes long to import
    from bdlib.report.figures.figure import Picture

MANY = "attacks/*.jsonl"
PAGES_OF_PROSE = (
    "README.md", "recipes/*/README.md",
    *(f"docs/{name}.md" for name in ("fidelity", "neurons", "leaderboard", "displaced_clips")),
)  # fmt: skip
BOARD = "leaderboard-"  # begins the names of its pictures
MADE = "<!-- Made from records by tools/render.py, which overwrites it. -->\n\n"


def render(
    folder: Path,
    root: Path,
    check: bool = False,
    planned: Sequence[leaderboard.Planned] = (),
) -> int:
    """Render a results folder.

    Arguments
    ---------
    folder : Path
        With `<Dataset>.jsonl`, and with `figures/` where there are any. If it is the repository's
        own, the READMEs are filled in; otherwise the tables are printed.
    root : Path
        The repository.
    check : bool
        Write nothing and name the files that would change, and of the repository's own results what
        cannot stand: see `refuse`.
    planned : sequence of Planned
        The cells of the leaderboard; a folder that has none of them gets no page of it.

    Returns
    -------
    int
        0, or 1 if `check` found a difference.

    Raises
    ------
    InputError
        If the folder is missing, or a record, a published number or a README's markers are broken.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give `results` the folder of the records")
    own = folder.resolve() == (root / "results").resolve()
    files = {path: read(path) for path in sorted([*folder.glob("*.jsonl"), *folder.glob(MANY)])}
    records, attacks = (
        [record for path, some in files.items() if path.match(MANY) == many for record in some]
        for many in (False, True)
    )
    paper = folder / "paper"
    published = read_published(paper if paper.is_dir() else root / "results" / "paper")
    wanted = _tables(records, attacks, published, folder / "tables")
    pages = [p for pattern in PAGES_OF_PROSE for p in sorted(root.glob(pattern))] if own else []
    boards = leaderboard.boards(records, planned)
    boards = boards if own or any(board.data for board in boards) else []
    for path in pages:
        wanted[path] = fill(path, records, attacks, published, folder / "tables", boards)
    pictures = _pictures([*records, *attacks], published, boards) if records else {}
    if boards:
        drawn = [f"figures/{stem}.png" for stem in pictures if stem.startswith(BOARD)]
        chosen = leaderboard.recommended(records, planned)
        wanted[folder / "leaderboard.md"] = MADE + board_page.page(boards, chosen, drawn)
    if not check:
        _draw(pictures, folder / "figures")
    report = folder / "report.html"
    # The report can be made at any time: one that was never made does not fail a check.
    if report.exists() or not check:
        figures = [p for p in sorted((folder / "figures").glob("**/*.png")) if p.is_file()]
        wanted[report] = page.html(records, attacks, published, figures, board_page.tables(boards))
    stale = [
        path for path in sorted(folder.glob("tables/*.md")) if path not in wanted and _made(path)
    ]
    if not records:
        print(f"{folder}: no records yet; run a recipe, for example recipes/*/run.sh")
    if check:
        refused = _refused(files, pictures, root, folder) if own else []
        tables = {path.stem: text for path, text in wanted.items() if path.match("tables/*.md")}
        refused += [line for path in pages for line in refused_numbers(path, tables, folder)]
        return _compare(wanted, stale, refused)
    _write(wanted, stale)
    if not own:
        _print(records, published)
    if records:
        print(f"{len(records)} records rendered: {folder / 'tables'}, {report}")
    return 0


def _tables(
    records: Records, attacks: Records, published: list[Published], folder: Path
) -> dict[Path, str]:
    """The pages of tables: a page a data set, and one each for what `PAGES` has besides."""
    pages, compared = {}, ablations.compared(records)
    for kind, tables in (
        ("runs", results.build(compared, published)),
        ("trainings", trainings.build(records)),
        ("repairs", [*ranking.build(compared), *matrix.build(compared)]),
        ("ablations", ablations.build(records)),
        ("attacks", attacks_table.build(attacks, published)),
    ):
        for name in dict.fromkeys(table.dataset for table in tables):
            own = [markdown(table, level=2) for table in tables if table.dataset == name]
            path = folder / f"{name}{PAGES[kind]}.md"
            pages[path] = f"{MADE}# {escaped(name)}: {kind}\n\n" + "\n".join(own)
    return pages


def _pictures(
    records: Records, published: list[Published], boards: list[leaderboard.Board]
) -> "dict[str, Picture]":
    """All that the records allow to draw, by the stem of a file."""
    from bdlib.report.figures import (
        board_figure,
        emoback_figure,
        filter_figure,
        neuron_figure,
        noise_figure,
        overview_figure,
        pls_figure,
    )

    modules = (
        *(overview_figure, noise_figure, emoback_figure, pls_figure, filter_figure),
        neuron_figure,
    )
    records = ablations.compared(records)
    drawn = {k: v for module in modules for k, v in module.draw(records, published).items()}
    return drawn | board_figure.draw(boards)


def _draw(pictures: "dict[str, Picture]", folder: Path) -> None:
    """Draw what is not drawn from the same data."""
    from bdlib.report.figures.figure import made_of, save

    for stem, picture in pictures.items():
        path = folder / f"{stem}.png"
        if not path.exists() or made_of(path) != picture.digest:
            save(picture.figure, path, picture.digest)


def _refused(
    files: dict[Path, Records], pictures: "dict[str, Picture]", root: Path, folder: Path
) -> list[str]:
    """What of the repository's own results cannot stand."""
    from bdlib.report.figures.pls_figure import scattered
    from bdlib.report.refuse import refused_pictures, refused_records

    drawn = pictures | {k: v for some in files.values() for k, v in scattered(some).items()}
    refused = refused_records(files, root, folder / "checks.yaml")
    return refused + refused_pictures(drawn, folder / "figures")


def _print(records: Records, published: list[Published]) -> None:
    from rich.console import Console

    from bdlib.report.terminal import terminal

    for table in results.build(records, published):
        Console().print(terminal(table))


def _made(path: Path) -> bool:
    """Whether a page of tables is of a former rendering, not of a person."""
    try:
        return path.read_text("utf-8", errors="replace").startswith(MADE.strip())
    except OSError:  # a folder, or a link to nothing
        return False


def _compare(wanted: dict[Path, str], stale: list[Path], refused: list[str]) -> int:
    """Name the files that differ, and what is refused; 1 if there are any."""
    differing = [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    for path in [*differing, *stale]:
        print(f"{path}: differs from the records; run tools/render.py", file=sys.stderr)
    for line in refused:
        print(line, file=sys.stderr)
    return 1 if differing or stale or refused else 0


def _write(wanted: dict[Path, str], stale: list[Path]) -> None:
    for path in wanted:
        if path.match("tables/*.md") and os.path.lexists(path) and not _made(path):
            raise InputError(f"{path}: not made from records; move it, as a table goes there")
    for path, text in wanted.items():
        if not path.exists() or path.read_text("utf-8") != text:
            with atomic(path) as temporary:
                temporary.write_text(text, "utf-8")
    for path in stale:
        path.unlink()  # a table whose records are gone
