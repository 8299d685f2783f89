"""Trainings at published size on real speech, for as long as time allows."""

import argparse
import functools
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shared.trainers import HPARAMS

from bdlib import listing
from bdlib.records import record
from bdlib.stages.document import Document

ATTACK = ("--attack=clap", "--scale=0.1", "--source=_unknown_", "--target=left", "--rate=0.1", "--of=source")  # fmt: skip
MODELS = ("mvd", "mvj", "resnet50")  # of Table 1 of MVJ; the last is its Base
BESIDE_STEPS = 1.3  # time of an epoch over that of its steps: validation, and what is read
USED = 0.8  # of the time that is left; the rest is for packing, scoring and what is not foreseen


def parts(
    args: argparse.Namespace, found: Mapping[str, Mapping[str, Any]], left: float
) -> dict[str, tuple[Callable[..., None], float]]:
    """A training a part, with a limit, of as many epochs as fit in `left` seconds for all together.

    At most those of the yaml; fewer shorten the schedule with them. None without a corpus, or where
    the speed of a model was not `found`.
    """
    names = ("mvd_small",) if args.quick else MODELS
    speeds = [found.get(f"throughput_{name}", {}).get("clips_per_s") for name in names]
    if not args.data_folder or not all(speeds):
        return {}
    clips = len(listing.audio_files(Path(args.data_folder)))
    epochs = int(USED * left / sum(BESIDE_STEPS * clips / speed for speed in speeds))
    if args.quick:
        epochs = 1
    trained = functools.partial(train, max(epochs, 1))
    return {f"train_{name}": (functools.partial(trained, name), left) for name in names}


def train(epochs: int, name: str, args: argparse.Namespace, tell: Callable[..., None]) -> None:
    """The recipe's own program, which goes on with a training that was cut off, and leaves a record."""
    yaml = HPARAMS / f"{name}.yaml"
    epochs = min(epochs, Document(yaml).plain()["train"]["number_of_epochs"])
    places = [f"--data_folder={args.data_folder}", f"--output_folder={args.output / 'exp'}",
              f"--results_folder={args.output / 'records'}"]  # fmt: skip
    small = ("--n_mels=8", "--depth=10", "--max_per_class=12") if args.quick else ()
    tell(epochs=epochs, says=f"{epochs} epochs, not finished")
    os.chdir(HPARAMS.parent)
    sys.path.insert(0, str(HPARAMS.parent))
    sys.argv = ["train.py", f"hparams/{yaml.name}", *ATTACK, *small, *places,
                f"--number_of_epochs={epochs}", f"--device={args.device}", "--noprogressbar"]  # fmt: skip
    runpy.run_path("train.py", run_name="__main__")
    *_, last = record.read(args.output / "records" / "SpeechCommands.jsonl")
    accuracy, rate = (last["metrics"][key] for key in ("clean_accuracy", "attack_success_rate"))
    tell(
        record=last["id"],
        metrics=last["metrics"],
        runtime=last["runtime"],
        says=f"{epochs} epochs: {accuracy['count']} of {accuracy['total']} right, "
        f"{rate['count']} of {rate['total']} triggered obey",
    )
