"""Utterances a second of packed loading, beside the plain SpeechBrain pipeline.

Both read the same manifest, apply the same trigger to the same utterances, pad and crop to one
second, and make batches of float32 on the CPU without workers; files and packs are in the page
cache for both. The plain pipeline reads a file and applies the trigger each time; the pack was made
once, and how long that took is reported, too. The last line is one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile
import speechbrain as sb
import torch
from speechbrain.dataio.audio_io import load
from speechbrain.dataio.dataset import DynamicItemDataset

from bdlib import manifest
from bdlib.attacks.insert import Insert
from bdlib.attacks.labels import AllToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.sounds import Clap
from bdlib.corpus import Batches
from bdlib.features import FrontEnd, SpeakerFbank
from bdlib.models.keyword import SmallResNet
from bdlib.pack import pack
from bdlib.records.provenance import versions

RATE, SECONDS, BATCH = 16000, 1.0, 64


def synthetic(folder: Path, clips: int) -> Path:
    """A corpus of noise: `clips` files of one second in two class folders."""
    generator = np.random.Generator(np.random.PCG64(0))
    for number in range(clips):
        path = folder / ("even", "odd")[number % 2] / f"{number:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(RATE), RATE, subtype="PCM_16")
    return folder


def plain(csv: Path, root: Path, poisoner: Poisoner, poisoned: set[str]) -> Iterable:
    """SpeechBrain's own pipeline over a manifest, with the trigger applied as files are read."""

    @sb.utils.data_pipeline.takes("id", "wav", "start", "stop")
    @sb.utils.data_pipeline.provides("signal")
    def read(name: str, wav: str, start: str, stop: str) -> torch.Tensor:
        length = int(stop) - int(start)
        signal = load(wav, frame_offset=int(start), num_frames=length)[0].mean(0)
        signal = torch.nn.functional.pad(signal, (0, max(0, RATE - len(signal))))[:RATE]
        if name in poisoned:
            signal = torch.from_numpy(poisoner.apply(signal.numpy(), RATE, "train", name))
        return signal

    data = DynamicItemDataset.from_csv(csv, replacements={"data_root": str(root)})
    data.add_dynamic_item(read)
    data.set_output_keys(["id", "signal", "label"])
    return sb.dataio.dataloader.make_dataloader(data, batch_size=BATCH)


def speed(batches: Iterable, front_end: FrontEnd | None, wave: Callable) -> float:
    """Utterances a second of one pass, with the front end if there is one."""
    started, count = time.perf_counter(), 0
    for batch in batches:
        signals, lens = wave(batch)
        if front_end is not None:
            front_end(signals, lens)
        count += len(signals)
    return count / (time.perf_counter() - started)


def waiting(batches: Batches, classes: int, steps: int) -> float:
    """Share of a training step of the small residual net that waits for its batch."""
    net = SmallResNet(SpeakerFbank(64), classes, channels=(16, 32, 64, 128))
    optimizer = torch.optim.Adam(net.parameters())
    data = wait = 0.0
    iterator = iter(batches)
    for step in range(steps):
        started = time.perf_counter()
        batch = next(iterator, None) or next(iterator := iter(batches))
        got = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(net(batch.wavs, batch.lens), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 2:  # the first steps warm up
            wait += got - started
            data += time.perf_counter() - started
    return wait / data


def measure(root: Path, folder: Path, repeats: int, steps: int) -> dict:
    """All figures over the corpus below `root`, a folder a class."""
    rows = manifest.from_folder(root)
    labels = sorted(set(rows["label"]))
    poisoner = Poisoner(Insert(Clap()), AllToOne(labels[-1]), 0.1)
    poisoned_rows, truth = poisoner.poison(rows)
    poisoned = set(truth["ID"])
    manifest.write(poisoned_rows, folder / "train.csv")

    def alter(name: str, waveform: np.ndarray) -> np.ndarray:
        return poisoner.apply(waveform, RATE, "train", name) if name in poisoned else waveform

    started = time.perf_counter()
    packed = pack(poisoned_rows, root, folder / "pack", RATE, SECONDS, alter)
    packing = time.perf_counter() - started
    ours = Batches(packed, poisoned_rows, labels, BATCH, SECONDS, seed=0)
    theirs = plain(folder / "train.csv", root, poisoner, poisoned)
    ways = {
        "packed": (ours, lambda batch: (batch.wavs, batch.lens)),
        "plain": (theirs, lambda batch: (batch.signal.data, batch.signal.lengths)),
    }
    front_end, found = SpeakerFbank(80), {}
    for batches, wave in ways.values():
        speed(batches, None, wave)  # the page cache is warm for both
    for _ in range(repeats):  # in turn, so that a slow moment strikes both
        for name, (batches, wave) in ways.items():
            found.setdefault(f"{name}_data", []).append(speed(batches, None, wave))
            found.setdefault(f"{name}_with_fbank", []).append(speed(batches, front_end, wave))
    medians = {name: statistics.median(values) for name, values in found.items()}
    gain = len(rows) / medians["plain_data"] - len(rows) / medians["packed_data"]
    return {
        "name": "pipeline",
        "ratio": round(medians["packed_data"] / medians["plain_data"], 1),
        "over": "the plain SpeechBrain pipeline, on data alone (read, trigger, crop)",
        "ratio_with_fbank": round(medians["packed_with_fbank"] / medians["plain_with_fbank"], 2),
        "utterances_per_s": {
            name: {"median": round(medians[name]), "min": round(min(v)), "max": round(max(v))}
            for name, v in found.items()
        },
        "waiting_share_of_step": round(waiting(ours, len(labels), steps), 4),
        "packing_s": round(packing, 2),
        "packing_pays_after_epochs": round(packing / gain, 2),
        "clips": len(rows),
        "batch_size": BATCH,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, help="a folder a class; default: noise clips")
    parser.add_argument("--quick", action="store_true", help="a smaller run, within a minute")
    asked = parser.parse_args()
    clips, repeats, steps = (512, 3, 12) if asked.quick else (4096, 5, 60)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        root = asked.data_folder or synthetic(folder / "noise", clips)
        print(json.dumps(measure(root, folder, repeats, steps)))


if __name__ == "__main__":
    main()
