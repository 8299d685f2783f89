"""``bdlib guard``: labels from a checkpoint, and rejections at a chosen rate."""

import argparse
import sys
from collections.abc import Sequence

from bdlib.cli.answer import answer, shown
from bdlib.cli.repair import checkpoint_parser, clip_options

NAMES = ("calibrate", "defense", "frr", "seconds", "seed")
"""Arguments of the library that are options here: `name` is --name."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = checkpoint_parser(
        "guard",
        "Classify clips, and reject those that a guard suspects of a trigger. "
        "Exit status: 0 none rejected, 1 some rejected, 2 error.",
    )
    made.add_argument("paths", nargs="+", help="audio files, or folders of them")
    made.add_argument("--calibrate", required=True, help="clean clips, a folder a class")
    made.add_argument("--defense", default="strip_vita", help="the guard (default: strip_vita)")
    made.add_argument(
        "--frr",
        type=float,
        default=0.03,
        help="share of clean clips that may be rejected (default: 0.03)",
    )
    clip_options(made)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Guard, and say what was answered; returns the exit status."""
    return answer(lambda: _guard(arguments), (*NAMES, "model", "classes"))


def _guard(arguments: Sequence[str] | None) -> int:
    given = parser().parse_args(arguments)
    from bdlib.checkpoints.checkpoint import Checkpoint
    from bdlib.checkpoints.guard import guard

    options = {name: getattr(given, name) for name in NAMES}
    checkpoint = Checkpoint.open(given.checkpoint, given.model, given.classes)
    result = guard(checkpoint, given.paths, **options)
    print(shown(result, given.json))
    return int(result.found)


if __name__ == "__main__":
    sys.exit(main())
