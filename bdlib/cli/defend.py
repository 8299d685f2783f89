"""Stage 6 (and after it 4, 5, 7 and 8): apply a defense, and record what it leaves."""

import argparse

from bdlib import stages
from bdlib.cli import command
from bdlib.errors import InputError
from bdlib.evaluation.metrics import summary
from bdlib.report import pictures
from bdlib.stages.prepare import Prepare
from bdlib.stages.recipe import Recipe, known


def main(prepare: Prepare) -> None:
    """``defend.py``: a defended classifier and its record."""
    options = command.parser("Defend a classifier, with all stages before, and record its numbers.")
    options.add_argument("--defense", help="a yaml of recipes/common/defenses")
    options.add_argument(
        "--stop_stage", type=int, default=8, help="6: defend and score, but do not record"
    )

    def walk(recipe: Recipe, own: argparse.Namespace) -> None:
        if recipe.defense is None:
            raise InputError(f"give --defense: {known('defenses')}")
        command.join_processes(recipe)
        corpus = stages.prepare(recipe, prepare)  # 1
        poisoned = stages.poison(recipe, corpus)  # 2, 3

        from bdlib.stages import defend, grid  # with torch, which takes seconds

        defended = defend.defend(recipe, poisoned)  # 6, and 4 within
        pictures.draw_autoencoders(recipe.output / "filters")
        if not command.first_process():
            return
        scores = stages.score(defended.trained, poisoned)  # 5
        grid.score(defended, poisoned)
        if own.stop_stage >= 7:
            measured = stages.measure(scores, poisoned)  # 7
            measured |= defend.measure(defended, scores, poisoned)
            measured |= grid.measure(defended, poisoned)
            print(summary(measured))
            parts = {**defended.parts, **grid.provenance(defended, poisoned)}
            about = defend.about(recipe, defended)
            stages.record(recipe, defended.trained, measured, about, parts)  # 8
            pictures.draw(defended.trained, scores)

    command.run(options, walk)
