"""``bdlib inspect``: is this checkpoint backdoored, and to which class?"""

import sys
from collections.abc import Sequence

from bdlib.cli.answer import answer, shown
from bdlib.cli.repair import checkpoint_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Inspect, and say what was found; returns the exit status."""
    return answer(lambda: _inspect(arguments), ("model",))


def _inspect(arguments: Sequence[str] | None) -> int:
    made = checkpoint_parser(
        "inspect",
        "Is a checkpoint backdoored? One probability, from its weights alone, for small keyword nets. "
        "Exit status: 0 nothing found, 1 found, 2 error.",
    )
    given = made.parse_args(arguments)
    from bdlib.checkpoints.checkpoint import Checkpoint
    from bdlib.checkpoints.inspect import inspect

    result = inspect(Checkpoint.open(given.checkpoint, given.model))
    print(shown(result, given.json))
    return int(result.found)


if __name__ == "__main__":
    sys.exit(main())
