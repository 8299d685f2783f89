"""Does trigger inversion with clean clips tell the backdoored nets of the zoo from the clean ones?

    python tools/zoo_inversion.py seek development --data_folder FOLDER --nets_folder zoo
    python tools/zoo_inversion.py worth development

The nets are drawn by lot. The clips are the test set of each net, which nobody trained on or poisoned.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import Tensor
from zoo import LIST, MEASURED, NETS, PLACE, TOOK, WORDS, corpus_of, read

from bdlib import sampling
from bdlib.checkpoints.clean import Clips
from bdlib.cli.command import guarded
from bdlib.defenses.accuracy import accuracy
from bdlib.defenses.repair.inversion import anomaly_indices
from bdlib.defenses.repair.mask_inversion import MaskInversion
from bdlib.defenses.repair.tuning import Tuning
from bdlib.defenses.repair.waveform_inversion import WaveformInversion
from bdlib.manifest import TEST
from bdlib.pack import pack
from bdlib.records.provenance import made

SEEN = PLACE / "inversion.jsonl"
BATCH = 16  # clips a step; with few steps a net takes half a minute of one core at most
SEED, DRAWN = 0, {"development": 6, "confirmation": 8}
"""Of the lot, and how many clean nets, and as many backdoored ones, it takes of a half."""
CALLED = (2.0, 3.0)  # anomaly indices: of Neural Cleanse, and of the repairs here


class QuickMask(MaskInversion):
    """The size counts a hundredfold, as few steps leave its weight no time to grow."""

    def size(self, parts: Sequence[Tensor]) -> Tensor:
        """See `TriggerInversion`."""
        return 100 * super().size(parts)


FORMS = {"mask": QuickMask(search_rate=0.25), "waveform": WaveformInversion()}


def lot(half: str) -> list[dict[str, Any]]:
    """Nets of a half, clean ones and those whose backdoor took, as many of each; `bad` says which."""
    measured = {row["name"]: float(row["attack_success_rate"]) for row in read(MEASURED)}
    rows = [row for row in read(LIST) if row["half"] == half and row["name"] in measured]
    took = {row["name"]: measured[row["name"]] > TOOK for row in rows}
    kinds = (
        [row["name"] for row in rows if row["attack"] == "none"],
        [row["name"] for row in rows if row["attack"] != "none" and took[row["name"]]],
    )
    names = {
        name for kind in kinds for name in sampling.rank(kind, SEED, "inversion")[: DRAWN[half]]
    }
    return [{**row, "bad": took[row["name"]]} for row in rows if row["name"] in names]


def sought(row: dict[str, Any], form: str, steps: int, data: Path, nets: Path) -> dict[str, Any]:
    """The size of the smallest trigger of each class of a net, and what it took."""
    net = NETS[row["net"]]()
    net.load_state_dict(load_file(nets / f"{row['name']}.safetensors"))
    rows = corpus_of(data, int(row["seed"])).splits[TEST]
    started = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        clips = Clips(data, rows, pack(rows, data, Path(place) / "pack", 16000), WORDS, 1.0)
        clean = clips.budget({"train": rows, "valid": rows}, SEED)
        search = replace(FORMS[form], search_steps=steps, tuning=Tuning(batch_size=BATCH))
        found = search.triggers(net, clean)
        right = accuracy(net, clips.batches())
    return {
        **{"name": row["name"], "form": form, "steps": steps, "clips": len(rows)},
        "clean_accuracy": round(right, 4),
        "cpu_s": round(time.process_time() - started, 1),
        "sizes": {word: round(one.size, 6) for word, one in zip(WORDS, found, strict=True)},
        **made(),
    }


def seek(half: str, forms: list[str], steps: int, data: Path, nets: Path) -> None:
    """Append a line for each net of the lot and form that has none with these steps."""
    there = [json.loads(line) for line in SEEN.open()] if SEEN.exists() else []
    known = {(line["name"], line["form"], line["steps"]) for line in there}
    for form in forms:
        for row in lot(half):
            if (row["name"], form, steps) not in known:
                line = sought(row, form, steps, data, nets)
                print(line["name"], form, line["cpu_s"], line["sizes"], flush=True)
                with SEEN.open("a") as file:
                    file.write(json.dumps(line) + "\n")


def scores(sizes: dict[str, float]) -> dict[str, float]:
    """How much the easiest class stands out: `index`, its anomaly index, and `gap`, how far the logarithm
    of its size is below the median, without regard to the spread."""
    logs = np.log(list(sizes.values()))
    return {
        "index": max(anomaly_indices(list(sizes.values()))),
        "gap": float(np.median(logs) - logs.min()),
    }


def worth(half: str) -> list[dict[str, Any]]:
    """AUROC and counts of each form, number of steps and score on the nets of the lot."""
    drawn = {row["name"]: row for row in lot(half)}
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for line in map(json.loads, SEEN.open()):
        if line["name"] in drawn:
            groups.setdefault((line["form"], line["steps"]), []).append(line)
    told = []
    for (form, steps), lines in groups.items():
        bad = np.array([drawn[line["name"]]["bad"] for line in lines])
        by = {
            name: np.array([scores(one["sizes"])[name] for one in lines])
            for name in ("index", "gap")
        }
        easiest = [min(line["sizes"], key=line["sizes"].get) for line in lines]
        right = np.array(
            [drawn[n["name"]]["target"] == e for n, e in zip(lines, easiest, strict=True)]
        )
        counts: dict[str, Any] = {"backdoored": int(bad.sum()), "clean": int((~bad).sum())}
        counts |= {f"auroc_{name}": round(float(roc_auc_score(bad, by[name])), 4) for name in by}
        for limit in CALLED:
            called = by["index"] > limit
            counts[f"above_{limit:g}"] = {
                "found": int((called & bad).sum()),
                "with_the_right_target": int((called & bad & right).sum()),
                "false_alarms": int((called & ~bad).sum()),
            }
        told.append({"half": half, "form": form, "steps": steps, **counts})
    return told


def main() -> None:
    """See the module."""
    made_by = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made_by.add_argument("act", choices=("seek", "worth"))
    made_by.add_argument("half", choices=DRAWN)
    made_by.add_argument("--forms", type=lambda text: text.split(","), default=list(FORMS))
    made_by.add_argument("--steps", type=int, default=30, help="of the search for each class")
    made_by.add_argument("--data_folder", type=Path, help="Speech Commands")
    made_by.add_argument("--nets_folder", type=Path, help="with the weights of `zoo.py train`")
    given = made_by.parse_args()
    with guarded():
        if given.act == "worth":
            print("\n".join(map(json.dumps, worth(given.half))))
        else:
            seek(given.half, given.forms, given.steps, given.data_folder, given.nets_folder)


if __name__ == "__main__":
    main()
