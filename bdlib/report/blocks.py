"""The result blocks of the READMEs."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

from bdlib.errors import InputError
from bdlib.records.record import SCALES
from bdlib.report import ablations, attacks_table, board_page, ranking, results, trainings
from bdlib.report.coverage import coverage
from bdlib.report.groups import Records, unpoisoned
from bdlib.report.labels import attack_label, in_readme
from bdlib.report.leaderboard import HALVES, Board
from bdlib.report.neurons_table import neurons
from bdlib.report.published import Published
from bdlib.report.table import Table, markdown

BEGIN = re.compile(r"<!-- results:begin(?P<what>[^>]*)-->")
BOARD = re.compile(rf"leaderboard (?P<half>{'|'.join(HALVES)}) (?P<defenses>\S.*)")
END = "<!-- results:end -->"
EMPTY = "*No runs have been measured yet.*\n"
PAGES = {
    "runs": "",
    "trainings": "-trainings",
    "repairs": "-repairs",
    "ablations": "-ablations",
    "attacks": "-attacks",
}
"""Kinds of tables, and how the names of the pages end on which they stand in full."""

SYNTAX = (
    f"<!-- results:begin Dataset [{'|'.join(SCALES)} [variant]] [table={'|'.join(PAGES)}] "
    "[attack=START OF ITS HEADING] [model=NAME,...] [experiment=NAME] -->, "
    "or results:begin coverage, or results:begin neurons, "
    f"or results:begin leaderboard {'|'.join(HALVES)} DEFENSE,..."
)


@dataclass(frozen=True)
class Block:
    """What a block shows: of a data set all, or one scale, one variant, one kind of table.

    `attack`, `model` and `experiment` choose runs: those of attacks whose heading begins so (whole
    words), of models by name, and of an experiment. Tables over many attacks or models are left out then.
    """

    dataset: str
    scale: str | None = None
    variant: str | None = None
    table: str | None = None
    attack: str | None = None
    model: str | None = None
    experiment: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Block":
        """From the words of a marker; ValueError if they are none of `SYNTAX`."""
        words = shlex.split(text)
        options = dict(word.split("=", 1) for word in words if "=" in word)
        names = [word for word in words if "=" not in word]
        if (
            not options.keys() <= {"table", "attack", "model", "experiment"}
            or not 1 <= len(names) <= 3
        ):
            raise ValueError(text)
        if not set(names[1:2]) <= set(SCALES) or options.get("table", "runs") not in PAGES:
            raise ValueError(text)
        return cls(*names, **options)

    def tables(
        self, records: Records, attacks: Records, published: list[Published]
    ) -> dict[str, list[Table]]:
        """The tables of the block in brief, by kind.

        Arguments
        ---------
        records : list of dict
            Records of runs.
        attacks : list of dict
            Records of many attacks judged by one encoder.
        published : list of Published
            Numbers to show beside ours.
        """
        # Neither what was tried with an eye on the test set nor clean twins; they stand in results/tables.
        runs = [r for r in records if in_readme(r["defense"]) and not unpoisoned(r)]
        compared = runs if self.experiment else ablations.compared(runs)
        chosen = [record for record in compared if self._asks_for(record)]
        tables = {"runs": results.brief(chosen, published, gather=True)}
        if not (self.attack or self.model or self.experiment):
            tables["trainings"] = trainings.build(records)
            tables["repairs"] = [ranking.brief(table) for table in ranking.build(compared)]
            tables["ablations"] = ablations.build(runs)
            judged = attacks_table.build(attacks, published)
            tables["attacks"] = [attacks_table.brief(table) for table in judged]
        own = {
            kind: [table for table in some if self._is_of(table)]
            for kind, some in tables.items()
            if self.table in (None, kind)
        }
        return {kind: some for kind, some in own.items() if some}

    def _is_of(self, table: Table) -> bool:
        return (
            table.dataset == self.dataset
            and self.scale in (None, table.scale)
            and self.variant in (None, table.variant)
        )

    def _asks_for(self, record: dict) -> bool:
        heading, start, dataset = attack_label(record["attack"]), self.attack, record["dataset"]
        return (
            dataset["name"] == self.dataset
            and (start is None or f"{heading},".startswith(f"{start},"))
            and (self.model is None or record["model"]["name"] in self.model.split(","))
            and self.experiment in (None, record["experiment"])
        )


def fill(
    readme: Path,
    records: Records,
    attacks: Records,
    published: list[Published],
    folder: Path,
    boards: Sequence[Board] = (),
) -> str:
    """The text of a README with its result blocks filled in.

    Arguments
    ---------
    readme : Path
        Its blocks stand between a line of `SYNTAX` and `END`.
    records, attacks, published
        As in `Block.tables`.
    folder : Path
        Of the full tables, to which each block links.
    boards : sequence of Board
        Of the leaderboard.

    Raises
    ------
    InputError
        If a block has no end, or its marker is none of `SYNTAX`.
    """
    text, done, at = readme.read_text("utf-8"), "", 0
    while begin := BEGIN.search(text, at):
        row = text.count("\n", 0, begin.start()) + 1
        end = text.find(END, begin.end())
        following = BEGIN.search(text, begin.end())
        if end < 0 or (following and following.start() < end):
            raise InputError(f"{readme}, row {row}: the block has no {END}; add it")
        if begin["what"].split() == ["coverage"]:
            shown = coverage([*records, *attacks], folder.parents[1])
        elif begin["what"].split() == ["neurons"]:
            shown = neurons(records)
        elif board := BOARD.fullmatch(begin["what"].strip()):
            shown = board_page.brief(boards, board["half"], board["defenses"].split(","))
            where = relpath(folder.parent / "leaderboard.md", readme.parent)
            shown += f"\nAll rows, intervals and costs: [leaderboard.md]({where}).\n"
        else:
            try:
                block = Block.parse(begin["what"])
            except ValueError as error:
                raise InputError(f"{readme}, row {row}: write {SYNTAX}") from error
            shown = _shown(block, block.tables(records, attacks, published), readme, folder)
        done += f"{text[at : begin.end()]}\n\n{shown}\n{END}"
        at = end + len(END)
    return done + text[at:]


def _shown(block: Block, tables: dict[str, list[Table]], readme: Path, folder: Path) -> str:
    """Tables as Markdown, with links to the full ones."""
    shown = "\n".join(markdown(table) for some in tables.values() for table in some) or EMPTY
    if tables:
        links = (f"{block.dataset}{PAGES[kind]}.md" for kind in tables)
        words = (f"[{name}]({relpath(folder / name, readme.parent)})" for name in links)
        shown += f"\nIntervals, counts and settings: {', '.join(words)}.\n"
    return shown
