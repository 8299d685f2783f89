"""``bdlib repair``: a checkpoint repaired with clean clips alone."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bdlib.cli.answer import answer, shown
from bdlib.cli.command import Parser

NAMES = ("output", "repairs", "max_drop", "seconds", "seed")
"""Arguments of the library that are options here: `name` is --name."""


def checkpoint_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A command line that begins with a checkpoint."""
    made = Parser(prog=f"bdlib {name}", allow_abbrev=False, description=description)
    made.add_argument(
        "checkpoint", help="a folder of bdlib, SpeechBrain or Hugging Face, or a file"
    )
    made.add_argument("--model", help="of a file of weights: smallcnn, or the path of a yaml")
    made.add_argument(
        "--classes", type=lambda text: text.split(","), help="of a file without names: no,yes"
    )
    made.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    return made


def clip_options(made: argparse.ArgumentParser) -> None:
    """What programs that hear clips take, too."""
    made.add_argument(
        "--seconds",
        type=float,
        help="what is heard of each clip (default: as in training, or the longest, up to 4 s)",
    )
    made.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = checkpoint_parser(
        "repair",
        "Try the repairs that need only clean clips, and choose one by clean clips alone. "
        "Exit status: 0 repaired, 1 no repair keeps the accuracy, 2 error.",
    )
    made.add_argument("--data", required=True, help="clean clips, a folder a class")
    made.add_argument("--output", type=Path, help="a new folder for the repaired checkpoint")
    made.add_argument("--repairs", type=lambda text: text.split(","), help="only these: gn_ft,nad")
    made.add_argument(
        "--max_drop",
        "--max-drop",
        type=float,
        default=0.05,
        help="accuracy that may be given up (default: 0.05)",
    )
    clip_options(made)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Repair, and say what was tried; returns the exit status."""
    return answer(lambda: _repair(arguments), (*NAMES, "model", "classes", "data"))


def _repair(arguments: Sequence[str] | None) -> int:
    given = parser().parse_args(arguments)
    from bdlib.checkpoints.checkpoint import Checkpoint
    from bdlib.checkpoints.repair import repair

    options = {name: getattr(given, name) for name in NAMES}
    checkpoint = Checkpoint.open(given.checkpoint, given.model, given.classes)
    result = repair(checkpoint, given.data, **options)
    print(shown(result, given.json))
    if given.output and result.chosen and not given.json:
        print(f"written: {given.output}")
    if not given.json:
        print(
            "next: if you have what it was trained on, `bdlib scan` that, and train anew on the rest"
        )
    return int(result.chosen is None)


if __name__ == "__main__":
    sys.exit(main())
