"""How cost grows with clips, classes and views: exponents fitted to the processor's seconds.

Packing, an epoch of training, scoring, and filters, over made-up clips up to `clips`, each at sizes
that grow by four; the exponent is the slope of the logarithms over the upper half of the sizes, where
what a call costs by itself counts least. 1 is a cost in proportion, 2 its square. Clips are a tenth of
a second and networks tiny: that changes what a clip costs, and not how often it is paid. Filters get
activations. Classes grow at equal clips, views at equal clips of growing length. `bytes_a_clip` is
what the memory of the process gains by a clip, of files that are mapped not counted. What would take
longer than `LONGEST` is cut, and said in `cut`. The last line is one JSON object.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
import soundfile
import torch
from shared.timing import facts, options
from shared.trainers import RATE

from bdlib.cli.command import guarded
from bdlib.corpus import Batches
from bdlib.defenses.crowded import Crowds
from bdlib.defenses.disagreement import judge
from bdlib.defenses.displaced import Space
from bdlib.defenses.filters.activation_clustering import ActivationClustering
from bdlib.defenses.filters.scan import contamination, shared_covariance
from bdlib.defenses.filters.spectral_signatures import spectral_ranks
from bdlib.defenses.filters.spectre import Spectre
from bdlib.evaluation.scores import score
from bdlib.features import NormalizedFbank
from bdlib.models.keyword import SmallResNet
from bdlib.models.wide_resnet import WideResNet
from bdlib.pack import Pack, pack
from bdlib.training.classifier_brain import ClassifierBrain, Training, loader

Work = Callable[[], object]
FILES, SECONDS, CLASSES, WIDTH = 64, 0.1, 6, 64
BATCH, STEP = 64, 4
LONGEST = 100.0  # seconds; of the next size, foreseen by the exponent so far
SIZES = {
    "quick": {"clips": 4096, "classes": 24, "views": 16},
    "cpu": {"clips": 100_000, "classes": 512, "views": 640},
}


def sizes(most: int, count: int) -> list[int]:
    """`most` and what is left of it by dividing by `STEP`, rising."""
    return sorted(round(most / STEP**n) for n in range(count))


def embeddings(clips: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations (clips, WIDTH) in classes that overlap, and labels; one clip in 50 has a wrong one."""
    generator = np.random.Generator(np.random.PCG64(0))
    truth = np.arange(clips) % classes
    middles = 3 * generator.standard_normal((classes, WIDTH), np.float32)
    rows = middles[truth] + generator.standard_normal((clips, WIDTH), np.float32)
    wrong = generator.random(clips) < 0.02
    labels = np.where(wrong, generator.integers(0, classes, clips), truth)
    return rows, np.char.mod("%05d", labels)


def filters(clips: int, classes: int) -> dict[str, Work]:
    """What filters do once they have activations; `displaced_clips` without `label_disagreement`."""
    rows, labels = embeddings(clips, classes)
    names, given = np.unique(labels, return_inverse=True)

    def displaced() -> None:
        Space(rows, given, len(names)).margins()
        Crowds(rows, given, len(names)).find()

    return {
        "activation_clustering": lambda: ActivationClustering().suspicion(rows, labels),
        "spectral_signatures": lambda: spectral_ranks(rows, labels),
        "spectre": lambda: Spectre().suspicion(rows, labels),
        "scan": lambda: contamination(rows, labels, shared_covariance(rows, labels)[1], {}),
        "label_disagreement": lambda: judge(rows, labels, 0),
        "displaced_clips": displaced,
    }


def manifest(folder: Path, clips: int, classes: int = CLASSES) -> pd.DataFrame:
    """Rows over a few files, which are read again and again."""
    folder.mkdir(exist_ok=True)
    generator = np.random.Generator(np.random.PCG64(0))
    length = round(SECONDS * RATE)
    for number in range(FILES):
        noise = 0.1 * generator.standard_normal(length)
        soundfile.write(folder / f"{number}.wav", noise, RATE, subtype="PCM_16")
    return pd.DataFrame(
        {
            "ID": [f"clip{n:06}" for n in range(clips)],
            "wav": [f"$data_root/{n % FILES}.wav" for n in range(clips)],
            "label": [f"{n % classes:05}" for n in range(clips)],
            "start": 0, "stop": length, "rate": RATE, "duration": SECONDS,
        }
    )  # fmt: skip


def walk(clips: int, folder: Path) -> Iterator[tuple[str, Work]]:
    """Stages of a walk, each over what the one before made."""
    rows, made = manifest(folder / "wavs", clips), folder / f"pack{clips}"
    yield "packing", lambda: pack(rows, folder / "wavs", made, RATE)
    yield from learning(Pack.open(made), rows, CLASSES, folder)


