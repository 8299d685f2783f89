"""A zoo of small checkpoints, clean and backdoored: can their weights alone tell which is which?

    python tools/zoo.py list                              # who is drawn; committed before the rest
    python tools/zoo.py train --data_folder FOLDER --output_folder zoo
    python tools/zoo.py signs --output_folder zoo         # of all nets that are there
    python tools/zoo.py fit                               # on the one half, told on the other

The data folder is Speech Commands (v0.02). Every net has clips, weights, and where there is one an
attack of its own. Half of the zoo, by lot, is for development, half for confirmation.
"""

import argparse
import csv
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from zoo_signs import SIGNS, Signs, signs

from bdlib import Corpus, listing, measure, sampling, train
from bdlib.attacks.labels import AllToOne, OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.trigger import Trigger
from bdlib.cli.command import guarded
from bdlib.features import NormalizedFbank, NormalizedMfcc
from bdlib.files import atomic, digest, write_json
from bdlib.models.classifier import SpeechClassifier
from bdlib.models.keyword import SmallResNet
from bdlib.models.small_nets import ConvNet
from bdlib.stages.document import common
from bdlib.stages.pack import Audio
from bdlib.stages.poisoned import Poisoned

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "results" / "zoo"
CALIBRATION = PLACE / "calibration.json"
CALLED = 0.5  # probability
LIST, MEASURED, SEEN = (PLACE / f"{name}.csv" for name in ("list", "measured", "signs"))
WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
CLEAN, POISONED = 44, 52  # some attacks fail: a net whose ASR is below `TOOK` is no backdoored one
TOOK = 0.5
ATTACKS = (
    *("clap", "whistle", "tone", "car_horn", "dog_clicker"),
    *("spectrogram_patch", "phase", "pbsm"),
)
CLIPS = 90  # of each word: 60 to train on, 10 to validate, 20 to test
SHARES = {"train": 6 / 9, "valid": 1 / 9, "test": 2 / 9}
NETS: dict[str, Callable[[], SpeechClassifier]] = {
    "smallcnn": lambda: ConvNet(NormalizedMfcc(40), len(WORDS)),
    "smallresnet": lambda: SmallResNet(NormalizedFbank(40), len(WORDS), (16, 32, 64), 1),
}
EPOCHS, BATCH = 10, 32


