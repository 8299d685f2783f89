"""Stage 6 (and after it 4, 5, 7 and 8): apply a defense, and record what it leaves."""

import dataclasses
import json
import sys
from typing import Any

import pandas as pd
from speechbrain.utils.distributed import ddp_init_group, if_main_process

from bdlib import manifest
from bdlib.cli import command, pictures, poison, surface
from bdlib.cli.experiment import Experiment
from bdlib.cli.prepare import Prepare
from bdlib.cli.run import Run
from bdlib.cli.settings import known
from bdlib.defenses.base import BlindView, Defended, OracleFilter, defend
from bdlib.defenses.repair.pruning import Pruning
from bdlib.errors import InputError
from bdlib.evaluation import metrics, scores
from bdlib.files import atomic, digest
from bdlib.models.classifier import SpeechClassifier
from bdlib.pack import Pack
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
        pruning = asked.defense.build()["defense"]
        if isinstance(pruning, Pruning) and pruning.surface:
            surface.score(trained, pruning.skip_layers)
        if asked.extra.stop_stage >= 7:
            _record(experiment, trained, left)

    command.guarded(run)


def _defended(experiment: Experiment) -> tuple[Run, Defended]:
    document = experiment.asked.defense
    defense = document.build()["defense"]
    everything = manifest.blind(experiment.poisoned.rows("train"))
    rows, pack, name_of = blinded(experiment)
    alias = {name: blind for blind, name in name_of.items()}
    if isinstance(defense, OracleFilter) and experiment.poisoned.attack:
        truth = experiment.poisoned.truth()
        defense.reveal([alias[name] for name in truth.index[truth["split"] == "train"]])
    runs: list[Run] = []

    def train(rows: pd.DataFrame) -> SpeechClassifier:
        tag = document.path.stem if len(rows) < len(everything) else ""
        chosen = everything["ID"].isin({name_of[blind] for blind in rows["ID"]})
        runs.append(experiment.train(everything[chosen].reset_index(drop=True), tag))
        return runs[-1].classifier

    view = BlindView(
        rows,
        pack,
        experiment.classes,
        experiment.seed,
        train,
        lambda: experiment.batches("valid"),
        experiment.clean_data,
        lambda make: runs[-1].kept(name, make),
        lambda rows: experiment.batches("train", rows, pack=pack),
        experiment.output / "filters",
        experiment.run_opts,
    )
    name = f"{document.path.stem}-{digest(document.plain(), 8)}"
    left = defend(defense, view)
    pictures.autoencoders(experiment.output / "filters")
    if left.kept is None:
        return runs[-1].guarded(left.classifier, name), left
    kept = pd.Index([name_of[blind] for blind in left.kept])
    manifest.write(everything[everything["ID"].isin(kept)], runs[-1].folder / "kept.csv")
    suspicion = {name_of[blind]: score for blind, score in left.scores.items()}
    with atomic(runs[-1].folder / "suspicion.json") as temporary:
        temporary.write_text(json.dumps(suspicion, indent=0) + "\n")
    return runs[-1], dataclasses.replace(left, kept=kept, scores=suspicion)


def blinded(experiment: Experiment) -> tuple[pd.DataFrame, Pack, dict[str, str]]:
    """The training set as a defense sees it: rows, pack, and the names behind the aliases.

    Names and attributes give away what an utterance was before (left/..., word=backward).
    """
    rows, pack = manifest.blind(experiment.poisoned.rows("train")), experiment.packs["train"]
    alias = {name: f"u{n:07}" for n, name in enumerate(rank(pack.ids, 0, "alias"))}
    shown = rows.assign(ID=rows["ID"].map(alias)).sort_values("ID", ignore_index=True)
    pack = dataclasses.replace(pack, ids=[alias[name] for name in pack.ids])
    return shown[["ID", "duration", "label"]], pack, {v: k for k, v in alias.items()}


def _parameters(trained: Run) -> dict[str, Any]:
    """How many parameters a repair left, if it took some out."""
    left, total = (
        sum(p.numel() for p in net.parameters())
        for net in (trained.classifier, trained.undefended.classifier)
    )
    about = {"value": left / total, "count": left, "total": total}
    return {"parameters_left": about} if left < total else {}


def _record(experiment: Experiment, trained: Run, left: Defended) -> None:
    document = experiment.asked.defense
    settings = {k: v for k, v in document.plain().items() if k not in ("defense", "selection")}
    defense = left.calibrated or document.build()["defense"]
    settings |= {name: getattr(defense, name, value) for name, value in settings.items()}
    used = len(experiment.poisoned.rows("valid")) if defense.selection == "validation" else 0
    measured = trained.measure()
    if experiment.poisoned.attack and left.kept is not None:
        rows, truth = experiment.poisoned.rows("train"), experiment.poisoned.truth()
        measured |= metrics.filtering(rows.set_index("ID").index, left.kept, truth)
        measured |= metrics.separation(rows, left.kept, truth)
        if left.class_scores is not None:
            measured |= metrics.classes(left.class_scores, truth)
    if experiment.poisoned.attack and left.calibrated and left.calibrated.thresholds:
        files = (trained.score_file(split) for split in (poison.CLEAN, poison.TRIGGERED))
        measured |= metrics.screening(*map(scores.read, files), left.calibrated.thresholds)
    if defense.stage == "repair":
        smaller = _parameters(trained)
        measured |= smaller
        if not smaller:  # gradients of channels are compared one by one
            pictures.draw_repair(trained)
    if isinstance(defense, Pruning) and defense.surface:
        measured |= surface.measure(trained)
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