def learning(
    made: Pack, rows: pd.DataFrame, classes: int, folder: Path
) -> Iterator[tuple[str, Work]]:
    """An epoch of training, and scoring after it."""
    names = [f"{n:05}" for n in range(classes)]
    train = Batches(made, rows, names, BATCH, SECONDS, seed=0)
    net = SmallResNet(NormalizedFbank(8), classes, (8,), 1)
    how = Training(
        1, BATCH, torch.optim.Adam, 1, 0, math.inf, lambda step, total: 1e-4,
        torch.nn.functional.cross_entropy,
    )  # fmt: skip
    brain = ClassifierBrain(net, how, train, folder / "exp", 0, {"device": "cpu"})
    yield "training", lambda: brain.fit(range(1, 2), loader(train), progressbar=False)
    test = Batches(made, rows, names, BATCH, SECONDS)
    yield "scoring", lambda: score(net, test, names, folder / "scores.jsonl")


def views(count: int) -> dict[str, Work]:
    """Clips of as many views as asked for, in one pass forward, and back."""
    torch.manual_seed(0)
    net = WideResNet(NormalizedFbank(8), CLASSES, 10, 1)
    features = torch.randn(4, net.view_frames + count - 1, 8)

    def passed() -> None:
        net.zero_grad()
        net.join(net.view_logits(features)).sum().backward()

    return {"pass": passed}


def anonymous() -> int:
    """Bytes of this process that are of no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


def spent(work: Work) -> float:
    """Seconds of the processor; of what is short, the mean of several."""
    began, calls = process_time(), 0
    while (seconds := process_time() - began) < 0.05 or not calls:
        work()
        calls += 1
    return seconds / calls


class Growth:
    """Seconds by work and size, until a work would take too long."""

    def __init__(self, axis: str) -> None:
        self.axis, self.seconds, self.cut = axis, {}, {}

    def take(self, size: int, name: str, work: Work) -> None:
        """Measure a work at a size, or note that it was cut."""
        known = self.seconds.setdefault(name, {})
        if name in self.cut or (len(known) > 1 and self._foreseen(known, size) > LONGEST):
            self.cut.setdefault(name, size)
            return
        known[size] = round(spent(work), 4)

    def _foreseen(self, known: dict[int, float], size: int) -> float:
        last = max(known)
        return known[last] * (size / last) ** max(1.0, exponent(known))

    def report(self) -> dict:
        """Exponents, seconds, and from which size on what was cut."""
        told = {"exponents": {name: exponent(known) for name, known in self.seconds.items()}}
        return told | {"seconds": self.seconds, "cut": self.cut}


def exponent(known: dict[int, float]) -> float:
    """Slope of the logarithms over the upper half of the sizes (two at least)."""
    upper = sorted(known)[min(len(known) // 2, len(known) - 2) :]
    return round(float(np.polyfit(np.log(upper), np.log([known[n] for n in upper]), 1)[0]), 3)


def measure(args: argparse.Namespace, folder: Path) -> dict:
    """All figures for the sizes asked for."""
    clips, classes, seen = Growth("clips"), Growth("classes"), Growth("views")
    memory: dict[str, dict[int, int]] = {}
    count = 2 if args.quick else 4
    for size in sizes(args.clips, count):
        for name, work in walk(size, folder):
            before = anonymous()
            clips.take(size, name, work)
            memory.setdefault(name, {})[size] = anonymous() - before
        for name, work in filters(size, CLASSES).items():
            clips.take(size, name, work)
    few = args.clips // STEP  # clips
    made = Pack.open(folder / f"pack{sizes(args.clips, count)[-2]}")
    for size in sizes(args.classes, min(count, 3)):
        for name, work in filters(few, size).items():
            classes.take(size, name, work)
        rows = manifest(folder / "wavs", few, size)
        for name, work in learning(made, rows, size, folder):
            classes.take(size, name, work)
    for size in sizes(args.views, count):
        for name, work in views(size).items():
            seen.take(size, name, work)
    told = {growth.axis: growth.report() for growth in (clips, classes, seen)}
    worst = max(told["clips"]["exponents"].items(), key=lambda pair: pair[1])
    return {
        "name": "scaling",
        "ratio": worst[1],
        "over": f"the largest exponent in clips, of {worst[0]}",
        "axes": told,
        "bytes_a_clip": {name: round(held[max(held)] / max(held)) for name, held in memory.items()},
    }


def main() -> None:
    """Command line."""
    args = options(__doc__, SIZES)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(args, Path(folder)) | vars(args) | facts("cpu")))


if __name__ == "__main__":
    with guarded():
        main()
