#!/usr/bin/env python3
"""The tables of docs/scale.md: hours of every table of the papers, and what benches measured.

scale_tables.py            # writes them between their markers
scale_tables.py --check    # fails where the page says something else
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "bench"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blocks import ROOT, Blocks, main
from shared.hours import hours


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


BLOCKS: Blocks = {"docs/scale.md": {"hours": hours, "training": training, "scaling": scaling}}

if __name__ == "__main__":
    sys.exit(main(__doc__, "scale", BLOCKS))
