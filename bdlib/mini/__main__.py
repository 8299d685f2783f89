"""Make a mini corpus: ``bdlib mini SpeechCommands out_folder``."""

import argparse
import sys
from pathlib import Path

from bdlib.errors import InputError
from bdlib.files import read_json
from bdlib.mini import DATASETS, make
from bdlib.names import plain


def main() -> int:
    """Parse the command line, make the corpus, and print what it holds."""
    parser = argparse.ArgumentParser(
        prog="bdlib mini",
        description="Make a small corpus of synthetic speech in the layout of a real data set.",
    )
    parser.add_argument("dataset", choices=list(DATASETS), help="whose layout to use")
    parser.add_argument("folder", type=Path, help="the corpus folder to make")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes")
    parser.add_argument(
        "--nested", action="store_true", help="ESD: train, evaluation and test folders"
    )
    options = parser.parse_args()
    try:
        folder = make(options.dataset, options.folder, options.seed, options.nested)
    except InputError as error:
        print(f"error: {plain(str(error))}", file=sys.stderr)
        return 1
    note = read_json(folder / "mini.json")
    counts = ", ".join(f"{count} {name}" for name, count in note["counts"].items())
    print(f"{folder}: {note['files']} files ({counts}); {note['source']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
