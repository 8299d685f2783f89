#!/usr/bin/env python3
"""How well `bdlib scan --deep` ranks poison with clean labels: one line of JSON a trial.

    scan_deep.py --words FOLDER         # appends to results/scan/deep.jsonl

The trials are `deep` of tools/scan_trials.yaml; one that has its line is not tried again.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scan_trials import LIST, RESULTS, Corpus, made
from sklearn.metrics import roc_auc_score

from bdlib.records.provenance import source
from bdlib.scanning.deep import look
from bdlib.scanning.scan import versions


def listed() -> Iterator[dict[str, Any]]:
    """The trials, as those of scan_trials.py."""
    plan = yaml.safe_load(LIST.read_text())["deep"]
    for kind, seeds in plan["seeds"].items():
        for seed in seeds:
            for trigger in plan["triggers"]:
                trial = {"kind": kind, "task": "words", "trigger": trigger, "rate": plan["rate"]}
                of_subset = {} if kind.startswith("small") else {"target": plan["target"]}
                yield trial | of_subset | {"seed": seed}


def tried(trial: dict[str, Any], corpus: Corpus) -> dict[str, Any]:
    """What the ranking is worth, beside the truth; the area under the curve within the class, too."""
    (rows, altered, bad), target = made(trial, corpus)
    heard = corpus.heard(rows, altered)
    started = time.process_time()
    looked = look(heard, quiet=True)
    wrong, own = np.array([name in bad for name in rows["ID"]]), heard.labels == target
    return {
        "clips": len(rows),
        "poisoned": int(wrong.sum()),
        "target": target,
        "auroc": round(float(roc_auc_score(wrong, looked.clips)), 3),
        "auroc_in_class": round(float(roc_auc_score(wrong[own], looked.clips[own])), 3),
        "classes": looked.classes,
        "cpu_s": round(time.process_time() - started, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--words", type=Path, required=True, help="Speech Commands")
    parser.add_argument("--cache", type=Path, help="folder of embeddings")
    given, path = parser.parse_args(), RESULTS / "deep.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = [json.loads(line)["trial"] for line in lines]
    corpus, command = Corpus("words", given.words, given.cache), "python tools/scan_deep.py"
    for trial in (trial for trial in listed() if trial not in done):
        told = {"trial": trial, **tried(trial, corpus)}
        told |= {"command": command, **source(), "versions": versions()}
        with path.open("a") as file:
            file.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
