"""``bdlib``: what can be done without a recipe, one subcommand each."""

import importlib
import sys

COMMANDS = {  # what is typed: the module whose `main` reads the rest of the line, and what it does
    "export": ("bdlib.cli.export", "write a checkpoint as safetensors with a model card"),
    "guard": ("bdlib.cli.guard", "classify clips with a checkpoint, and reject suspicious ones"),
    "mini": ("bdlib.mini.__main__", "make an offline corpus of synthetic speech"),
    "render": ("bdlib.cli.render", "render records into tables, figures and report.html"),
    "repair": ("bdlib.cli.repair", "repair a checkpoint with clean clips alone"),
    "scan": ("bdlib.cli.scan", "tell whether a corpus of speech is poisoned, and which clips"),
    "sweep": ("bdlib.cli.sweep", "run the cells of an experiment that have no record yet"),
}


def main() -> int | None:
    """Start the subcommand that the command line names; its module is imported only then.

    Returns
    -------
    int or None
        The exit status: what the subcommand's `main` returned, 1 for a name that is no
        subcommand, 2 for none.
    """
    name, *rest = sys.argv[1:] or [""]
    if name in ("", "-h", "--help"):
        print(_help())
        return 0 if name else 2
    if name not in COMMANDS:
        print(f"error: {name}: no such command; there are: {' '.join(COMMANDS)}", file=sys.stderr)
        return 1
    sys.argv = [f"bdlib {name}", *rest]  # argparse shows it as the name of the program
    return importlib.import_module(COMMANDS[name][0]).main()


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: bdlib COMMAND ...",
            "",
            *lines,
            "",
            "bdlib COMMAND --help shows the options of one. Training, poisoning and defending are",
            "programs of a recipe: recipes/<Dataset>/{train,poison,defend}.py.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
