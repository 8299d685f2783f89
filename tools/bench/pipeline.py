"""Utterances a second of packed loading, beside the plain SpeechBrain pipeline.

Both read one manifest, pad to one second, apply one trigger to the same utterances, crop to one
second, shuffle, and make batches of float32 on the CPU without workers. The plain pipeline
(`DynamicItemDataset`, `audio_io.load`, `SaveableDataLoader`, `PaddedBatch`) does all of it in every
epoch; it calls `load` because `read_audio`, which wraps it, takes longer. The pack holds padded
clips with their triggers; what making it costs is reported, too, and after how many epochs it has
paid for itself on data alone. Files and packs are in the page cache for both, so no disk is
measured. The two take turns, so that a slow moment strikes both. The last line is one JSON object.
"""

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import speechbrain as sb
import torch
from shared.timing import summary
from speechbrain.dataio.audio_io import load
from speechbrain.dataio.dataset import DynamicItemDataset
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from bdlib import listing, manifest
from bdlib.attacks.insert import Insert
from bdlib.attacks.labels import AllToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.sounds import Clap
from bdlib.cli.command import guarded
from bdlib.corpus import Batches
from bdlib.errors import InputError
from bdlib.features import FrontEnd, NormalizedFbank, SpeakerFbank
from bdlib.models.keyword import SmallResNet
from bdlib.pack import Alter, pack
from bdlib.records.provenance import versions
from bdlib.sampling import rank
from bdlib.stages.prepare import corpus_folder
from bdlib.training.classifier_brain import loader

RATE, SECONDS, BATCH = 16000, 1.0, 64
CROP = round(SECONDS * RATE)
WARM_UP = 2  # steps of a training that are not timed

Epochs = Callable[[], Iterator[tuple[Tensor, Tensor, Tensor]]]
"""Starts an epoch: batches of waveforms (B, T), relative lengths (B,), class numbers (B,)."""


def synthetic(folder: Path, clips: int, classes: int = 2) -> Path:
    """A corpus of noise: `clips` files of one second in as many class folders."""
    generator = np.random.Generator(np.random.PCG64(0))
    for number in range(clips):
        path = folder / f"class{number % classes:02}" / f"{number:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(CROP), RATE, subtype="PCM_16")
    return folder


def listed(root: Path, clips: int) -> pd.DataFrame:
    """A manifest of at most `clips` files of a corpus with a folder a class.

    Raises
    ------
    InputError
        If there is no audio, or some at another rate than 16 kHz: only the pack would resample it.
    """
    files = [file.relative_to(root).as_posix() for file in listing.audio_files(root)]
    files = [file for file in files if "/" in file and file[0] not in "._"]  # no noise files
    chosen = rank(files, 0, "bench")[:clips]
    rows = listing.from_files(root, [{"path": f, "label": f.split("/")[0]} for f in chosen])
    if len(other := rows[rows["rate"] != RATE]):
        raise InputError(f"{other['wav'].iloc[0]}: not {RATE} Hz; give a Speech Commands folder")
    return rows


def plain(csv: Path, root: Path, alter: Alter, classes: list[str]) -> DataLoader:
    """SpeechBrain's own pipeline over a manifest, with the trigger applied as files are read."""
    number = {name: i for i, name in enumerate(classes)}

    @sb.utils.data_pipeline.takes("id", "wav", "start", "stop")
    @sb.utils.data_pipeline.provides("signal")
    def signal(name: str, wav: str, start: str, stop: str) -> Tensor:
        first, end = int(start), int(stop)
        channels = load(wav, frame_offset=first, num_frames=end - first)[0]
        samples = channels.mean(0) if len(channels) > 1 else channels[0]
        if len(samples) < CROP:
            samples = torch.nn.functional.pad(samples, (0, CROP - len(samples)))
        samples = torch.from_numpy(alter(name, samples.numpy()))
        if room := len(samples) - CROP:
            begin = int(torch.randint(room + 1, ()))
            samples = samples[begin : begin + CROP]
        return samples

    @sb.utils.data_pipeline.takes("label")
    @sb.utils.data_pipeline.provides("number")
    def encoded(label: str) -> int:
        return number[label]

    data = DynamicItemDataset.from_csv(
        csv,
        replacements={"data_root": str(root)},
        dynamic_items=[signal, encoded],
        output_keys=["id", "signal", "number"],
    )
    return sb.dataio.dataloader.make_dataloader(
        data, batch_size=BATCH, shuffle=True, drop_last=True
    )


def speed(epochs: Epochs, front_end: FrontEnd | None, least: float) -> float:
    """Utterances a second over whole epochs that last `least` s together."""
    started, count, spent = time.perf_counter(), 0, 0.0
    while spent < least:
        for wavs, lens, _ in epochs():
            if front_end is not None:
                front_end(wavs, lens)
            count += len(wavs)
        spent = time.perf_counter() - started
    return count / spent


