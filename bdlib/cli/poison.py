"""Stages 2 and 3: manifests and an attack to poisoned manifests, the truth, packs and a picture."""

import argparse
from pathlib import Path

from bdlib import stages
from bdlib.cli import command
from bdlib.evaluation.metrics import summary
from bdlib.stages.export import export
from bdlib.stages.measure import audibility
from bdlib.stages.prepare import Prepare
from bdlib.stages.recipe import Recipe


def main(prepare: Prepare) -> None:
    """``poison.py``: poisoned manifests, the truth, the packs and a picture of the attack."""
    options = command.parser("Poison a corpus and pack its waveforms (stages 1 to 3).")
    options.add_argument(
        "--export", type=Path, metavar="FOLDER", help="also write it as WAV files to a new folder"
    )

    def walk(recipe: Recipe, own: argparse.Namespace) -> None:
        poisoned = stages.poison(recipe, stages.prepare(recipe, prepare))
        for split, rows in poisoned.splits.items():
            print(f"{split:15}{len(rows):7} clips at {poisoned.packs[split].rate} Hz")
        if poisoned.attack:
            print(f"{poisoned.attack['poisoned']} training clips are poisoned: {poisoned.folder}")
        if poisoned.pairs:
            from bdlib.report import pictures  # with matplotlib

            print(f"look and listen: {pictures.draw_attack(poisoned)}")
            print(summary(audibility(poisoned)))
        if own.export:
            export(poisoned, own.export)

    command.run(options, walk)
