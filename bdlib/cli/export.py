"""``bdlib export``: a checkpoint as safetensors with a model card."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bdlib.cli.answer import answer
from bdlib.cli.repair import checkpoint_parser


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = checkpoint_parser(
        "export",
        "Write a checkpoint to a new folder: safetensors, what reads them again, and a model card, "
        "which says so at its top where it was backdoored on purpose. Exit status: 0 written, 2 error.",
    )
    made.add_argument("folder", type=Path, help="a new folder")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, and say what was written; returns the exit status."""
    return answer(lambda: _export(arguments), ("model", "classes"), output="folder")


def _export(arguments: Sequence[str] | None) -> int:
    given = parser().parse_args(arguments)
    from bdlib.checkpoints.card import save
    from bdlib.checkpoints.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(given.checkpoint, given.model, given.classes)
    folder = save(checkpoint, given.folder)
    about = {"written": str(folder), "digest": checkpoint.digest}
    about |= {"backdoored": checkpoint.backdoored}
    print(json.dumps(about, indent=2) if given.json else f"written: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
