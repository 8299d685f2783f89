"""Stage 6 (and after it 4, 5, 7 and 8): apply a defense, and record what it leaves."""

import dataclasses
import json
import sys

import pandas as pd
from speechbrain.utils.distributed import ddp_init_group, if_main_process

from bdlib import manifest
from bdlib.cli import command
from bdlib.cli.experiment import Experiment
from bdlib.cli.prepare import Prepare
from bdlib.cli.run import Run
from bdlib.cli.settings import known
from bdlib.defenses.base import BlindView, Defended, OracleFilter, defend
from bdlib.errors import InputError
from bdlib.evaluation import metrics
from bdlib.files import atomic, digest
from bdlib.models.classifier import SpeechClassifier
from bdlib.sampling import rank


def main(prepare: Prepare) -> None:
    """``defend.py``: a defended classifier and its record."""

    def run() -> None:
        options = command.parser(
            "Defend a classifier, with all stages before, and record its numbers."
        )
        options.add_argument("--defense", help="a yaml of recipes/common/defenses")
        options.add_argument(
            "--stop_stage", type=int, default=8, help="6: defend and score, but do not record"
        )
        asked = command.read(sys.argv[1:], options)
        if asked.defense is None:
            raise InputError(f"give --defense: {known('defenses')}")
        ddp_init_group(asked.run_opts)
        experiment = Experiment(asked, prepare)
        trained, left = _defended(experiment)
        if not if_main_process():
            return
        trained.score()
        if asked.extra.stop_stage >= 7:
            _record(experiment, trained, left)

    command.guarded(run)


def _defended(experiment: Experiment) -> tuple[Run, Defended]:
    document = experiment.asked.defense
    defense = document.build()["defense"]
    everything = manifest.blind(experiment.poisoned.rows("train"))
    # Names and attributes give away what an utterance was before (left/..., word=backward).
    alias = {name: f"u{n:07}" for n, name in enumerate(rank(everything["ID"], 0, "alias"))}
    name_of = {blind: name for name, blind in alias.items()}
    if isinstance(defense, OracleFilter) and experiment.poisoned.attack:
        truth = experiment.poisoned.truth()
        defense.reveal([alias[name] for name in truth.index[truth["split"] == "train"]])
    runs: list[Run] = []

    def train(rows: pd.DataFrame) -> SpeechClassifier:
        tag = document.path.stem if len(rows) < len(everything) else ""
        chosen = everything["ID"].isin({name_of[blind] for blind in rows["ID"]})
        runs.append(experiment.train(everything[chosen].reset_index(drop=True), tag))
        return runs[-1].classifier

    rows = everything.assign(ID=everything["ID"].map(alias)).sort_values("ID", ignore_index=True)
    pack = experiment.packs["train"]
    pack = dataclasses.replace(pack, ids=[alias[name] for name in pack.ids])
    view = BlindView(
        rows[["ID", "duration", "label"]],
        pack,
        experiment.classes,
        experiment.seed,
        train,
        lambda: experiment.batches("valid"),
        experiment.clean_data,
        lambda make: runs[-1].kept(name, make),
    )
    name = f"{document.path.stem}-{digest(document.plain(), 8)}"
    left = defend(defense, view)
    if left.kept is None:
        return runs[-1].guarded(left.classifier, name), left
    kept = pd.Index([name_of[blind] for blind in left.kept])
    manifest.write(everything[everything["ID"].isin(kept)], runs[-1].folder / "kept.csv")
    scores = {name_of[blind]: score for blind, score in left.scores.items()}
    with atomic(runs[-1].folder / "suspicion.json") as temporary:
        temporary.write_text(json.dumps(scores, indent=0) + "\n")
    return runs[-1], Defended(left.classifier, kept, scores)


def _record(experiment: Experiment, trained: Run, left: Defended) -> None:
    document = experiment.asked.defense
    settings = {k: v for k, v in document.plain().items() if k not in ("defense", "selection")}
    defense = left.calibrated or document.build()["defense"]
    settings |= {name: getattr(defense, name, value) for name, value in settings.items()}
    used = len(experiment.poisoned.rows("valid")) if defense.selection == "validation" else 0
    measured = trained.measure()
    if experiment.poisoned.attack and left.kept is not None:
        everyone = experiment.poisoned.rows("train").set_index("ID").index
        measured |= metrics.filtering(everyone, left.kept, experiment.poisoned.truth())
    print(metrics.summary(measured))
    trained.record(
        measured,
        {
            "name": document.path.stem,
            "stage": defense.stage,
            "selection": defense.selection,
            "clean_budget": left.clean_budget + used,
            "settings": settings,
        },
    )
