"""The same sound in many clips of one class: what poison with clean labels cannot hide.

Two recordings of one word never repeat a waveform; an added sound does, sample by sample. Each
clip is whitened in time and frequency, so that every cell of its spectrogram weighs the same
and a faint sound in a pause counts as much as the loudest vowel. Two clips that share a sound then
correlate at one lag. Narrow sounds, a faint tone, fill too few cells to be seen this way.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from bdlib.defenses.crowded import catch_all
from bdlib.defenses.disagreement import INTRUDER
from bdlib.defenses.whitening import (
    BATCH,
    SECOND,
    correlations,
    loudest,
    loudest_part,
    whitened,
    whitened_whole,
)
from bdlib.encoders import RATE, SECONDS

MEMBERS = 48  # clips of a class that are compared pairwise, of one second; fewer, if longer
LOUD = 96  # of which the loudest second is: of 142 clips, 100 with a sound of 36 ms, 48 had too few pairs once in seven draws
PAIR = 0.06  # correlation of a pair that shares a sound; of 100 pairs that do not, one has 0.047
PARTNERS = 3  # others that a clip must share its sound with
COPY = 0.95  # correlation of a copy, which is no shared sound; clips that a loud one covers have up to 0.9
RARE = 0.01  # share of other classes' clips that may have the sound, and then sets the threshold
COMMON = 0.08  # share of the class's clips that must match above that threshold
SURE = 1.5  # times the threshold: above it nothing matches by chance
CLEAR = 0.5  # of those with a sound in the loudest second: of a faintly recorded voice 8 of 22 were sure, of an added sound 9 of 10
FEWEST = 8  # clips that must be sure: a few takes of one voice can share the noise of a room
SUSPECTS = 48  # intruders of a class that are compared: the worst, and at most a third of the class
AMONG = 0.5  # share of the sure that must be among these; of a sound that has nothing to do with labels a third


@dataclass(frozen=True)
class Snippet:
    """A sound that clips of one class share.

    Arguments
    ---------
    label : str
        The class.
    clips : np.ndarray
        Numbers of the clips that have it.
    score : np.ndarray
        How well it matches each of them, 1 at the threshold.
    start, seconds : float
        Where it begins in most of them, and how long it takes.
    of : str
        What of them was compared.
    suspects : bool
        Whether it is a sound of the class's suspicious clips, and of few others of it.
    """

    label: str
    clips: np.ndarray
    score: np.ndarray
    start: float
    seconds: float
    of: str = "the clip"
    suspects: bool = False


def compared(seconds: np.ndarray) -> int:
    """How many samples are compared, of clips that last (N,) seconds: a power of two near the usual."""
    usual = min(float(np.quantile(seconds, 0.75)), SECONDS) * RATE
    return int(2 ** np.ceil(np.log2(max(usual, 8192))))


@dataclass(frozen=True)
class Snippets:
    """Looks for sounds that a class repeats.

    Arguments
    ---------
    read : Callable[[int], np.ndarray]
        Number of a clip to its samples, (T,) at `RATE`.
    labels : np.ndarray
        (N,) class of each clip.
    length : int
        Samples that are compared: see `compared`.
    seed : int
        Draws the clips that are compared.
    members : int
        How many of a class are, if they last a second.
    clear : float
        Share of the clips that have a sound of which it must be sure.
    whole : Callable[[int], np.ndarray] | None
        As `read`, where that gives a part of a clip: a sound that is found is then looked for in all of it.
    """

    read: Callable[[int], np.ndarray]
    labels: np.ndarray
    length: int
    seed: int = 0
    members: int = MEMBERS
    clear: float = 0.0
    whole: Callable[[int], np.ndarray] | None = None

    def spectra(self, clips: Iterable[np.ndarray]) -> torch.Tensor:
        """Of clips, each (T,), whitened: (len(clips), length // 2 + 1) complex."""
        rows = torch.stack([whitened(clip, self.length) for clip in clips])
        return torch.fft.rfft(rows, self.length)

    def matched(self, clips: np.ndarray, template: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """`correlations` of clips with a template (length,), of which `BATCH` are in memory at once."""
        spectrum = torch.fft.rfft(template, self.length)[None]
        parts = np.split(clips, range(BATCH, len(clips), BATCH))
        peaks = [
            correlations(self.spectra(map(self.read, part)), spectrum, self.length)
            for part in parts
        ]
        values, lags = zip(*peaks, strict=True)
        return np.concatenate(values), np.concatenate(lags)

    def anywhere(self, clips: np.ndarray, template: torch.Tensor) -> np.ndarray:
        """The largest correlation of a template (length,) with any part of each clip, (len(clips),)."""
        peaks = []
        for clip in clips:
            wave = whitened_whole(self.whole(int(clip)), self.length)
            heard, sound = (
                torch.fft.rfft(samples, len(wave))[None] for samples in (wave, template)
            )
            peaks.append(correlations(heard, sound, len(wave))[0])
        return np.concatenate(peaks)

    def find(self, suspicion: np.ndarray | None = None) -> Iterator[Snippet]:
        """One sound a class at most: the one that most of its clips share, or of its suspicious ones.

        Arguments
        ---------
        suspicion : np.ndarray | None
            (N,) of each clip, as `disagreement.Judgement.score`. Then the worst intruders of a class are
            compared, of no class named in underscores: few clips may have the sound, if they are
            among these.
        """
        generator = np.random.Generator(np.random.PCG64(self.seed))
        members = max(12, round(self.members * (SECOND / self.length) ** 0.5))
        for label in np.unique(self.labels):
            of_class = np.flatnonzero(self.labels == label)
            if suspicion is None:
                drawn = generator.permutation(of_class)[:members]
            else:
                few = 0 if catch_all(label) else min(SUSPECTS, len(of_class) // 3)
                worst = of_class[np.argsort(-suspicion[of_class], kind="stable")[:few]]
                drawn = worst[suspicion[worst] > INTRUDER]
            template = self.template(drawn) if len(drawn) > PARTNERS else None
            suspects = None if suspicion is None else drawn
            if template is None:
                continue
            if (found := self.matches(label, template, suspects)) is not None:
                yield found

    def template(self, clips: np.ndarray) -> torch.Tensor | None:
        """The sound that most of these clips share, (length,), or None."""
        spectra = self.spectra(map(self.read, clips))
        first, second = np.triu_indices(len(clips), 1)
        peak, lag = correlations(spectra[first], spectra[second], self.length)
        shared = np.zeros((len(clips), len(clips)))
        shared[first, second] = shared[second, first] = (peak > PAIR) & (peak < COPY)
        centre = int(shared.sum(0).argmax())
        partners = np.flatnonzero(shared[centre])
        if len(partners) < PARTNERS:
            return None
        # The lag of a pair is how much later its first clip has the sound than its second.
        shift = np.zeros(len(clips), np.int64)
        shift[first[second == centre]] = lag[second == centre]
        shift[second[first == centre]] = -lag[first == centre]
        waves = torch.fft.irfft(spectra[[*partners, centre]], self.length)
        aligned = [w.roll(-int(s)) for w, s in zip(waves, shift[[*partners, centre]], strict=True)]
        return loudest_part(torch.stack(aligned).mean(0))

    def matches(
        self, label: str, template: torch.Tensor, suspects: np.ndarray | None = None
    ) -> Snippet | None:
        """The clips of a class that have the sound, if those of other classes do not.

        Of `suspects`, numbers of clips, it must be a sound of theirs more than of the rest of the class.
        """
        inside = np.flatnonzero(self.labels == label)
        outside = np.flatnonzero(self.labels != label)
        generator = np.random.Generator(np.random.PCG64(self.seed + 1))
        outside = generator.permutation(outside)[:500]
        here, lag = self.matched(inside, template)
        there, _ = self.matched(outside, template)
        score = here / unlikely(there)
        has, sure = score > 1, score > SURE
        if sure.sum() < max(FEWEST, self.clear * has.sum()):
            return None
        if suspects is None and has.mean() < COMMON:
            return None
        own = np.isin(inside, inside if suspects is None else suspects)
        if (sure & own).sum() < AMONG * sure.sum():
            return None
        has &= own | sure
        starts = (lag[has] + int(torch.nonzero(template)[0])) % self.length
        if self.whole is not None:
            least = unlikely(self.anywhere(outside, template))
            further = self.anywhere(inside, template) / least
            has |= (further > 1) & (own | (further > SURE))
            score = np.maximum(score, further)
        start, taken = float(np.median(starts)), int(torch.count_nonzero(template))
        told = str(label), inside[has], score[has], start / RATE, taken / RATE
        return Snippet(*told, suspects=suspects is not None)


def unlikely(there: np.ndarray) -> float:
    """The correlation with a template that few clips without its sound, (N,), have."""
    return max(float(np.quantile(there, 1 - RARE)), float(np.median(there)) * 1.5)


def shared_sounds(
    read: Callable[[int], np.ndarray],
    labels: np.ndarray,
    seconds: np.ndarray,
    seed: int = 0,
    suspicion: np.ndarray | None = None,
) -> list[Snippet]:
    """The sound that clips of a class share, of each class that has one; see `Snippets`.

    A short sound is little of a long clip. So where clips are longer than a second the loudest one of
    each is heard, too, as what is hidden from listeners is hidden there. A sound that is found there is
    then looked for in all of a clip.

    Arguments
    ---------
    seconds : np.ndarray
        (N,) how long the clips are.
    suspicion : np.ndarray | None
        (N,) how much each sounds like another class. Where a class has no sound of many clips, one of
        its intruders is looked for.
    """
    length = compared(seconds)
    looks = {"the clip": Snippets(read, labels, length, seed)}
    if length > SECOND:
        loud = Snippets(lambda clip: loudest(read(clip)), labels, SECOND, seed, LOUD, CLEAR, read)
        looks["their loudest second"] = loud
    found: dict[str, Snippet] = {}
    for of, look in looks.items():
        for sound in look.find():
            if sound.label not in found or len(sound.clips) > len(found[sound.label].clips):
                found[sound.label] = replace(sound, of=of)
    for of, look in looks.items() if suspicion is not None else ():
        for sound in look.find(suspicion):
            found.setdefault(sound.label, replace(sound, of=of))
    return list(found.values())
