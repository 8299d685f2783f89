"""Command lines: options in, one clear error out."""

import argparse
import contextlib
import io
import itertools
import logging
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from speechbrain import parse_arguments

from bdlib.cli.settings import Document, check, common, parse
from bdlib.errors import InputError


@dataclass
class Command:
    """A parsed command line.

    Arguments
    ---------
    recipe, attack, labels, defense : Document
        The yaml files; attack and labels are None for a clean corpus, labels also for an attack
        with a policy of its own, defense for none.
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help lists the options")


def parser(doc: str) -> argparse.ArgumentParser:
    """A parser for a stage's own options, with the help text common to all stages."""
    made = _Parser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Every key of the yaml, and of the attack and defense it names, is an option: "
        "--rate=0.05 --attack=whistle --number_of_epochs=3. Give the yaml and --help to see them "
        "all. SpeechBrain's run options (--device, --precision, --noprogressbar, ...) work too.",
        add_help=False,
        allow_abbrev=False,
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
    recipe = Document(Path(extra.yaml))
    check(recipe)
    run_opts, overrides = _speechbrain([extra.yaml, *rest])
    given = parse(overrides)
    if (
        "max_grad_norm" in run_opts["overridden_args"]
    ):  # SpeechBrain's by name, the recipe's by right
        given["max_grad_norm"] = run_opts["max_grad_norm"]
    given = {key: value for key, value in given.items() if not recipe.place(key, value)}
    poison = recipe.plain()["poison"]
    attack = common("attacks", poison["attack"]) if poison["attack"] not in (None, "none") else None
    own = attack is not None and "policy" in attack.plain()  # an attack that says what it labels
    labels = common("labels", poison["labels"]) if attack and not own else None
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
    line = shlex.join(["python", Path(sys.argv[0]).name, *arguments])
    return Command(recipe, attack, labels, defense, run_opts, extra, line)


def _speechbrain(arguments: Sequence[str]) -> tuple[dict[str, Any], str]:
    """SpeechBrain's run options, and the overrides that are left."""
    for before, word in itertools.pairwise(arguments):
        if not word.startswith("--") and ("=" in before or not before.startswith("--")):
            raise InputError(f"{word}: no option; write --key=value")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, run_opts, overrides = parse_arguments(arguments)
    except SystemExit:
        what = said.getvalue().strip().rpartition("error: ")[2]
        raise InputError(f"{what}; correct the option") from None
    return run_opts.as_dict(), overrides


def guarded(main: Callable[[], None]) -> None:
    """Run a program; an `InputError` becomes one line on stderr and exit code 1."""
    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="speechbrain|torchaudio|torch")
    try:
        main()
    except InputError as error:
        sys.stdout.flush()
        print("error:", *str(error).splitlines(), file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