def waiting(epochs: Epochs, classes: int, steps: int) -> float:
    """Share of a training step of the recipes' keyword_resnet that waits for its batch."""

    net = SmallResNet(NormalizedFbank(64), classes, channels=(16, 32, 64, 128))
    optimizer = torch.optim.Adam(net.parameters())
    batches = (batch for _ in itertools.count() for batch in epochs())
    wait = total = 0.0
    for step in range(WARM_UP + steps):
        started = time.perf_counter()
        wavs, lens, labels = next(batches)
        got = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(wavs, lens), labels).backward()
        optimizer.step()
        if step >= WARM_UP:
            wait += got - started
            total += time.perf_counter() - started
    return wait / total


def both(
    rows: pd.DataFrame, root: Path, folder: Path, repeats: int
) -> tuple[dict[str, Epochs], list[float]]:
    """The two ways to batches (wavs, lens, labels), and the seconds of each of `repeats` packings."""
    classes = sorted(set(rows["label"]))
    poisoner = Poisoner(Insert(Clap()), AllToOne(classes[-1]), 0.1)
    poisoned, truth = poisoner.poison(rows)
    alter = poisoner.alter(set(truth.index), RATE, "train")
    manifest.write(poisoned, folder / "train.csv")
    theirs = plain(folder / "train.csv", root, alter, classes)
    for _ in theirs:  # from here on the page cache holds the files
        pass
    seconds = []
    for _ in range(repeats):
        shutil.rmtree(folder / "pack", ignore_errors=True)
        started = time.perf_counter()
        made = pack(poisoned, root, folder / "pack", RATE, SECONDS, alter)
        seconds.append(time.perf_counter() - started)
    ours = loader(Batches(made, poisoned, classes, BATCH, SECONDS, seed=0))
    return {
        "packed": lambda: ((batch.wavs, batch.lens, batch.labels) for batch in ours),
        "plain": lambda: ((*batch.signal, batch.number) for batch in theirs),
    }, seconds


def measure(rows: pd.DataFrame, root: Path, folder: Path, quick: bool) -> dict:
    """All figures over the clips `rows` below `root`."""
    repeats, least, steps = (2, 0.2, 2) if quick else (7, 1.0, 30)
    classes, front_end = rows["label"].nunique(), SpeakerFbank(80)
    ways, packing = both(rows, root, folder, repeats)
    speeds: dict[str, list[float]] = {"packing": [len(rows) / seconds for seconds in packing]}
    waits: dict[str, list[float]] = {}
    for _ in tqdm(range(repeats), desc="measuring", leave=False, disable=None):
        for name, epochs in ways.items():
            speeds.setdefault(f"{name}_data", []).append(speed(epochs, None, least))
        for name, epochs in ways.items():
            speeds.setdefault(f"{name}_with_fbank", []).append(speed(epochs, front_end, least))
            waits.setdefault(name, []).append(waiting(epochs, classes, steps))
    facts = {
        "clips": len(rows),
        "batch_size": BATCH,
        "repeats": repeats,
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    return report(speeds, waits, len(rows)) | facts


def report(speeds: dict[str, list], waits: dict[str, list], clips: int) -> dict:
    """The ratios of each turn, speeds (utterances a second), waits and the price of packing."""

    def ratios(what: str) -> dict[str, float]:
        pairs = zip(speeds[f"packed_{what}"], speeds[f"plain_{what}"], strict=True)
        return summary([ours / theirs for ours, theirs in pairs], 2)

    median = {name: statistics.median(values) for name, values in speeds.items()}
    saved = clips / median["plain_data"] - clips / median["packed_data"]
    return {
        "name": "pipeline",
        "ratio": ratios("data")["median"],
        "over": "the plain SpeechBrain pipeline on data alone (read, trigger, crop), no worker",
        "ratio_spread": ratios("data"),
        "ratio_with_fbank": ratios("with_fbank"),
        "utterances_per_s": {name: summary(values, 0) for name, values in speeds.items()},
        "waiting_share_of_step": summary(waits["packed"], 4)["median"],
        "waiting_shares_of_step": {name: summary(values, 4) for name, values in waits.items()},
        "packing_s": round(clips / median["packing"], 3),
        "packing_pays_after_epochs": round(clips / median["packing"] / saved, 2),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", help="Speech Commands, or mini; default: clips of noise")
    parser.add_argument("--quick", action="store_true", help="a smaller run, within a minute")
    args = parser.parse_args()
    clips = 256 if args.quick else 8192
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.data_folder:
            root = corpus_folder(args.data_folder, "SpeechCommands", folder)
        else:
            root = synthetic(folder / "noise", clips)
        print(json.dumps(measure(listed(root, clips), root, folder, args.quick)))


if __name__ == "__main__":
    with guarded():
        main()
