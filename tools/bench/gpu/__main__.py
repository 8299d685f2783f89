"""Everything worth knowing from a GPU in ten minutes, most valuable first.

The peak of the device; what share of it trainings at published size take; MVJ beside its arithmetic;
EmoBack trainings an hour, several at a time; a step of every yaml; and with a corpus, trainings with
records for the time that is left. Each part is a process of its own with a limit of its own, and
leaves a line of JSON in `gpu.jsonl` of the output folder. The run can be cut off at any moment, and
goes on where it was: parts whose line says ok stand.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from gpu import parts, real
from gpu.processes import alone, way
from rich.console import Console
from rich.table import Table
from rich.text import Text
from shared import lines

from bdlib.cli.command import guarded
from bdlib.errors import InputError
from bdlib.records.provenance import source

LEAST = 5.0  # seconds; a part that has less is not begun


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="gpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument(
        "--quick", action="store_true", help="all of it small, within half a minute"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="at most (default: 10)")
    parser.add_argument("--output", type=Path, default=Path("exp/gpu"), help="default: exp/gpu")
    parser.add_argument("--data_folder", help="Speech Commands, for the trainings with records")
    return parser.parse_args()


class Look:
    """A run over the parts."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.path = args, args.output / "gpu.jsonl"
        self.until = time.monotonic() + 60 * args.minutes
        same = {"device_asked": args.device, "quick": args.quick}
        self.about = {"name": "gpu", **same}
        self.found = {
            line["part"]: line
            for line in lines.read(self.path)
            if line["status"] == "ok" and {key: line.get(key) for key in same} == same
        }

    @property
    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()

    def part(self, name: str, work: Callable[..., None], limit: float) -> None:
        """Measure one, unless it stands or there is no time.

        Raises
        ------
        InputError
            If it is the first and fails: then there is no such device.
        """
        if name in self.found or self.left < LEAST:
            return
        print(f"{name} ...", flush=True)
        stem, limit = self.args.output / name, min(limit, self.left)
        told = alone(work, self.args, stem, limit, way(self.args.device))
        self.found[name] = self.about | source() | {"part": name} | told
        lines.append(self.path, self.found[name])
        if name == "device" and told["status"] != "ok":
            raise InputError(f"--device={self.args.device}: {told.get('error', 'no answer')}")

    def table(self) -> Table:
        """What is known so far."""
        made = Table("part", "ended", "s", "what it says")
        for name, line in self.found.items():
            said = line.get("error") or line.get("says", "")
            made.add_row(*map(Text, (name, line["status"], f"{line['seconds']:.1f}", said)))
        return made


def main() -> None:
    """Command line."""
    args = options()
    args.output = args.output.resolve()
    args.data_folder = args.data_folder and str(Path(args.data_folder).resolve())
    args.output.mkdir(parents=True, exist_ok=True)
    look = Look(args)
    try:
        for name, (work, limit) in parts.measured(args.quick).items():
            look.part(name, work, limit)
        for name, (work, limit) in real.parts(args, look.found, look.left).items():
            look.part(name, work, limit)
    finally:
        Console().print(look.table())
        print(f"lines of JSON: {look.path}")


if __name__ == "__main__":
    with guarded():
        main()
