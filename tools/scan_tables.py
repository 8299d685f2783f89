"""The numbers of the scan in pages, made from their records."""

import itertools
import json
import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blocks import ROOT, Blocks

from bdlib.scanning.decide import MISLABELLED, NOTHING, POISONED

WANTED = {"clean": NOTHING, "small, clean": NOTHING, "noise": MISLABELLED}
"""The right verdict of a kind of trial; of all others it is `POISONED`."""
FILTERS = (
    *(None, "activation_clustering", "spectral_signatures", "spectre"),
    *("cleanlab_issues", "label_disagreement"),
)
NET = "keyword_resnet"

Line = dict[str, Any]


def read(path: str) -> list[Line]:
    """The records of a file of results."""
    return [json.loads(line) for line in (ROOT / "results" / path).read_text("utf-8").splitlines()]


def trials(half: str, kinds: Container[str] | None = None) -> str:
    """A half of the list as a table, or some kinds of it: a row a kind and rate."""
    rows = read(f"scan/{half}.jsonl")
    rows = [told for told in rows if kinds is None or told["trial"]["kind"] in kinds]
    lines = [
        f"| {half} | trials | right verdict | only the right class called | share found, mean (least) | clean clips flagged, mean (most) |",
        "|---|---:|---:|---:|---:|---:|",
    ]

    def key(told: Line) -> tuple[str, str, float]:
        return told["trial"]["kind"], told["trial"]["task"], -told["trial"].get("rate", 0)

    for (kind, task, rate), group in itertools.groupby(sorted(rows, key=key), key):
        lines.append(_row(f"{kind}, {task}{f', {-rate:g}' if rate else ''}", list(group)))
    return "\n\n" + "\n".join(lines) + "\n\n"


def _row(name: str, group: list[Line]) -> str:
    kind = group[0]["trial"]["kind"]
    right = sum(told["verdict"] == WANTED.get(kind, POISONED) for told in group)
    called = f"{sum(bool(told['called']) for told in group)} (none is right)"
    if kind not in WANTED:
        called = str(sum(map(_called, group)))
    found = [told["found"] / told["poisoned"] for told in group if told["poisoned"]]
    false = [told["clean_flagged"] / told["clean"] for told in group]
    shares = f"{np.mean(found):.3f} ({min(found):.3f})" if found else "–"
    return (
        f"| {name} | {len(group)} | {right} | {called} | {shares} | "
        f"{np.mean(false):.4f} ({max(false):.4f}) |"
    )


