"""The tables of docs/scale.md and docs/hours.md: hours of every table of the papers, and what benches measured."""

import functools
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "bench"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blocks import ROOT, Blocks
from shared.hours import hours


@functools.cache
def told_by(file: str, name: str) -> list[dict[str, Any]]:
    """All of a bench, the newest last."""
    text = (ROOT / "results" / "bench" / f"{file}.jsonl").read_text("utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line["name"] == name]


def bench(name: str) -> dict[str, Any]:
    """The newest line."""
    return told_by("bench", name)[-1]


def gpu() -> str:
    """A row a model: its training step on a GPU."""
    rows = [
        "| Model | Clips a step | Step [ms] | Clips a second | Share of the matrix product [%] | Memory [GB] |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    parts = {line["part"]: line for line in told_by("gpu", "gpu")}
    for part, told in parts.items():
        if part.startswith("throughput_"):
            rows.append(
                f"| {part.removeprefix('throughput_')} | {told['batch_size']} | {1000 * told['step_s']:.1f} | "
                f"{told['clips_per_s']:,.0f} | {100 * told['share_of_matmul_peak']:.1f} | "
                f"{told['peak_memory_mb'] / 1024:.1f} |"
            )
    peak, device = parts["peak"], parts["device"]
    about = (
        f"{device['device']}, torch {device['versions']['torch']}; the matrix product has "
        f"{peak['bf16_tflops']:.0f} TFLOP/s, a copy of memory {peak['copy_gb_per_s']:,.0f} GB/s read and written."
    )
    return "\n\n" + "\n".join(rows) + f"\n\n{about}\n\n"


def langevin() -> str:
    """A row a size: a step of MVJ with Langevin steps that are recorded, and without."""
    rows = [
        "| Net | Precision | Clips a step | Langevin steps | Told one by one [ms] | Recorded [ms] | Ratio (least, most) |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for told in told_by("bench", "jem"):
        if "recording_saves" not in told:
            continue  # of a CPU
        each, played = (told["ms"][name]["median"] for name in ("mvj_unrecorded", "mvj"))
        saved = told["recording_saves"]
        rows.append(
            f"| WideResNet-{told['depth']}-{told['width']} | {'bf16' if told['bf16'] else 'fp32'} | "
            f"{told['batch_size']} | {told['steps']} | {each:.1f} | {played:.1f} | "
            f"{saved['median']:.2f} ({saved['min']:.2f}, {saved['max']:.2f}) |"
        )
    return "\n\n" + "\n".join(rows) + "\n\n"


def training() -> str:
    """A row a model: steps here and in plain SpeechBrain."""
    told = bench("training")
    lines = [
        "| Model | Plain SpeechBrain [ms] | Here [ms] | Ratio (least, most) | With bf16 [ms] | Ratio "
        "| Front end [%] | Convolutions [%] | Batch normalisation [%] |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, ratio in told["ratios"].items():
        plainly, here, short = (
            told["step_ms"][name][way]["median"] for way in ("plain", "bdlib", "bf16")
        )
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f}, {ratio['max']:.2f})"
        fast = told["ratios_bf16"][name]["median"]
        heard, kinds = told["front_end"][name]["median"], told["kinds"][name]
        parts = (heard, kinds["convolution"], kinds["batch_norm"])
        lines.append(
            f"| {name} | {plainly:.0f} | {here:.0f} | {spread} | {short:.0f} | {fast:.2f} | "
            + " | ".join(f"{100 * part:.1f}" for part in parts)
            + " |"
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


BLOCKS: Blocks = {
    "docs/hours.md": {"hours": hours},
    "docs/scale.md": {
        "gpu": gpu,
        "langevin": langevin,
        "training": training,
        "scaling": scaling,
    },
}
