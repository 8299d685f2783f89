"""Does the rule by which `bdlib repair` chooses tell which repairs removed a backdoor?

Of the classifiers that `defend.py` repaired under an attack from all classes to one, it measures on clips of
a clean folder how far their answers moved, and reads the attack success rate from their scores. Beside that
stands `pull`, by which another rule would choose the least. Prints a line of JSON for each classifier.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
from pull import pulls
from scipy.stats import spearmanr

from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.checkpoints.clean import Clips, clean_clips
from bdlib.checkpoints.moved import answers, moved
from bdlib.cli.command import guarded
from bdlib.defenses.repair.tuning import affordable
from bdlib.errors import InputError
from bdlib.evaluation import scores
from bdlib.records.provenance import source, versions
from bdlib.training.checkpoints import read_weights

NONE = "none"
MAX_DROP = 0.05  # as in `bdlib repair`
HEARD = 24  # clips on which the pull is measured


def success(folder: Path, target: str) -> float:
    """Share of the triggered clips in the scores of a folder that are classified as the target."""
    paths = sorted(folder.glob("scores/triggered-*.jsonl"))
    if len(paths) != 1:
        raise InputError(
            f"{folder}: {len(paths)} files of scores of triggered clips; with none run defend.py "
            "again, of several leave that of one attack"
        )
    return float((scores.read(paths[0])["predicted"] == target).mean())


def pull(net: torch.nn.Module, clips: Clips, seed: int) -> float:
    """The furthest that one small change of all clips takes them to one class."""
    torch.manual_seed(seed)
    some = next(iter(clips.batches(None, HEARD, seed=seed)))
    with torch.no_grad():
        features = net.features(some.wavs, some.lens)
    return float(pulls(net, features, some.lens, range(len(clips.classes))).max())


def measured(training: Path, data: Path, target: str, seed: int) -> dict[str, Any]:
    """ASR, `moved` and pull of one training and of its repairs; those that lost channels are left out."""
    checkpoint = Checkpoint.open(training)
    nets: dict[str, dict[str, float]] = {}
    shapes = {k: v.shape for k, v in checkpoint.net.state_dict().items()}
    with clean_clips(data, checkpoint) as clips:
        before, labels = answers(checkpoint.net, clips.batches())
        right = (before.argmax(1) == labels).float()
        for folder in [training, *sorted(training.glob("guarded/*"))]:
            net = copy.deepcopy(checkpoint.net)
            if folder != training:
                if not (folder / "model.ckpt").exists():
                    continue  # a guard
                state = read_weights(folder / "model.ckpt", 10**9)
                if {k: v.shape for k, v in state.items()} != shapes:
                    continue
                net.load_state_dict(state)
            name = NONE if folder == training else folder.name.rpartition("-")[0]
            if name in nets:
                raise InputError(f"{folder}: {name} is there with other settings, too; keep one")
            now, _ = answers(net, clips.batches())
            kept = (now.argmax(1) == labels).float()
            nets[name] = {
                "attack_success_rate": round(success(folder, target), 4),
                "correct": int(kept.sum()),
                "affordable": affordable(right, kept, MAX_DROP),
                "moved": round(moved(before, now), 4),
                "pull": round(pull(net, clips, seed), 3),
            }
    repairs = {k: net for k, net in nets.items() if net["moved"] > 0 and net["affordable"]}
    if not repairs:
        raise InputError(
            f"{training}: no repair that changes it and keeps the accuracy; run defend.py"
        )
    least = min(repairs, key=lambda name: repairs[name]["attack_success_rate"])
    return {
        "training": training.name, "seed": seed, "clips": len(labels), "nets": nets, "lowest": least,
        "chosen": max(repairs, key=lambda name: repairs[name]["moved"]),
        "by_pull": min(repairs, key=lambda name: repairs[name]["pull"]),
        "rank_correlation": {
            rule: round(float(spearmanr(*zip(*((n[rule], n["attack_success_rate"])
                                               for n in nets.values()), strict=True))[0]), 3)
            for rule in ("moved", "pull")
        },
        "source": source(), "versions": versions(),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    line = argparse.ArgumentParser(description=__doc__)
    line.add_argument("trainings", type=Path, nargs="+", help="exp/train/<name>, with repairs")
    line.add_argument("--data", type=Path, required=True, help="clean clips, a folder a class")
    line.add_argument("--target", default="left", help="of the attack (default: %(default)s)")
    line.add_argument("--seed", type=int, default=0, help="draws the clips (default: %(default)s)")
    given = line.parse_args()
    with guarded():
        for training in given.trainings:
            told = measured(training, given.data, given.target, given.seed)
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
