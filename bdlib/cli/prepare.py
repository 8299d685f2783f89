"""Stage 1: corpus folder to validated manifests, with printed counts."""

import argparse

from rich.console import Console
from rich.table import Table

from bdlib import stages
from bdlib.cli import command
from bdlib.manifest import SPLITS
from bdlib.stages.corpus import Corpus
from bdlib.stages.prepare import Prepare
from bdlib.stages.recipe import Recipe


def main(prepare: Prepare) -> None:
    """``prepare.py``: make and print the manifests of a recipe's corpus."""

    def walk(recipe: Recipe, own: argparse.Namespace) -> None:
        show(stages.prepare(recipe, prepare))

    command.run(command.parser("Corpus folder to manifests (stage 1)."), walk)


def show(corpus: Corpus) -> None:
    """Print counts per split and class, the scale, and the notes."""
    about = corpus.about
    table = Table(title=f"{about['name']} {about['variant']} ({about['scale']})")
    table.add_column("class")
    for split in SPLITS:
        table.add_column(split, justify="right")
    for name in about["classes"]:
        table.add_row(name, *(str(about["classes_of"][split].get(name, 0)) for split in SPLITS))
    table.add_section()
    table.add_row("all", *(str(about["counts"][split]) for split in SPLITS))
    Console().print(table)
    for note in about["notes"]:
        print(f"note: {note}")
    print(f"manifests in {corpus.folder}")
