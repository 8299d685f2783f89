"""What the recommended filter does to attacks that a version of it had not met, in pages."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from blocks import ROOT, Blocks

FILTER = "displaced_clips"
DATASETS = "RAVDESS", "SpeechCommands"
LABELS = {"OneToOne": "one to one", "CleanLabelHard": "clean label, hard clips"}
LAST = {"keywords": ("clean_labels", "few"), "speakers": ("anywhere",)}
Metrics = dict[str, Any]


def table(experiment: str, by: str) -> str:
    """A row an attack; its cells, which are `by` seed or target, sorted by both."""
    lines = [
        f"| attack | undefended: ASR, mean [%] | clean accuracy [%] | filtered: ASR, mean [%] | by {by} | poisoned clips that stay, by {by} | clean accuracy [%] |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for attack, (none, kept, keys) in cells(experiment).items():
        names = [f" ({target})" if by == "target" else "" for _, target in keys]
        told = zip(kept, names, strict=True)
        each = ", ".join(f"{100 * m['attack_success_rate']['value']:.1f}{name}" for m, name in told)
        stay = ", ".join(str(m["filter_fn"]["value"]) for m in kept)
        (asr, clean), (left, right) = _means([none]), _means([kept])
        lines.append(f"| {attack} | {asr} | {clean} | {left} | {each} | {stay} | {right} |")
    (asr, clean), (left, right) = map(_means, by_attack(experiment))
    lines.append(f"| all attacks | {asr} | {clean} | {left} |  |  | {right} |")
    return "\n\n" + "\n".join(lines) + "\n\n"


def adaptive() -> str:
    """A row an attack of somebody who knows the filter, the fewest poisoned clips last; of the first seed."""
    lines = [
        "| attack | labels | from, to | poisoned clips | undefended: ASR [%] | filtered: ASR [%] | poisoned clips that stay |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    found: dict[tuple[str, str, str, int], dict[str | None, Metrics]] = {}
    for run in runs("adaptive"):
        told = run["attack"]
        policy = told["labels"]["type"].rpartition(".")[2]
        where = " to ".join(f"`{name}`" for name in (told["source"], told["target"]) if name)
        if run["seed"] == 0:
            kind = told["name"], LABELS[policy], where, told["poisoned"]
            found.setdefault(kind, {})[(run["defense"] or {}).get("name")] = run["metrics"]
    for kind, by in sorted(found.items(), key=lambda item: (item[0][1], -item[0][3], item[0][0])):
        rates = [f"{100 * by[name]['attack_success_rate']['value']:.1f}" for name in (None, FILTER)]
        cells = (*kind, *rates, by[FILTER]["filter_fn"]["value"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n\n" + "\n".join(lines) + "\n\n"


def clips() -> str:
    """What came of the attacks that the filter met last, as counts of clips, for the first page."""
    told = []
    for among, experiments in LAST.items():
        sides = [by_attack(experiment) for experiment in experiments]
        none, kept = (
            [run["attack_success_rate"] for side in sides for some in side[which] for run in some]
            for which in (0, 1)
        )
        before, after = (sum(rate["count"] for rate in rates) for rates in (none, kept))
        asked = sum(rate["total"] for rate in kept)
        told.append(
            f"of {asked:,} triggered clips of {among} {after:,} obey, undefended {before:,}"
        )
    return "; ".join(told)


def runs(experiment: str) -> Iterator[dict[str, Any]]:
    """The records of an experiment."""
    files = [(ROOT / f"results/{name}.jsonl").read_text("utf-8") for name in DATASETS]
    told = map(json.loads, "".join(files).splitlines())
    return (run for run in told if run["experiment"] == experiment)


def cells(experiment: str) -> dict[str, tuple[list[Metrics], list[Metrics], list[tuple[int, str]]]]:
    """Metrics of the undefended and of the filtered nets, by attack, and their seeds and targets.

    Raises
    ------
    ValueError
        If the two of a cell heard different sounds, as a trigger that is learned may be another one.
    """
    found: dict[str, dict[tuple, dict[str | None, Metrics]]] = {}
    heard: dict[tuple, str] = {}
    for run in runs(experiment):
        told = run["attack"]
        attack = told["labels"].get("value") or told["name"]
        cell = attack, run["seed"], told["target"]
        if heard.setdefault(cell, told["heard"]) != told["heard"]:
            raise ValueError(f"{experiment}: nets of {cell} heard different sounds; run them again")
        pair = found.setdefault(attack, {}).setdefault((run["seed"], told["target"]), {})
        pair[(run["defense"] or {}).get("name")] = run["metrics"]
    return {
        attack: (
            *([pairs[key][name] for key in sorted(pairs)] for name in (None, FILTER)),
            sorted(pairs),
        )
        for attack, pairs in found.items()
    }


def by_attack(experiment: str) -> list[list[list[Metrics]]]:
    """The undefended, and the filtered: a list of cells an attack."""
    none, kept, _ = zip(*cells(experiment).values(), strict=True)
    return [list(none), list(kept)]


def _means(attacks: list[list[Metrics]]) -> list[str]:
    """Of ASR and clean accuracy, in percent: over attacks, of each over its cells."""
    names = "attack_success_rate", "clean_accuracy"
    means = [[np.mean([run[name]["value"] for run in some]) for some in attacks] for name in names]
    return [f"{100 * np.mean(over):.1f}" for over in means]


BLOCKS: Blocks = {
    "docs/leaderboard.md": {"adaptive": adaptive},
    "docs/displaced_clips.md": {
        "attacks": lambda: table("fresh", "seed"),
        "targets": lambda: table("targets", "target"),
        "clean labels": lambda: table("clean_labels", "target"),
        "shared sounds": lambda: table("shared_sounds", "target"),
        "few": lambda: table("few", "target"),
        "anywhere": lambda: table("anywhere", "target"),
        "heard": lambda: table("heard", "seed"),
    },
    "README.md": {"clips": clips},
}