def moved(*names: str) -> str:
    """What labels alone say of triggers that the encoder hears, and what the scan says; a row a trigger."""
    rows = [told for name in names for told in read(f"scan/{name}.jsonl") if told["target"]]
    lines = [
        "| trigger | trials | class called by labels alone | poison found by them, mean (least) | class called | another called, too | poison found, mean (least) | range holds the count | its width by the count, median |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]

    def trigger(told: Line) -> str:
        trial = told["trial"]
        task = f"{trial['task']}, " if len(names) > 1 else ""
        loud = trial["kind"] == "clean label"  # of which there is a row a share, of all sounds
        return task + (f"ten sounds in {trial['rate']:g}" if loud else trial["trigger"])

    for name, group in itertools.groupby(sorted(rows, key=trigger), trigger):
        lines.append(_moved(name, list(group)))
    return "\n\n" + "\n".join([*lines, _moved("all", rows)]) + "\n\n"


def _moved(name: str, group: list[Line]) -> str:
    def shares(key: str) -> str:
        found = [told[key] / told["poisoned"] for told in group]
        return f"{np.mean(found):.3f} ({min(found):.3f})"

    named = [told["target"] in told["called"] for told in group]
    before = [told["target"] in told["called_by_labels"] for told in group]
    more = [bool(set(told["called"]) - {told["target"]}) for told in group]
    ranges = [(*told["ranges"].get(told["target"], (0, 0, 0)), told["poisoned"]) for told in group]
    held = sum(low <= true <= high for low, _, high, true in ranges)
    width = [(high - low) / true for low, _, high, true in ranges if high]
    wide = f"{np.median(width):.2f}" if width else "–"
    found = shares("found_by_labels"), sum(named), sum(more), shares("found"), held, wide
    cells = (name, len(group), sum(before), *found)
    return f"| {' | '.join(map(str, cells))} |"


def _called(told: Line) -> bool:
    return told["called"] == [told["target"]]


def ranges(name: str) -> str:
    """How often the verdict's "about how many" holds what is so, by kind, of the target class."""
    told = [line for line in read(f"scan/{name}.jsonl") if line["target"] and "ranges" in line]
    lines = [
        f"| {name} | trials | class called | range holds the count | count is below it | count is above it | width of the range by the count, median | clips told of those poisoned, mean (least, most) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]

    def kind(line: Line) -> str:
        return line["trial"]["kind"]

    for attack, group in itertools.groupby(sorted(told, key=kind), kind):
        lines.append(_ranged(attack, list(group)))
    return "\n\n" + "\n".join([*lines, _ranged("all together", told)]) + "\n\n"


def _ranged(name: str, group: list[Line]) -> str:
    said = [(*line["ranges"][line["target"]], line["poisoned"]) for line in group
            if line["target"] in line["ranges"]]  # fmt: skip
    below, above = (sum(true < low for low, _, _, true in said),
                    sum(true > high for _, _, high, true in said))  # fmt: skip
    about = [count / true for _, count, _, true in said]
    shares = f"{np.mean(about):.2f} ({min(about):.2f}, {max(about):.2f})" if about else "–"
    width = [(high - low) / true for low, _, high, true in said]
    wide = f"{np.median(width):.2f}" if width else "–"
    cells = (name, len(group), len(said), len(said) - below - above, below, above, wide, shares)
    return f"| {' | '.join(map(str, cells))} |"


def sizes() -> str:
    """What a whole scan takes as the corpus grows, of one core."""
    by = {(told["clips"], told["cached"]): told for told in read("bench/scan_size.jsonl")}
    lines = [
        "| clips | processor time [s] | a clip [ms] | again, from the cache [s] | most memory [MB] |",
        "|---:|---:|---:|---:|---:|",
    ]
    for clips in sorted({clips for clips, _ in by}):
        first, again = by[clips, False], by.get((clips, True))
        cells = (
            f"{clips:,}", f"{first['cpu_s']:.0f}", f"{1000 * first['cpu_s'] / clips:.1f}",
            f"{again['cpu_s']:.0f}" if again else "", f"{first['peak_memory_mb']:,}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n\n" + "\n".join(lines) + "\n\n"


def deep() -> str:
    """How well the slow second line ranks what the fast one does not see."""
    lines = [
        "| corpus | added sound | clips, altered | AUROC | within the class | processor time [s] |",
        "|---|---|---:|---:|---:|---:|",
    ]

    def place(told: Line) -> tuple[str, int, str]:
        return told["trial"]["kind"], told["trial"]["seed"], told["trial"]["trigger"]

    for told in sorted(read("scan/deep.jsonl"), key=place):
        trial = told["trial"]
        kind = "small" if trial["kind"].startswith("small") else "subset"
        cells = (
            f"{kind}, seed {trial['seed']}", trial["trigger"],
            f"{told['clips']:,}, {told['poisoned']}", f"{told['auroc']:.3f}",
            f"{told['auroc_in_class']:.3f}", f"{told['cpu_s']:.0f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n\n" + "\n".join(lines) + "\n\n"


def beside() -> str:
    """Judging embeddings beside cleanlab: the sizes of `tools/bench/scan.py`."""
    told = [line for line in read("bench/bench.jsonl") if line["name"] == "scan"][-1]
    sizes = {told["rows"]: {name: spent["median"] for name, spent in told["s"].items()}}
    sizes[told["ten_times"]["clips"]] = told["ten_times"]
    lines = [
        "| clips | scan [s] | cleanlab [s] | ratio |",
        "|---:|---:|---:|---:|",
        *(
            f"| {clips:,} | {s['scan']:.1f} | {s['cleanlab']:.1f} | {s['cleanlab'] / s['scan']:.1f} |"
            for clips, s in sizes.items()
        ),
    ]
    shares = told["intruders"]
    about = (
        "What is done with embeddings alone, the labels judged and outliers looked for, beside cleanlab "
        f"on the same made-up ones (`tools/bench/scan.py`, processor time): of the intruders the scan flags "
        f"{100 * shares['scan']['found']:.1f} %, cleanlab {100 * shares['cleanlab']['found']:.1f} %, of other clips "
        f"{100 * shares['scan']['clean_flagged']:.2f} and {100 * shares['cleanlab']['clean_flagged']:.2f} %."
    )
    return "\n\n" + about + "\n\n" + "\n".join(lines) + "\n\n"


def left() -> str:
    """What a net that is trained after a filter does, by attack; in parentheses without the trigger."""
    runs = [
        run for run in read("SpeechCommands.jsonl")
        if run["model"]["name"] == NET and run["experiment"] is None
        and run["dataset"]["scale"] == "subset" and run["attack"]
    ]  # fmt: skip
    by = {
        (run["attack"]["name"], json.dumps(run["attack"], sort_keys=True), run["seed"],
         (run["defense"] or {}).get("name")): run
        for run in runs
    }  # fmt: skip
    lines = [
        "| Attack | Seed | Filter | Poison removed | Clean clips removed | Triggered clips that obey | Clean test clips right |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    filtered = {about[:-1] for about in by if about[-1] == FILTERS[-1]}
    for about, name in itertools.product(sorted(filtered), FILTERS):
        if run := by.get((*about, name)):
            lines.append(_trained(run, name))
    return "\n\n" + "\n".join(lines) + "\n\n"


def _trained(run: Line, name: str | None) -> str:
    rates = run["metrics"]

    def count(metric: str, of: bool = False) -> str:
        rate = rates.get(metric)
        return (
            "" if rate is None else f"{rate['count']:,}" + (f" of {rate['total']:,}" if of else "")
        )

    floor = f" ({count('no_trigger_rate')})" if "no_trigger_rate" in rates else ""
    cells = [
        run["attack"]["name"], str(run["seed"]), f"`{name}`" if name else "none",
        count("filter_tpr", True), count("filter_fpr", True),
        count("attack_success_rate", True) + floor, count("clean_accuracy", True),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def sentence() -> str:
    """How often the confirmation half was called, for the first page."""
    rows = read("scan/confirmation.jsonl")
    kinds = [told["trial"]["kind"] for told in rows]
    attacks = [
        t
        for t, kind in zip(rows, kinds, strict=True)
        if kind not in WANTED and "clean label" not in kind
    ]
    innocent = [t for t, kind in zip(rows, kinds, strict=True) if kind in WANTED]
    return (
        f"{sum(map(_called, attacks))} of {len(attacks)} attacks by wrong labels, no other class beside it, and a class in "
        f"{sum(bool(told['called']) for told in innocent)} of {len(innocent)} clean or mislabelled corpora"
    )


def heard() -> str:
    """How often a class of voices was called whose trigger the encoder hears, for the first page."""
    rows = [told for told in read("scan/voices.jsonl") if told["target"]]
    named = sum(told["target"] in told["called"] for told in rows)
    found, poisoned = (sum(told[key] for told in rows) for key in ("found", "poisoned"))
    return f"{named} of {len(rows)} corpora, and {found:,} of {poisoned:,}"


BLOCKS: Blocks = {
    "docs/scan.md": {
        "confirmation": lambda: trials("confirmation"),
        "ranges": lambda: ranges("ranges"),
        "ranges of the confirmation": lambda: ranges("confirmation"),
        "voices": lambda: moved("voices"),
        "voices without": lambda: trials("voices", set(WANTED)),
        "loud": lambda: moved("loud", "loud_speakers"),
        "computed": lambda: moved("computed_words", "computed_speakers"),
        "sizes": sizes,
        "deep": deep,
        "left": left,
        "beside": beside,
    },
    "README.md": {"called": sentence, "heard": heard},
}
