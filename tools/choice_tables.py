"""The table of docs/checkpoints.md: what the rule of `bdlib repair` chose, by lines of tools/choice.py."""

import json
from statistics import fmean

from blocks import ROOT, Blocks

DEVELOPMENT = ("clap", "phase", "spectrogram_patch")  # in sight while the rule was made


def choices() -> str:
    """A row an attack: of its repairs the chosen and the best one, and that of the earlier rule."""
    text = (ROOT / "results" / "zoo" / "choice.jsonl").read_text("utf-8")
    newest = {told["training"]: told for told in map(json.loads, text.splitlines())}
    lines = [
        "| Attack | In sight before | Repairs | Chosen | ASR left [%] | Least [%] | Mean [%] | By the earlier rule [%] | Rank correlation |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for training, told in newest.items():
        attack, nets = training.split("-")[1], told["nets"]
        fit = {k: net for k, net in nets.items() if net["affordable"] and net["moved"] > 0}
        left = {name: 100 * net["attack_success_rate"] for name, net in fit.items()}
        shown = [
            left[told["chosen"]],
            min(left.values()),
            fmean(left.values()),
            left[told["by_pull"]],
        ]
        lines.append(
            f"| {attack.replace('_', ' ')} | {'yes' if attack in DEVELOPMENT else 'no'} | {len(fit)} | "
            f"`{told['chosen']}` | {' | '.join(f'{value:.0f}' for value in shown)} | "
            f"{told['rank_correlation']['moved']:.2f} |"
        )
    return "\n\n" + "\n".join(lines) + "\n\n"


BLOCKS: Blocks = {"docs/checkpoints.md": {"rule": choices}}
