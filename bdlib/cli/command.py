"""Command lines: options in, one clear error out."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from speechbrain import parse_arguments

from bdlib.cli.settings import Document, common, parse
from bdlib.errors import InputError


@dataclass
class Command:
    """A parsed command line.

    Arguments
    ---------
    recipe, attack, labels, defense : Document
        The yaml files; attack and labels are None for a clean corpus, defense for none.
    run_opts : dict[str, Any]
        SpeechBrain's run options.
    extra : argparse.Namespace
        Options of the one program.
    line : str
        The command as it was typed, for the record.
    """

    recipe: Document
    attack: Document | None
    labels: Document | None
    defense: Document | None
    run_opts: dict[str, Any]
    extra: argparse.Namespace
    line: str


def parser(doc: str) -> argparse.ArgumentParser:
    """A parser for a stage's own options, with the help text common to all stages."""
    made = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Every key of the yaml, and of the attack and defense it names, is an option: "
        "--rate=0.05 --attack=whistle --number_of_epochs=3. Give the yaml and --help to see them "
        "all. SpeechBrain's run options (--device, --precision, --noprogressbar, ...) work too.",
        add_help=False,
    )
    made.add_argument("-h", "--help", action="store_true", help="show this, and the yaml's keys")
    made.add_argument("yaml", nargs="?", help="the recipe, for example hparams/keyword_resnet.yaml")
    return made


def read(arguments: Sequence[str], options: argparse.ArgumentParser) -> Command:
    """Parse a command line.

    Raises
    ------
    InputError
        For an option that no yaml has, or a yaml that is not there.
    """
    extra, rest = options.parse_known_args(arguments)
    if extra.yaml is None:
        options.print_help()
        raise SystemExit(0 if extra.help else 2)
    _, run_opts, overrides = parse_arguments([extra.yaml, *rest])
    recipe = Document(Path(extra.yaml))
    given = {key: value for key, value in parse(overrides).items() if not recipe.place(key, value)}
    poison = recipe.plain().get("poison", {})
    attack = (
        common("attacks", poison["attack"]) if poison.get("attack") not in (None, "none") else None
    )
    labels = common("labels", poison["labels"]) if attack else None
    name = getattr(extra, "defense", None)
    defense = common("defenses", name) if name else None
    followers = [document for document in (attack, labels, defense) if document]
    for key, value in given.items():
        if not any(document.place(key, value) for document in followers):
            raise InputError(
                f"--{key}: no such option in {recipe.path}"
                + "".join(f" or {d.path.name}" for d in followers)
                + "; --help lists them"
            )
    if extra.help:
        options.print_help()
        for document in (recipe, *followers):
            print(f"\n{document.path}:\n{yaml.safe_dump(document.plain(), sort_keys=False)}")
        raise SystemExit(0)
    line = " ".join(["python", Path(sys.argv[0]).name, *arguments])
    return Command(recipe, attack, labels, defense, run_opts.as_dict(), extra, line)


def guarded(main: Callable[[], None]) -> None:
    """Run a program; an `InputError` becomes one line on stderr and exit code 1."""
    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="speechbrain|torchaudio|torch")
    try:
        main()
    except InputError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
