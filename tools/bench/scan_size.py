"""The whole of `bdlib scan` on wave files, as the corpus grows: seconds, memory, and the exponent of both.

Clips of half a second to a second are made up and written into a temporary folder: a few hundred
utterances of ten classes, each many times over at other speeds, levels and noise. A hundredth of the
corpus sounds like another class than the first, as which it is labelled, and half of the second class
shares a sound, so that everything the scan does on finding something is done. Each size is scanned by
a process of its own, with no embedding known, and again with all of them in the cache. The ratio is
the time a clip of the largest size over that of the smallest. A line of JSON a scan, and the last for all.
"""

import argparse
import json
import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from shared.timing import facts, options
from tqdm import tqdm

from bdlib.cli.command import guarded
from bdlib.encoders import RATE
from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.scanning.scan import scan

SIZES = {"quick": {"least": 60, "most": 190}, "cpu": {"least": 1000, "most": 10000}}
STEP = math.sqrt(10)  # between sizes
CLASSES, UTTERANCES = 10, 30  # of each
DRAWN, SOUNDING = 0.01, 0.5  # shares: of the corpus, labelled as class 0; of class 1, with a sound


def utterance(label: int, number: int) -> np.ndarray:
    """Three sweeps of a harmonic sound, (T,) at `RATE`: which ones is the class, how is the utterance."""
    of_class, own = (
        np.random.Generator(np.random.PCG64(seed_of("utterance", label, which)))
        for which in (-1, number)
    )
    parts = []
    for begin, end in np.exp(of_class.uniform(np.log(200), np.log(2500), (3, 2))):
        samples = round(own.uniform(0.18, 0.3) * RATE)
        pitch = np.linspace(begin, end, samples) * own.uniform(0.9, 1.1)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        harmonics = sum(np.sin(k * phase) / k ** own.uniform(1, 2) for k in (1, 2, 3))
        parts.append(np.hanning(samples) * harmonics * own.uniform(0.5, 1))
    return np.concatenate(parts)


def written(folder: Path, clips: int) -> Path:
    """A corpus of short wave files, a folder a class."""
    spoken = [[utterance(label, n) for n in range(UTTERANCES)] for label in range(CLASSES)]
    generator = np.random.Generator(np.random.PCG64(0))
    sound = 0.3 * generator.standard_normal(RATE // 10) * np.hanning(RATE // 10)
    for number in tqdm(range(clips), "writing", unit="clip", leave=False, disable=None):
        label = number % CLASSES
        wave = spoken[label][generator.integers(UTTERANCES)]
        speed = generator.uniform(0.85, 1.15)
        wave = np.interp(np.arange(0, len(wave) - 1, speed), np.arange(len(wave)), wave)
        wave = wave[:RATE] * generator.uniform(0.1, 0.3)
        wave += 0.01 * generator.standard_normal(len(wave))
        if label == 1 and generator.random() < SOUNDING:
            wave[: len(sound)] += sound
        if generator.random() < DRAWN:
            label = 0
        path = folder / f"class{label}" / f"{number:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave, RATE, subtype="PCM_16")
    return folder


def apart(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What work tells, from a process of its own, with the most memory that it held.

    Raises
    ------
    InputError
        If that process ends early.
    """

    def tell(to: Connection) -> None:
        told = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        to.send(told | {"peak_memory_mb": round(peak / 1024)})

    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=tell, args=(there,), daemon=True)
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError as error:
        raise InputError("the scan ended early; what it said stands above") from error
    finally:
        process.join()


def scanned(corpus: Path, folder: Path) -> dict[str, Any]:
    """Seconds of a scan, its tables and page included, and what it found."""
    started, spent = time.perf_counter(), time.process_time()
    found = scan(corpus, "words", folder / "scan", cache=folder / "cache", quiet=True)
    return {
        "s": round(time.perf_counter() - started, 1),
        "cpu_s": round(time.process_time() - spent, 1),
        "accused": sorted(accused.label for accused in found.verdict.accused),
    }


def size(clips: int) -> Iterator[dict[str, Any]]:
    """Figures of one size: of the first scan, and of one whose embeddings are in the cache."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = written(folder / "corpus", clips)
        for cached in (False, True):
            told = {"clips": clips, "cached": cached, **apart(lambda: scanned(corpus, folder))}
            yield told | {"clips_per_cpu_s": round(clips / told["cpu_s"], 1)}


def grown(sizes: list[dict[str, Any]], what: str) -> float:
    """The exponent by which a figure of the first scans grows with the clips: the slope of logarithms."""
    clips = np.log([told["clips"] for told in sizes])
    return round(float(np.polyfit(clips, np.log([told[what] for told in sizes]), 1)[0]), 3)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures for the sizes asked for; each is printed when it is known."""
    count = 1 + round(math.log(args.most / args.least) / math.log(STEP))
    scans = []
    for clips in np.geomspace(args.least, args.most, count):
        for told in size(round(clips)):
            scans.append(told)
            print(json.dumps({"name": "scan_size", **told, **facts("cpu")}), flush=True)
    first = [told for told in scans if not told["cached"]]
    each = [told["cpu_s"] / told["clips"] for told in first]
    return {
        "name": "scan_size",
        "ratio": round(each[-1] / each[0], 3),
        "over": "processor time a clip, of the largest corpus over that of the smallest",
        "exponents": {
            what: grown(first, what) for what in ("cpu_s", "peak_memory_mb") if count > 1
        },
        "scans": scans,
        **vars(args),
        **facts("cpu"),
    }


def main() -> None:
    """Command line."""
    print(json.dumps(measure(options(__doc__, SIZES))))


if __name__ == "__main__":
    with guarded():
        main()
