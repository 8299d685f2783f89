"""A results folder rendered: tables, figures, the blocks of the READMEs and `report.html`."""

import re
import sys
from pathlib import Path

from bdlib.errors import InputError
from bdlib.files import atomic
from bdlib.records.record import SCALES, read
from bdlib.report import attacks_table, matrix, page, ranking
from bdlib.report.groups import Records
from bdlib.report.labels import in_readme
from bdlib.report.published import Published, read_published
from bdlib.report.table import Table, build, markdown, terminal

BEGIN = re.compile(r"<!-- results:begin(?P<what>[^>]*)-->")
END = "<!-- results:end -->"
EMPTY = "*No runs have been measured yet.*\n"


def render(results: Path, root: Path, check: bool = False) -> int:
    """Render a results folder.

    Arguments
    ---------
    results : Path
        Folder with `<Dataset>.jsonl`, and with `figures/` where there are any. If it is the
        repository's own, the READMEs are filled in; otherwise the tables are printed.
    root : Path
        The repository.
    check : bool
        Write nothing and name the files that would change.

    Returns
    -------
    int
        0, or 1 if `check` found a difference.

    Raises
    ------
    InputError
        If the folder is missing, or a record, a published number or a README's markers are broken.
    """
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; give `results` the folder of the records")
    own = results.resolve() == (root / "results").resolve()
    records, attacks = (
        [record for path in sorted(results.glob(pattern)) for record in read(path)]
        for pattern in ("*.jsonl", "attacks/*.jsonl")
    )
    paper = results / "paper"
    published = read_published(paper if paper.is_dir() else root / "results" / "paper")
    tables, judged = build(records, published), attacks_table.build(attacks, published)
    ranked = ranking.build(records)
    wanted: dict[Path, str] = {}
    for mark, kind, some in (
        ("", "", tables),
        ("-repairs", ": repairs", [*ranked, *matrix.build(records)]),
        ("-attacks", ": attacks", judged),
    ):
        for name in dict.fromkeys(table.dataset for table in some):
            text = f"# {name}{kind}\n\n{_blocks(some, name)}"
            wanted[results / "tables" / f"{name}{mark}.md"] = text
    if not check:
        _draw([*records, *attacks], published, results / "figures")
    figures = sorted((results / "figures").glob("**/*.png"))
    report = results / "report.html"
    # The report can be made at any time: one that was never made does not fail a check.
    if report.exists() or not check:
        wanted[report] = page.html(records, published, figures)
    if own:
        # Not what was tried with an eye on the test set; that stands in results/tables.
        shown = build([record for record in records if in_readme(record["defense"])], published)
        readmes = [root / "README.md", *sorted(root.glob("recipes/*/README.md"))]
        wanted |= {
            path: fill(path, [*shown, *ranked, *judged]) for path in readmes if path.is_file()
        }
    stale = [path for path in sorted((results / "tables").glob("*.md")) if path not in wanted]
    if not records:
        print(f"{results}: no records yet; run a recipe, for example recipes/*/run.sh")
    if check:
        return _compare(wanted, stale)
    _write(wanted, stale)
    if not own:
        from rich.console import Console

        for table in tables:
            Console().print(terminal(table))
    if records:
        print(f"{len(records)} records rendered: {results / 'tables'}, {report}")
    return 0


def _draw(records: Records, published: list[Published], folder: Path) -> None:
    """Draw all that the records allow."""
    from bdlib.report.figures import emoback_figure, filter_figure, noise_figure, pls_figure
    from bdlib.report.figures.figure import save

    for module in (noise_figure, emoback_figure, pls_figure, filter_figure):
        for stem, figure in module.draw(records, published).items():
            save(figure, folder / f"{stem}.png")


def fill(readme: Path, tables: list[Table]) -> str:
    """The text of a README with its result blocks filled in.

    A block stands between `<!-- results:begin <Dataset> [scale [variant]] -->` and
    `<!-- results:end -->`.

    Raises
    ------
    InputError
        If a block has no end, no data set, or a scale that is none.
    """
    text, done, at = readme.read_text("utf-8"), "", 0
    while found := BEGIN.search(text, at):
        row = text.count("\n", 0, found.start()) + 1
        words = found["what"].split()
        if not 1 <= len(words) <= 3 or not set(words[1:2]) <= set(SCALES):
            scales = "|".join(SCALES)
            raise InputError(
                f"{readme}, row {row}: write <!-- results:begin Dataset [{scales} [variant]] -->"
            )
        end = text.find(END, found.end())
        following = BEGIN.search(text, found.end())
        if end < 0 or (following and following.start() < end):
            raise InputError(f"{readme}, row {row}: the block has no {END}; add it")
        done += f"{text[at : found.end()]}\n\n{_blocks(tables, *words)}\n{END}"
        at = end + len(END)
    return done + text[at:]


def _blocks(
    tables: list[Table], dataset: str, scale: str | None = None, variant: str | None = None
) -> str:
    """The tables of one data set as Markdown; of one scale and variant, or of all."""
    chosen = [
        table
        for table in tables
        if table.dataset == dataset
        and scale in (None, table.scale)
        and variant in (None, table.variant)
    ]
    return "\n".join(markdown(table) for table in chosen) or EMPTY


def _compare(wanted: dict[Path, str], stale: list[Path]) -> int:
    """Name the files that differ; 1 if there are any."""
    differing = [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    for path in [*differing, *stale]:
        print(f"{path}: differs from the records; run tools/render.py", file=sys.stderr)
    return 1 if differing or stale else 0


def _write(wanted: dict[Path, str], stale: list[Path]) -> None:
    for path, text in wanted.items():
        if not path.exists() or path.read_text("utf-8") != text:
            with atomic(path) as temporary:
                temporary.write_text(text, "utf-8")
    for path in stale:
        path.unlink()  # a table whose records are gone
