"""STRIP-ViTA: a clip whose class survives that others are laid over it is suspicious.

Gao et al., IEEE TDSC 19(4), 2022, and its authors' notebooks for speech commands (yjkim721); EmoBack
section 5.5.2, which has the names of the two error rates the other way round.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.checks import counts
from bdlib.defenses.inference.screening import Screening
from bdlib.errors import InputError
from bdlib.models.classifier import Drawing, SpeechClassifier

CHUNK = 16  # overlays at once on a CPU: more would leave its cache


@dataclass(frozen=True)
class StripVita(Screening):
    """Rejects clips whose predictions stay certain under overlays.

    Clean clips, drawn with replacement, are added to the waveform, each with weight 1 and without
    clipping, and cut to its length. The entropy is the mean over overlays of that of the softmax,
    in bits (not that of the vote; what is not a number is left out); a clip of low entropy is rejected. The bound is set on clean
    validation clips so that a preset share of them, the false rejection rate, is rejected; what it
    then lets through of the triggered clips is the false acceptance rate.

    Arguments
    ---------
    overlays : int
        N, for each clip.
    frr : float
        The preset false rejection rate, in [0, 1).

    Raises
    ------
    InputError
        If a number is out of range.
    """

    overlays: int = 100
    frr: float = 0.03
    pool: Tensor | None = field(default=None, repr=False, compare=False)
    benign: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        counts("overlays", self.overlays)

    def calibrate(
        self, classifier: SpeechClassifier, validation: Callable[[], Iterable[Batch]], seed: int
    ) -> "StripVita":
        """With the validation clips as overlays, and their own suspicions (`benign`)."""
        # Clips are stored in 16 bits, so that nothing is lost.
        pool = torch.cat([(batch.wavs * 2**15).to(torch.int16) for batch in validation()])
        screened = replace(self, pool=pool).guard(classifier, seed)
        benign = [screened.suspicion(batch.wavs, batch.lens) for batch in validation()]
        return replace(self, pool=pool, benign=tuple(torch.cat(benign).tolist()))

    def guard(self, classifier: SpeechClassifier, seed: int) -> SpeechClassifier:
        """See `InferenceDefense`; the answers stay, and each gets a suspicion."""
        if self.pool is None:
            raise InputError("strip_vita: there are no overlays; calibrate it first")
        return Screened(classifier, self, seed)


class Screened(Drawing):
    """A classifier that says how suspicious a clip is: minus its entropy under overlays."""

    def __init__(self, net: SpeechClassifier, defense: StripVita, seed: int) -> None:
        super().__init__(net, seed)
        self.defense = defense

    @torch.no_grad()
    def suspicion(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """Minus the mean entropy in bits, (B,), of waveforms (B, T); overlays are batched."""
        pool, count = self.defense.pool, self.defense.overlays
        together = CHUNK if wavs.device.type == "cpu" else count
        drawn = torch.randint(len(pool), (len(wavs), count), generator=self.generator)
        valid = torch.arange(wavs.shape[1], device=wavs.device) < (lens * wavs.shape[1])[:, None]
        suspicions = []
        for wav, length, inside, chosen in zip(wavs, lens, valid, drawn, strict=True):
            entropy = []
            for some in chosen.to(pool.device).split(together):
                mixed = (wav + pool[some].to(wav) / 2**15) * inside
                entropy.append(entropies(self.net(mixed, length.expand(len(some)))))
            suspicions.append(-torch.cat(entropy).nanmean())
        return torch.stack(suspicions)


def entropies(logits: Tensor) -> Tensor:
    """Entropy in bits of the softmax of logits (B, C), (B,)."""
    return torch.special.entr(logits.double().softmax(1)).sum(1) / math.log(2)
