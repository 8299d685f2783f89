"""Stages 4, 5, 7 and 8 (and before them 1 to 3): train, score, measure, record."""

import sys

from speechbrain.utils.distributed import ddp_init_group, if_main_process

from bdlib.cli import command, pictures
from bdlib.cli.experiment import Experiment
from bdlib.cli.prepare import Prepare
from bdlib.evaluation.metrics import summary


def main(prepare: Prepare) -> None:
    """``train.py``: an undefended classifier, from corpus folder to recorded number."""

    def run() -> None:
        options = command.parser(
            "Train a classifier, with all stages before, and record its numbers."
        )
        options.add_argument(
            "--stop_stage", type=int, default=8, help="5: train and score, but do not record"
        )
        asked = command.read(sys.argv[1:], options)
        ddp_init_group(asked.run_opts)
        experiment = Experiment(asked, prepare)
        trained = experiment.train(experiment.poisoned.rows("train"))
        if not if_main_process():
            return
        trained.score()
        if asked.extra.stop_stage >= 7:
            measured = trained.measure()
            pictures.draw(trained)
            print(summary(measured))
            trained.record(measured, experiment.training_defense)

    command.guarded(run)
