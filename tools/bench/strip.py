"""STRIP-ViTA of a clip: overlays from memory in batches, beside a plain loop over their files.

The plain loop does for each overlay what the definition says: it reads the file of a clean clip, adds
it, and classifies the sum by itself. The batched way is the defense's own. Both draw the same overlays
of the same clips for the small x-vector, and are first checked to find the same entropies; the two
take turns, so that a slow moment strikes both. Files are in the page cache. The last line is one
JSON object.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from shared.timing import facts, options, precision, ratio, summary, turns
from speechbrain.dataio.audio_io import load
from torch import Tensor

from bdlib.cli.command import guarded
from bdlib.corpus import Batch
from bdlib.defenses.inference.strip_vita import Screened, StripVita, entropies
from bdlib.errors import InputError
from bdlib.files import COMMON
from bdlib.models.classifier import SpeechClassifier
from bdlib.stages.document import Document

RATE, CLASSES = 16000, 24
LARGEST = 1e-3  # difference in bits between the two ways
SIZES = {
    "quick": {"overlays": 20, "clips": 1, "pool": 16, "seconds": 3},
    "cuda": {"overlays": 100, "clips": 8, "pool": 64, "seconds": 3},
    "cpu": {"overlays": 100, "clips": 1, "pool": 64, "seconds": 3},
}


def written(args: argparse.Namespace, folder: Path) -> tuple[Tensor, list[Path]]:
    """Clean clips of noise, (pool, T), and their files."""
    generator = np.random.Generator(np.random.PCG64(0))
    drawn = 0.1 * generator.standard_normal((args.pool, args.seconds * RATE))
    pcm = np.rint(drawn.clip(-1, 1) * 32767).astype(np.int16)
    paths = [folder / f"{number:03}.wav" for number in range(args.pool)]
    for path, clip in zip(paths, pcm, strict=True):
        soundfile.write(path, clip, RATE, subtype="PCM_16")
    return torch.from_numpy(pcm).float() / 2**15, paths


def screened(
    net: SpeechClassifier, clean: Tensor, args: argparse.Namespace
) -> tuple[Screened, Tensor]:
    """The guarded classifier, and the overlays that it draws, (clips, overlays)."""
    pool = (clean * 2**15).to(torch.int16).to(args.device)
    guarded_net = StripVita(args.overlays, pool=pool).guard(net, seed=0)
    generator = torch.Generator().manual_seed(0)
    return guarded_net, torch.randint(len(pool), (args.clips, args.overlays), generator=generator)


@torch.no_grad()
def plain(net: SpeechClassifier, batch: Batch, drawn: Tensor, paths: list[Path]) -> Tensor:
    """Suspicions (B,) by one file and one forward pass an overlay."""
    suspicions = []
    for wav, length, chosen in zip(batch.wavs, batch.lens, drawn.tolist(), strict=True):
        bits = []
        for number in chosen:
            over, _ = load(paths[number])
            bits.append(entropies(net((wav + over[0].to(wav))[None], length[None])))
        suspicions.append(-torch.cat(bits).nanmean())
    return torch.stack(suspicions)


def measure(args: argparse.Namespace, folder: Path) -> dict:
    """All figures for the sizes asked for.

    Raises
    ------
    InputError
        If the two ways find different suspicions.
    """
    torch.manual_seed(0)
    yaml = COMMON.parent / "RAVDESS" / "hparams" / "xvector_small.yaml"
    net = Document(yaml).build()["model"]["classifier"](n_classes=CLASSES).to(args.device).eval()
    with torch.no_grad():
        net.head.weight.mul_(100)  # an untrained net is certain of nothing
    clean, paths = written(args, folder)
    guard, drawn = screened(net, clean, args)
    wavs = clean[: args.clips].flip(1).to(args.device)
    batch = Batch([], wavs, torch.ones(len(wavs), device=args.device), torch.zeros(len(wavs)))

    def batched() -> Tensor:
        with precision(args):
            return guard.eval().suspicion(batch.wavs, batch.lens)

    def looped() -> Tensor:
        with precision(args):
            return plain(net, batch, drawn, paths)

    suspicions = batched()
    apart = float((suspicions - looped()).abs().max())
    if not args.bf16 and not apart <= LARGEST:
        raise InputError(
            f"the two ways differ by {apart:.2g} bits; run tests/defenses/test_strip_vita.py"
        )
    works: dict[str, Callable[[], object]] = {"batched": batched, "plain": looped}
    seconds = turns(works, args)
    gain, total = ratio(seconds["plain"], seconds["batched"]), args.clips * args.overlays
    return {
        "name": "strip",
        "ratio": gain["median"],
        "over": "time of a plain loop over overlay files over that of the batched defense",
        "ratio_spread": gain,
        "max_difference_bits": apart,
        "mean_entropy_bits": float(-suspicions.mean()),
        "overlays_per_s": {
            name: summary([total / value for value in values], 1)
            for name, values in seconds.items()
        },
    }


def main() -> None:
    """Command line."""
    args = options(__doc__, SIZES)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(args, Path(folder))
    print(json.dumps(measured | vars(args) | facts(args.device)))


if __name__ == "__main__":
    with guarded():
        main()
