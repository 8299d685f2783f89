"""Command lines: options in, one clear error out."""

import argparse
import contextlib
import ctypes
import importlib.util
import io
import itertools
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import yaml

from bdlib.cli.answer import closed
from bdlib.errors import InputError
from bdlib.names import plain
from bdlib.stages.document import Document, common
from bdlib.stages.recipe import Recipe, check, parse

PLACES = ("--output_folder", "--results_folder")
DEFENSES = ("--defense", "--after")
RECOMMENDED = "displaced_clips"
"""What `--defense=recommended` means: the choice of docs/leaderboard.md from its records, by its rule."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # what `mallopt` of glibc calls them
LARGE, ALWAYS = 2**25, 2**30  # bytes: the largest that the second one takes, and more than is free


class Parser(argparse.ArgumentParser):
    """Whose errors are `InputError`, one line as all others."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed with its usage, as an `InputError`."""
        raise InputError(f"{message}; --help lists the options")


def parser(doc: str) -> argparse.ArgumentParser:
    """A parser for a stage's own options, with the help text common to all stages."""
    made = Parser(
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


def read(
    arguments: Sequence[str], options: argparse.ArgumentParser
) -> tuple[Recipe, argparse.Namespace]:
    """Parse a command line: the recipe, and the program's own options.

    Raises
    ------
    InputError
        For an option that no yaml has, or a yaml that is not there.
    """
    arguments = named(arguments)
    own, rest = options.parse_known_args(arguments)
    if own.yaml is None:
        options.print_help()
        raise SystemExit(0 if own.help else 2)
    document = Document(Path(own.yaml))
    check(document)
    run_options, overrides = _speechbrain([own.yaml, *rest])
    given = parse(overrides)
    if "max_grad_norm" in run_options:  # SpeechBrain's by name, the recipe's by right
        given["max_grad_norm"] = run_options.pop("max_grad_norm")
    given = {key: value for key, value in given.items() if not document.place(key, value)}
    poison = document.plain()["poison"]
    attack = common("attacks", poison["attack"]) if poison["attack"] not in (None, "none") else None
    policy_of_its_own = attack is not None and "policy" in attack.plain()
    labels = common("labels", poison["labels"]) if attack and not policy_of_its_own else None
    names = (getattr(own, option, None) for option in ("defense", "after"))
    defense, after = (common("defenses", name) if name else None for name in names)
    followers = [follower for follower in (attack, labels, defense, after) if follower]
    for key, value in given.items():
        if not any(follower.place(key, value) for follower in followers):
            raise InputError(
                f"--{key}: no such option in {document.path}"
                + "".join(f" or {d.path.name}" for d in followers)
                + "; --help lists them"
            )
    if own.help:
        options.print_help()
        for shown in (document, *followers):
            print(f"\n{shown.path}:\n{yaml.safe_dump(shown.plain(), sort_keys=False)}")
        raise SystemExit(0)
    line = shlex.join(["python", Path(sys.argv[0]).name, *arguments])
    line = told(line, document.plain()["corpus"]["name"])
    return Recipe(document, attack, labels, defense, after, run_options, line), own


def named(words: Sequence[str]) -> list[str]:
    """A command line with `recommended` as what it means now, so that a record tells that."""
    result = []
    for before, word in zip(["", *words], words, strict=False):
        option, _, value = word.partition("=")
        asked = option in DEFENSES and value == "recommended"
        alone = before in DEFENSES and word == "recommended"
        result.append(f"{option}={RECOMMENDED}" if asked else RECOMMENDED if alone else word)
    return result


def told(command: str, dataset: str) -> str:
    """A command as a record tells it: where corpora and results lie is nobody else's affair.

    The corpus is in `data/<Dataset>` of the recipe's folder, unless it is `mini`; other folders
    are left out. A recommended defense has its name, as another may be recommended later.

    Example
    -------
    >>> told("python train.py a.yaml --data_folder=/mnt/x --results_folder=r --seed=1", "ESD")
    'python train.py a.yaml --data_folder=data/ESD --seed=1'
    """
    words, given = [], iter(named(shlex.split(command)))
    for word in given:
        option, equals, value = word.partition("=")
        if option not in ("--data_folder", *PLACES):
            words.append(word)
            continue
        value = value if equals else next(given, "")  # which may be a word of its own
        if option == "--data_folder":
            words.append(f"{option}={value if value == 'mini' else f'data/{dataset}'}")
    return shlex.join(words)


def _speechbrain(arguments: Sequence[str]) -> tuple[dict[str, Any], str]:
    """SpeechBrain's run options among the arguments, and the overrides that are left."""
    for before, word in itertools.pairwise(arguments):
        if not word.startswith("--") and ("=" in before or not before.startswith("--")):
            raise InputError(f"{word}: no option; write --key=value")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parse_arguments = _run_opts().RunOptions.from_command_line_args
            _, options, overrides = parse_arguments(list(arguments))
    except SystemExit:
        what = said.getvalue().strip().rpartition("error: ")[2]
        raise InputError(f"{what}; correct the option") from None
    return {name: options[name] for name in sorted(options.overridden_args)}, overrides


def _run_opts() -> ModuleType:
    """SpeechBrain's parser alone: importing the package imports torch, which takes seconds."""
    path = distribution("speechbrain").locate_file("speechbrain/utils/run_opts.py")
    spec = importlib.util.spec_from_file_location("bdlib.cli._run_opts", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_process() -> bool:
    """Whether this is the only process of a run, or the first of several."""
    return int(os.environ.get("RANK", 0)) == 0


def join_processes(recipe: Recipe) -> None:
    """Join the other processes of a run that torchrun started; alone, do nothing."""
    if "RANK" in os.environ:
        from speechbrain.utils.distributed import ddp_init_group

        from bdlib.stages.compute import run_options

        ddp_init_group(run_options(recipe.run_options))


def run(
    options: argparse.ArgumentParser, program: Callable[[Recipe, argparse.Namespace], None]
) -> None:
    """Run a program on the recipe of this process's command line; see `guarded`."""
    with guarded() as names:
        recipe, own = read(sys.argv[1:], options)
        names.update(recipe.options)
        program(recipe, own)


@contextlib.contextmanager
def guarded() -> Iterator[dict[str, Sequence[str]]]:
    """What a program does within: an `InputError` becomes one line on stderr and exit code 1.

    The library's errors name arguments, in backticks. The dict yielded is to hold, by the name of
    an argument, the options that feed it; the line then names these.
    """
    _keep_memory()
    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="speechbrain|torchaudio|torch")
    names: dict[str, Sequence[str]] = {}
    try:
        yield names
    except InputError as error:
        sys.stdout.flush()
        lines = _with_options(str(error), names).splitlines()
        print("error:", *map(plain, lines), file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:
        raise SystemExit(closed()) from None
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None


def _keep_memory() -> None:
    """Let the allocator keep what a step frees for the next one, instead of giving it back.

    By default tensors of some hundred kilobytes are mapped anew each time, and the system clears
    every page. Nothing changes where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGE)
        mallopt(TRIM_THRESHOLD, ALWAYS)


def _with_options(message: str, names: Mapping[str, Sequence[str]]) -> str:
    """A message with the arguments that it names replaced by their options."""

    def option(match: re.Match[str]) -> str:
        return " or ".join(f"--{name}" for name in names.get(match[1], ())) or match[0]

    return re.sub(r"`(\w+)`", option, message)
