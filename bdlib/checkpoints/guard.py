"""A checkpoint behind a guard: labels, and rejections at a rate that was chosen on clean clips."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.checkpoints.clean import clean_clips, files_of, parts_of, unknown_clips
from bdlib.checkpoints.collection import of_stage
from bdlib.corpus import Batches
from bdlib.defenses.base import InferenceDefense
from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.manifest import DATA_ROOT
from bdlib.models.classifier import Guarded, SpeechClassifier
from bdlib.names import plain
from bdlib.stages.document import common

PARTS = {"prepare": 0.5, "threshold": 0.5}
"""Of the clean clips: what a guard prepares itself with, and what sets the threshold."""


class Compared(Guarded):
    """A classifier that suspects clips whose answer a preprocessing changes.

    The suspicion is the total variation between the softmax of the clip as it is and that of the clip
    preprocessed (Xu et al., Feature squeezing, NDSS 2018, with half the L1 distance); the answers are
    those of the preprocessed clip.
    """

    def __init__(self, plain: SpeechClassifier, preprocessed: SpeechClassifier) -> None:
        super().__init__(preprocessed)
        self.plain = plain
        self.eval()

    @torch.no_grad()
    def suspicion(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """(B,) in [0, 1], of waveforms (B, T)."""
        before, after = (net(wavs, lens).softmax(1) for net in (self.plain, self.net))
        return (before - after).abs().sum(1) / 2


@dataclass(frozen=True)
class Answer:
    """What the guard says of a clip: its file, label, suspicion, and whether it is rejected."""

    path: str
    label: str
    suspicion: float
    rejected: bool


@dataclass(frozen=True)
class Answers:
    """Of all clips.

    Arguments
    ---------
    answers : tuple[Answer, ...]
        In the order of the files.
    frr : float
        Share of clean clips that may be rejected.
    threshold : float
        Suspicion above which a clip is rejected.
    calibrated : int
        Clean clips that set it.
    lacking : tuple[str, ...]
        Classes of which none of them was: of their clips any share may be rejected.
    """

    answers: tuple[Answer, ...]
    frr: float
    threshold: float
    calibrated: int
    lacking: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether a clip was rejected."""
        return any(answer.rejected for answer in self.answers)

    def __str__(self) -> str:
        wide = max(len(answer.label) for answer in self.answers)
        lines = [
            f"{'rejected' if a.rejected else '        '}  {a.label:{wide}}  {plain(a.path)}"
            for a in self.answers
        ]
        count = sum(answer.rejected for answer in self.answers)
        end = f"{count} of {len(lines)} rejected; of clean clips at most {100 * self.frr:g} % are"
        lines.append(f"{end} (set on {self.calibrated})")
        if self.lacking:
            known = " ".join(self.lacking[:5]) + " ..." * (len(self.lacking) > 5)
            lines.append(f"not told for {len(self.lacking)} classes without clean clips: {known}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        rows = [
            {**vars(a), "suspicion": round(a.suspicion, 6) if math.isfinite(a.suspicion) else None}
            for a in self.answers
        ]
        told = {"frr": self.frr, "threshold": self.threshold, "calibrated_on": self.calibrated}
        return {**told, "not_calibrated": list(self.lacking), "clips": rows}


def guard(
    checkpoint: Checkpoint,
    paths: Sequence[str | Path],
    calibrate: str | Path,
    defense: str = "strip_vita",
    frr: float = 0.03,
    seconds: float | None = None,
    seed: int = 0,
) -> Answers:
    """Classify clips, and reject those that a guard suspects.

    Of ``n`` clean clips that the guard has not seen the ``floor(frr (n + 1))`` most suspicious would
    be rejected, so that a fresh clean clip is rejected with a probability of at most `frr` (split
    conformal prediction, Vovk et al. 2005).

    Arguments
    ---------
    checkpoint : Checkpoint
        Any, of ONNX, too.
    paths : Sequence[str | Path]
        Audio files, and folders of them.
    calibrate : str | Path
        Clean clips, ``calibrate/<class>/**/*.wav``.
    defense : str
        One of `of_stage("inference")`.
    frr : float
        The false rejection rate, above 0 and below 1.
    seconds : float | None
        What is heard of each clip, see `clean_clips`.
    seed : int
        Of all that is drawn.

    Raises
    ------
    InputError
        If the clips do not go with the checkpoint or are too few, or there is no such guard.
    """
    if not 0 < frr < 1:
        raise InputError(f"`frr` is {frr}: give a share of clean clips above 0 and below 1")
    if defense not in (known := of_stage("inference")):
        raise InputError(f"`defense` {defense}: no such guard; there are: {' '.join(known)}")
    files_of(paths)  # before anything is calibrated
    document = common("defenses", defense)
    document.place("guard_sample_rate", checkpoint.sample_rate)
    made = document.part("defense", InferenceDefense)
    with clean_clips(calibrate, checkpoint, seconds, whole=False) as clips:
        parts = parts_of(clips.rows, PARTS, seed)
        count, heard, lacking = len(parts["threshold"]), clips.seconds, clips.lacking
        rank = math.floor(frr * (count + 1))
        if rank < 1:
            raise InputError(
                f"`frr` is {frr}: needs {2 * math.ceil(1 / frr)} clean clips or more; there are "
                f"{len(clips.rows)}"
            )
        made = made.calibrate(checkpoint.net, lambda: clips.batches(parts["prepare"]), seed)
        guarded = made.guard(checkpoint.net, seed).eval()
        if guarded.suspicion(*_first(clips.batches())) is None:
            guarded = Compared(checkpoint.net, guarded)
        benign = sorted(
            (s for s, _ in _told(guarded, clips.batches(parts["threshold"]), "calibrate")),
            reverse=True,
        )
    threshold = benign[rank - 1]
    with unknown_clips(paths, checkpoint, heard) as clips:
        told = list(_told(guarded, clips.batches(), "guard"))
        root = clips.root
        files = [str(root / wav.removeprefix(DATA_ROOT)) for wav in clips.rows["wav"]]
    answers = tuple(
        # Above it, as equal clips could be many; what is no number is no answer to trust.
        Answer(file, checkpoint.classes[number], suspicion, not suspicion <= threshold)
        for file, (suspicion, number) in zip(files, told, strict=True)
    )
    return Answers(answers, frr, threshold, count, lacking)


def _first(batches: Batches) -> tuple[Tensor, Tensor]:
    batch = next(iter(batches))
    return batch.wavs[:1], batch.lens[:1]


@torch.no_grad()
def _told(guarded: SpeechClassifier, batches: Batches, why: str) -> Iterator[tuple[float, int]]:
    """Suspicion and class number of each clip; noise that the net draws is that of `score`."""
    guarded.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("scores"))
        for batch in tqdm(batches, why, unit="batch", leave=False, disable=None):
            suspicion = guarded.suspicion(batch.wavs, batch.lens)
            numbers = guarded(batch.wavs, batch.lens).argmax(1)
            yield from zip(suspicion.tolist(), numbers.tolist(), strict=True)
