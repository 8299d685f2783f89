"""Stages 4, 5, 7 and 8 (and before them 1 to 3): train, score, measure, record."""

import argparse

from bdlib import stages
from bdlib.cli import command
from bdlib.evaluation.metrics import summary
from bdlib.report import pictures
from bdlib.stages.prepare import Prepare
from bdlib.stages.recipe import Recipe


def main(prepare: Prepare) -> None:
    """``train.py``: an undefended classifier, from corpus folder to recorded number."""
    options = command.parser("Train a classifier, with all stages before, and record its numbers.")
    options.add_argument(
        "--stop_stage", type=int, default=8, help="5: train and score, but do not record"
    )

    def walk(recipe: Recipe, own: argparse.Namespace) -> None:
        command.join_processes(recipe)
        corpus = stages.prepare(recipe, prepare)  # 1
        poisoned = stages.poison(recipe, corpus)  # 2, 3
        trained = stages.train(recipe, poisoned)  # 4
        if not command.first_process():
            return
        scores = stages.score(trained, poisoned)  # 5
        if own.stop_stage >= 7:
            measured = stages.measure(scores, poisoned)  # 7
            print(summary(measured))
            pictures.draw(trained, scores)
            stages.record(recipe, trained, measured)  # 8

    command.run(options, walk)
