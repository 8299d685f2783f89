"""Stage 6 (and after it 4, 5, 7 and 8): apply a defense, and record what it leaves."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from bdlib import stages
from bdlib.cli import command
from bdlib.cli.programs import LEVELS, unfold
from bdlib.errors import InputError
from bdlib.evaluation.metrics import summary
from bdlib.report import pictures
from bdlib.stages.document import known
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.prepare import Prepare
from bdlib.stages.recipe import Recipe

if TYPE_CHECKING:  # torch takes seconds to import
    from bdlib.stages.defend import Defended


def main(prepare: Prepare) -> None:
    """``defend.py``: a defended classifier and its record."""
    options = command.parser("Defend a classifier, with all stages before, and record its numbers.")
    options.add_argument(
        "--defense",
        help="a yaml of recipes/common/defenses, or `recommended`: what docs/leaderboard.md chose",
    )
    options.add_argument(
        "--after",
        help="a defense that comes first: a filter before a repair, a filter or a repair before a "
        "guard; it gets the options that no other yaml has",
    )
    options.add_argument(
        LEVELS,
        help="several defenses in place of one: '--cutoff=2000; --cutoff=4000' records what two "
        "commands would, each with one of these in place of this option",
    )
    options.add_argument(
        "--stop_stage", type=int, default=8, help="6: defend and score, but do not record"
    )

    def walk(recipe: Recipe, own: argparse.Namespace) -> None:
        lines = unfold(sys.argv[1:]) if own.levels is not None else []
        recipes = [command.read(line, options)[0] for line in lines] or [recipe]
        recipe = _one_classifier(recipes)
        command.join_processes(recipe)
        corpus = stages.prepare(recipe, prepare)  # 1
        poisoned = stages.poison(recipe, corpus)  # 2, 3

        from bdlib.stages import defend  # with torch, which takes seconds

        defended = None
        for level in recipes:
            if own.levels is not None:
                print(level.command)
            defended = defend.defend(level, poisoned, defended)  # 6, and 4 within
            pictures.draw_autoencoders(recipe.output / "filters")
            if command.first_process():
                _told(level, poisoned, defended, own.stop_stage)  # 5, 7, 8

    command.run(options, walk)


def _one_classifier(recipes: list[Recipe]) -> Recipe:
    """The first of recipes that differ in their defense alone."""
    for recipe in recipes:
        if recipe.defense is None:
            raise InputError(f"give --defense: {known('defenses')}")
        if _undefended(recipe) != _undefended(recipes[0]):
            raise InputError(f"{LEVELS}: give options of the defense, and others outside of it")
    return recipes[0]


def _undefended(recipe: Recipe) -> list[Any]:
    """What a recipe asks for, less the defense."""
    documents = (recipe.attack, recipe.labels, recipe.after)
    plain = [document and (document.path, document.plain()) for document in documents]
    return [recipe.document.path, recipe.settings, plain, recipe.run_options]


def _told(recipe: Recipe, poisoned: Poisoned, defended: "Defended", stop_stage: int) -> None:
    """Score, measure and record."""
    from bdlib.stages import grid, outcome

    scores = stages.score(defended.trained, poisoned)  # 5
    grid.score(defended, poisoned)
    if stop_stage >= 7:
        measured = stages.measure(scores, poisoned)  # 7
        measured |= outcome.measure(defended, scores, poisoned)
        measured |= grid.measure(defended, poisoned)
        print(summary(measured))
        parts = {**outcome.parts(defended), **grid.provenance(defended, poisoned)}
        about = outcome.about(recipe, defended)
        # Drawn first: a sweep counts the lines of records to tell where a program failed.
        pictures.draw(defended.trained, scores)
        stages.record(recipe, defended.trained, measured, about, parts)  # 8
