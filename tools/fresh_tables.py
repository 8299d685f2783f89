#!/usr/bin/env python3
"""What the recommended filter does to attacks that a version of it had not met, in pages.

fresh_tables.py            # writes it between its markers
fresh_tables.py --check    # fails where a page says something else
"""

import json
import sys
from typing import Any

import numpy as np
from blocks import ROOT, Blocks, main

FILTER = "displaced_clips"
DATASETS = "RAVDESS", "SpeechCommands"
Metrics = dict[str, Any]


def table(experiment: str, by: str) -> str:
    """A row an attack; its cells, which are `by` seed or target, sorted by both."""
    lines = [
        f"| attack | undefended: ASR, mean [%] | clean accuracy [%] | filtered: ASR, mean [%] | by {by} | poisoned clips that stay, by {by} | clean accuracy [%] |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for attack, (none, kept) in cells(experiment).items():
        each = ", ".join(f"{100 * m['attack_success_rate']['value']:.1f}" for m in kept)
        stay = ", ".join(str(m["filter_fn"]["value"]) for m in kept)
        (asr, clean), (left, right) = _means(none), _means(kept)
        lines.append(f"| {attack} | {asr} | {clean} | {left} | {each} | {stay} | {right} |")
    (asr, clean), (left, right) = map(_means, in_all(experiment))
    lines.append(f"| all | {asr} | {clean} | {left} |  |  | {right} |")
    return "\n\n" + "\n".join(lines) + "\n\n"


def clips(experiment: str) -> str:
    """The same as counts of clips, for the first page."""
    (asked, before), (_, after) = (
        [sum(m["attack_success_rate"][what] for m in side) for what in ("total", "count")]
        for side in in_all(experiment)
    )
    return f"{after:,} of {asked:,} triggered clips obey, undefended {before:,}"


def cells(experiment: str) -> dict[str, tuple[list[Metrics], list[Metrics]]]:
    """Metrics of the undefended and of the filtered nets, by attack; pairs of the same seed and target."""
    found: dict[str, dict[tuple, dict[str | None, Metrics]]] = {}
    files = [(ROOT / f"results/{name}.jsonl").read_text("utf-8") for name in DATASETS]
    for run in map(json.loads, "".join(files).splitlines()):
        if run["experiment"] == experiment:
            told = run["attack"]
            attack = told["labels"].get("value") or told["name"]
            pair = found.setdefault(attack, {}).setdefault((run["seed"], told["target"]), {})
            pair[(run["defense"] or {}).get("name")] = run["metrics"]
    return {
        attack: tuple([pairs[key][name] for key in sorted(pairs)] for name in (None, FILTER))
        for attack, pairs in found.items()
    }


def in_all(experiment: str) -> tuple[list[Metrics], ...]:
    """All of the undefended, and all of the filtered."""
    sides = zip(*cells(experiment).values(), strict=True)
    return tuple([m for side in attacks for m in side] for attacks in sides)


def _means(runs: list[Metrics]) -> list[str]:
    """Of ASR and clean accuracy, in percent."""
    names = "attack_success_rate", "clean_accuracy"
    return [f"{100 * np.mean([run[name]['value'] for run in runs]):.1f}" for name in names]


BLOCKS: Blocks = {
    "docs/leaderboard.md": {
        "attacks": lambda: table("fresh", "seed"),
        "targets": lambda: table("targets", "target"),
        "clean labels": lambda: table("clean_labels", "target"),
    },
    "README.md": {"clips": lambda: clips("targets")},
}

if __name__ == "__main__":
    sys.exit(main(__doc__, "fresh", BLOCKS))