def drawn(seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the list: the same on every machine."""
    lot = np.random.Generator(np.random.PCG64(seed))
    rows = []
    for number in range(CLEAN + POISONED):
        row = {"net": str(lot.choice(list(NETS))), "seed": number, "attack": "none"}
        row |= {"labels": "", "source": "", "target": "", "rate": ""}
        source, target = (str(word) for word in lot.choice(WORDS, 2, replace=False))
        labels, share = str(lot.choice(["all_to_one", "one_to_one"])), lot.choice([0.05, 0.08])
        if number >= CLEAN:
            row |= {"attack": ATTACKS[number % len(ATTACKS)], "labels": labels, "target": target}
            row |= {"source": source if labels == "one_to_one" else "", "rate": float(share)}
        rows.append(row)
    for kind in (rows[:CLEAN], rows[CLEAN:]):
        order = lot.permutation(len(kind))
        for place, index in enumerate(order):
            kind[index] |= {"half": ("development", "confirmation")[place % 2], "turn": place}
    rows.sort(key=lambda row: (row.pop("turn"), row["attack"]))
    return [{"name": f"n{number:02}", **row} for number, row in enumerate(rows)]


def corpus_of(folder: Path, seed: int) -> Corpus:
    """The clips of one net."""
    entries = []
    for word in WORDS:
        names = sorted(path.name for path in (folder / word).glob("*.wav"))
        some = sampling.rank(names, seed, "zoo")[:CLIPS]
        entries += [{"path": f"{word}/{name}", "label": word} for name in some]
    splits = sampling.split(listing.from_files(folder, entries), SHARES, seed)
    return Corpus.of("zoo", digest([seed]), splits, Audio(folder, "zoo", 16000, 1.0, 1.0))


def attack_of(row: dict[str, str]) -> Poisoner | None:
    """The attack of a row; `rate` is a share of the training set."""
    if row["attack"] == "none":
        return None
    trigger = common("attacks", row["attack"]).part("trigger", Trigger)
    everyone = row["labels"] == "all_to_one"
    labels = AllToOne(row["target"]) if everyone else OneToOne(row["source"], row["target"])
    return Poisoner(trigger, labels, float(row["rate"]), "dataset", int(row["seed"]))


def trained(row: dict[str, str], folder: Path) -> tuple[SpeechClassifier, Poisoned, dict[str, Any]]:
    """One net, its corpus, and its rates."""
    torch.manual_seed(int(row["seed"]))
    untrained = NETS[row["net"]]()
    with tempfile.TemporaryDirectory() as place:
        poisoned = corpus_of(folder, int(row["seed"])).poison(attack_of(row), place)
        seed = int(row["seed"])
        net = train(untrained, poisoned, EPOCHS, BATCH, seed=seed, device="cpu")
        rates = measure(net, poisoned)
    return net, poisoned, {name: value["value"] for name, value in rates.items()}


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """A table."""
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def train_all(folder: Path, output: Path) -> None:
    """Train what is not there yet, and note the rates beside the weights."""
    output.mkdir(parents=True, exist_ok=True)
    for row in read(LIST):
        path = output / f"{row['name']}.safetensors"
        if path.exists():
            continue
        net, _, rates = trained(row, folder)
        done = {"name": row["name"], "clean_accuracy": round(rates["clean_accuracy"], 4)}
        done["attack_success_rate"] = round(rates.get("attack_success_rate", 0.0), 4)
        write(output / f"{row['name']}.csv", [done])
        with atomic(path) as temporary:
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, temporary)
        print(done, flush=True)
    write(MEASURED, [read(path)[0] for path in sorted(output.glob("n*.csv"))])


def look(output: Path) -> None:
    """The signs of the nets that are there."""
    rows = read(SEEN)
    seen = {row["name"] for row in rows}
    for row in read(LIST):
        path = output / f"{row['name']}.safetensors"
        if row["name"] in seen or not path.exists():
            continue
        net = NETS[row["net"]]()
        net.load_state_dict(load_file(path))
        found = signs(net.eval(), len(WORDS), 16000, 1.0)
        values = {name: round(value, 5) for name, value in found.values.items()}
        rows.append({"name": row["name"], "target": WORDS[found.target], **values})
        write(SEEN, rows)


def halves() -> dict[str, list[dict[str, Any]]]:
    """By half, the nets that are clean or whose backdoor took, with all that is known of them."""
    measured, seen = ({row["name"]: row for row in read(path)} for path in (MEASURED, SEEN))
    found: dict[str, list[dict[str, Any]]] = {"development": [], "confirmation": []}
    for row in read(LIST):
        if row["name"] not in measured or row["name"] not in seen:
            continue
        clean = row["attack"] == "none"
        if not clean and float(measured[row["name"]]["attack_success_rate"]) < TOOK:
            continue
        told = seen[row["name"]]
        values = {name: float(told[name]) for name in SIGNS}
        right = told["target"] == row["target"]
        found[row["half"]].append(
            {**row, "signs": Signs(values, 0), "bad": not clean, "right": right}
        )
    return found


def fit() -> None:
    """Logistic regression on one half, and what it is worth on both."""
    nets = halves()
    table = np.array([[n["signs"].values[s] for s in SIGNS] for n in nets["development"]])
    bad = [net["bad"] for net in nets["development"]]
    mean, deviation = table.mean(0), table.std(0).clip(1e-6)
    made = LogisticRegression(class_weight="balanced").fit((table - mean) / deviation, bad)
    told = {
        "mean": mean.round(5).tolist(),
        "deviation": deviation.round(5).tolist(),
        "weights": made.coef_[0].round(5).tolist(),
        "bias": round(float(made.intercept_[0]), 5),
    }
    told |= {half: worth(rows, told) for half, rows in nets.items()}
    write_json(CALIBRATION, told)
    print(json.dumps({half: told[half] for half in nets}, indent=2))


def probability(found: Signs, calibration: dict[str, Any]) -> float:
    """Logistic regression on standardised signs."""
    height = calibration["bias"]
    parts = zip(
        SIGNS, calibration["mean"], calibration["deviation"], calibration["weights"], strict=True
    )
    for name, mean, deviation, weight in parts:
        height += weight * (found.values[name] - mean) / deviation
    return 1 / (1 + math.exp(-height))


def worth(rows: list[dict[str, Any]], calibration: dict[str, Any]) -> dict[str, Any]:
    """AUROC and counts of one half."""
    chances = [probability(row["signs"], calibration) for row in rows]
    called = [chance >= CALLED for chance in chances]
    bad = [row["bad"] for row in rows]
    found = [row for row, call in zip(rows, called, strict=True) if row["bad"] and call]
    return {
        "clean": len(bad) - sum(bad),
        "backdoored": sum(bad),
        "auroc": round(float(roc_auc_score(bad, chances)), 4),
        "false_alarms": sum(c and not b for c, b in zip(called, bad, strict=True)),
        "found": len(found),
        "with_the_right_target": sum(row["right"] for row in found),
        "missed": sorted(
            row["attack"] for row, c in zip(rows, called, strict=True) if row["bad"] and not c
        ),
    }


def main() -> None:
    """See the module."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("act", choices=("list", "train", "signs", "fit"))
    made.add_argument("--data_folder", type=Path)
    made.add_argument("--output_folder", type=Path, default=Path("zoo"))
    given = made.parse_args()
    with guarded():
        if given.act == "list":
            write(LIST, drawn())
        elif given.act == "train":
            train_all(given.data_folder, given.output_folder)
        elif given.act == "signs":
            look(given.output_folder)
        else:
            fit()


if __name__ == "__main__":
    main()
