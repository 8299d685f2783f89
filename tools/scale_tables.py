#!/usr/bin/env python3
"""The tables of docs/scale.md: hours of every table of the papers, and what benches measured.

scale_tables.py            # writes them between their markers
scale_tables.py --check    # fails where the page says something else
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "bench"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared.hours import hours

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "scale.md"


@functools.cache
def bench(name: str) -> dict[str, Any]:
    """The newest line of a bench."""
    text = (ROOT / "results" / "bench" / "bench.jsonl").read_text("utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line["name"] == name][-1]


def training() -> str:
    """A row a model: steps here and in plain SpeechBrain."""
    told = bench("training")
    lines = [
        "| Model | Plain SpeechBrain [ms] | Here [ms] | Ratio (least, most) | With bf16 [ms] | Ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, ratio in told["ratios"].items():
        plainly, here, short = (
            told["step_ms"][name][way]["median"] for way in ("plain", "bdlib", "bf16")
        )
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f}, {ratio['max']:.2f})"
        fast = told["ratios_bf16"][name]["median"]
        lines.append(
            f"| {name} | {plainly:.0f} | {here:.0f} | {spread} | {short:.0f} | {fast:.2f} |"
        )
    return "\n\n" + "\n".join(lines) + "\n\n"


def scaling() -> str:
    """A row an axis and work: exponent, and seconds at the largest size."""
    lines = ["| Work | Grows with | To | Exponent | Seconds there |", "|---|---|---:|---:|---:|"]
    for axis, told in bench("scaling")["axes"].items():
        for name, exponent in told["exponents"].items():
            most, seconds = max((int(n), s) for n, s in told["seconds"][name].items())
            cut = f" (cut: {told['cut'][name]:,})" if name in told["cut"] else ""
            lines.append(f"| {name} | {axis} | {most:,}{cut} | {exponent:.2f} | {seconds:.3g} |")
    return "\n\n" + "\n".join(lines) + "\n\n"


BLOCKS: dict[str, Callable[[], str]] = {"hours": hours, "training": training, "scaling": scaling}
"""What stands between `<!-- scale NAME:begin -->` and `<!-- scale NAME:end -->`."""


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail where it differs")
    check = parser.parse_args().check
    text = filled = PAGE.read_text("utf-8")
    for name, made in BLOCKS.items():
        begin, end = f"<!-- scale {name}:begin -->", f"<!-- scale {name}:end -->"
        before, between, rest = filled.partition(begin)
        if not between or end not in rest:
            print(f"error: {PAGE}: no {begin} with its {end}; add them", file=sys.stderr)
            return 1
        filled = f"{before}{begin}{made()}{end}{rest.partition(end)[2]}"
    if check and filled != text:
        print(f"error: {PAGE} differs from results; run tools/scale_tables.py", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(filled, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
