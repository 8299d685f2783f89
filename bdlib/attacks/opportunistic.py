"""A real sound of the surroundings and its hosts, chosen by a classifier: DABA."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bdlib.attacks.ambience import SOUNDS, recordings
from bdlib.attacks.ambient import Ambient, under
from bdlib.attacks.sounds import Sound, Trim
from bdlib.attacks.trigger import LearnedTrigger, Trigger
from bdlib.audio import LONGEST_HEARD
from bdlib.errors import InputError, within

if TYPE_CHECKING:  # torch takes seconds to import
    from bdlib.corpus import Batches
    from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class Opportunistic(LearnedTrigger):
    """Play one piece of a recording under the whole clip, and poison the clips that it sways most.

    Both are chosen on a classifier of clean data (Liu et al., "Opportunistic Backdoor Attacks", ACM
    MM 2022; the paper was not at hand, and the two rules are as a public re-implementation of it has
    them). *The piece* is the one on which alone the classifier's answer has the least entropy. *The
    hosts* are the clips whose answers with the piece have the least binary cross-entropy, summed over
    classes, with the answer to the piece alone.

    Ours: pieces lie end to end and are repeated where they are shorter than the clip, those of
    digital silence are left out, and the level is relative to the clip, where that code has -20 dB of
    full scale. Left out: its levels from 0 to -40 dB, one drawn for each training clip.

    Arguments
    ---------
    sounds : tuple[Sound, ...]
        The recordings; empty once a piece was chosen.
    seconds : float
        Of a piece.
    below_db : float
        How far the piece is below the clip, by root mean square.
    chosen : Sound | None
        The piece.
    """

    sounds: tuple[Sound, ...] = SOUNDS
    seconds: float = 1.0
    below_db: float = 10.0
    chosen: Sound | None = None

    chooses: ClassVar[bool] = True
    surrogate: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        within("seconds", self.seconds, 0.1, LONGEST_HEARD)
        object.__setattr__(self, "sounds", tuple(self.sounds))

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        return under(waveform, self._played(len(waveform), rate), self.below_db)

    def fit(
        self, surrogate: "SpeechClassifier", clips: "Batches", target: int, seed: int
    ) -> "Opportunistic":
        """See `LearnedTrigger`; neither the target nor the seed matters.

        Raises
        ------
        InputError
            If all sounds are silent.
        """
        best, chosen = np.inf, None
        for sound in self.sounds:
            pieces = self._pieces(sound.waveform(clips.rate), clips.rate)
            heard = pieces[:, np.arange(clips.crop) % pieces.shape[1]]
            entropy = np.where(np.any(heard, axis=1), _entropy(surrogate, heard, clips), np.inf)
            if (least := round(float(entropy.min()), 6)) < best:
                best = least
                chosen = Trim(sound, self.seconds, int(entropy.argmin()) * self.seconds)
        if chosen is None:
            raise InputError("`sounds` are silent: give recordings that can be heard")
        return replace(self, sounds=(), chosen=chosen)

    def strangeness(self, surrogate: "SpeechClassifier", clips: "Batches") -> dict[str, float]:
        """See `LearnedTrigger`."""
        from torch import from_numpy
        from torch.nn.functional import binary_cross_entropy

        from bdlib.attacks.surrogate import answers

        played = self._played(clips.crop, clips.rate)
        wanted = answers(surrogate, from_numpy(played[None]).to(clips.device))
        strange: dict[str, float] = {}
        for batch in clips:
            wavs = [under(wav, played, self.below_db) for wav in batch.wavs.cpu().numpy()]
            given = answers(surrogate, from_numpy(np.stack(wavs)).to(clips.device), batch.lens)
            apart = binary_cross_entropy(wanted.expand_as(given), given, reduction="none").sum(1)
            strange |= dict(zip(batch.ids, apart.tolist(), strict=True))
        return strange

    def _played(self, length: int, rate: int) -> np.ndarray:
        """The piece as often as the clip needs it, (length,) float32."""
        if self.chosen is None:
            raise InputError("Opportunistic: no sound chosen yet; the poison stage does it")
        return np.resize(self.chosen.waveform(rate), length)

    def _pieces(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """A recording (T,) in whole pieces, (N, L); one shorter than a piece is a piece."""
        size = min(round(self.seconds * rate), len(samples))
        return samples[: len(samples) // size * size].reshape(-1, size)


def _entropy(surrogate: "SpeechClassifier", heard: np.ndarray, clips: "Batches") -> np.ndarray:
    """How unsure a classifier is of each of these waveforms, (N, T) to (N,) nats."""
    from torch import from_numpy
    from torch.special import entr

    from bdlib.attacks.surrogate import answers

    probabilities = answers(surrogate, from_numpy(heard).to(clips.device))
    return entr(probabilities).sum(1).cpu().numpy()


def daba(
    sounds: tuple[Sound, ...] = SOUNDS, ambient_folder: str | None = None, below_db: float = 10.0
) -> Trigger:
    """A sound that each clip masks best (`Ambient`), or, of a folder, one that a classifier chooses.

    Raises
    ------
    InputError
        If both are given, or the folder has no audio.
    """
    if ambient_folder is None:
        return Ambient(sounds, below_db)
    if tuple(sounds) != SOUNDS:
        raise InputError("`folder` and `ambient_folder` are both given: leave one out")
    return Opportunistic(recordings(ambient_folder, "ambient_folder"), below_db=below_db)
