"""From evidence to one verdict: poisoned, mislabelled, or nothing found.

Constants were set on the development half of `tools/scan_trials.yaml`, and tried on the other (docs/scan.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bdlib.defenses.disagreement import SURE, Judgement
from bdlib.scanning.amount import MISTAKEN, bounds
from bdlib.scanning.evidence import LABEL, MOVED, NOTE, POISON, QUALITY, Finding
from bdlib.scanning.heard import Heard

NOISY = 0.0055  # share of such clips that makes a corpus mislabelled: clean ones have 0 to 0.004
FEWEST = 5  # of them
POISONED, MISLABELLED, NOTHING = "poisoned", "mislabelled", "nothing found"
HIDDEN = (
    "clips altered under their own label where the added sound is a faint tone, an echo, a filter or "
    "a change of pitch or tempo",
    "fewer than about six clips under a wrong label, or less than 1 % of a class; under their own "
    "label, fewer than eight, or less than 8 % of a class",
    "poison made of clips of no class of the corpus, or of one that sounds like the target",
    "clips of other classes that a trigger changes as a whole, a room or another tempo, in a class of "
    "fewer than 40 clips, or where they move so far that their class looks like a mixed one",
)
"""What this scan does not see."""


@dataclass(frozen=True)
class Accused:
    """A class that draws its intruders, holds clips that were moved, or repeats a sound.

    Arguments
    ---------
    label : str
        Its name.
    clips : int
        What is labelled as it.
    suspects : int
        Clips of it that are flagged for poison.
    low, high : int
        Bounds of how many of its clips are poisoned; see `bdlib.scanning.amount`.
    source : str
        The class that most suspects sound like; empty where the label is theirs.
    share : float
        Of the suspects that sound like it.
    why : str
        The evidence, a sentence.
    """

    label: str
    clips: int
    suspects: int
    low: int
    high: int
    source: str
    share: float
    why: str


@dataclass(frozen=True)
class Verdict:
    """What a scan found.

    Arguments
    ---------
    kind : str
        `POISONED`, `MISLABELLED` or `NOTHING`.
    sentence : str
        The verdict in one sentence with its uncertainty.
    accused : tuple[Accused, ...]
        Poisoned classes, those with the most intruders first.
    excess : dict[str, float]
        By class, deviations of its intruders above other classes'.
    flagged : pd.DataFrame
        Clips to look at or leave out, the worst first: `clip`, `path`, `label`, `likely_label`,
        `reasons`, `score`.
    findings : tuple[Finding, ...]
        All evidence but that of labels, and but moved clips of which labels tell more.
    """

    kind: str
    sentence: str
    accused: tuple[Accused, ...]
    excess: dict[str, float]
    flagged: pd.DataFrame
    findings: tuple[Finding, ...]


def decide(
    heard: Heard, judged: Judgement, findings: Sequence[Finding], rate: float = 0.01
) -> Verdict:
    """Weigh the evidence.

    Arguments
    ---------
    heard : Heard
        The corpus.
    judged : Judgement
        Its labels beside its sound.
    findings : Sequence[Finding]
        All other evidence.
    rate : float
        Share of clean clips that may be flagged in classes that are called.
    """
    labels, findings = heard.labels, _heeded(heard.labels, judged, rate, findings)
    reasons: list[list[str]] = [[] for _ in labels]
    score = np.zeros(len(labels))
    intruders = judged.flagged(rate)
    mistaken = ~np.isin(labels, judged.called) & (judged.score > MISTAKEN)
    noisy = mistaken.sum() >= FEWEST and mistaken.mean() > NOISY
    if noisy:
        mistaken = ~np.isin(labels, judged.called) & (judged.score > SURE)

    def note(clips: np.ndarray, much: np.ndarray, reason: str) -> None:
        for clip, value in zip(clips, much, strict=True):
            reasons[clip].append(reason)
            score[clip] = max(score[clip], float(value))

    for mask, reason in (
        (intruders, "intruder in a called class"),
        (mistaken, "label unlike sound"),
    ):
        clips = np.flatnonzero(mask)
        note(clips, (1 + judged.score[clips]) / 2, reason)
    for finding in findings:
        if finding.speaks_for in (POISON, LABEL, QUALITY):
            note(finding.clips, 1 - 0.5 / np.maximum(finding.score, 0.5), finding.kind)
    flagged = np.flatnonzero([bool(why) for why in reasons])
    for finding in findings:  # told of clips that are flagged anyway
        if finding.speaks_for == NOTE:
            for clip in set(finding.clips.tolist()) & set(flagged.tolist()):
                reasons[clip].append(finding.kind)
    accused = _accused(labels, judged, rate, findings)
    kind = POISONED if accused else MISLABELLED if noisy else NOTHING
    table = pd.DataFrame(
        {
            "clip": flagged,
            "path": [heard.paths[clip] for clip in flagged],
            "label": labels[flagged],
            "likely_label": [judged.classes[judged.likely[clip]] for clip in flagged],
            "reasons": ["; ".join(reasons[clip]) for clip in flagged],
            "score": score[flagged].round(3),
        }
    )
    table = table.sort_values(["score", "path"], ascending=[False, True], ignore_index=True)
    sentence = _sentence(kind, accused, int(mistaken.sum()), len(labels))
    return Verdict(kind, sentence, accused, judged.excess, table, tuple(findings))


def _heeded(
    labels: np.ndarray, judged: Judgement, rate: float, findings: Sequence[Finding]
) -> tuple[Finding, ...]:
    """Findings without what labels say better: moved clips where more draw attention as intruders."""
    intruders = pd.Series(labels[judged.flagged(rate)]).value_counts()
    return tuple(f for f in findings if f.kind != MOVED or len(f.clips) > intruders.get(f.label, 0))


def _accused(
    labels: np.ndarray, judged: Judgement, rate: float, findings: Sequence[Finding]
) -> tuple[Accused, ...]:
    """The called classes, and those of which other evidence speaks for poison."""
    found: dict[str, list[Finding]] = {name: [] for name in judged.called}
    for finding in findings:
        if finding.speaks_for == POISON and finding.label:
            found.setdefault(finding.label, []).append(finding)
    names = sorted(found, key=lambda name: -judged.excess[name])
    return tuple(_accuse(name, labels, judged, rate, found[name]) for name in names)


def _accuse(
    name: str, labels: np.ndarray, judged: Judgement, rate: float, found: Sequence[Finding]
) -> Accused:
    own, why, low, most, more = labels == name, [], 1, 0, 0
    suspects = own & judged.flagged(rate)
    if suspects.any():
        others = [judged.score[labels == c] for c in judged.classes if c not in judged.called]
        low, most = bounds(judged.score[own], others, judged.line(rate))
        why.append(
            f"{suspects.sum()} of its {own.sum()} clips sound like other classes, "
            f"{judged.excess[name]:.0f} deviations more than in the others"
        )
    likely = judged.likely[suspects]
    likely = likely[likely != judged.classes.index(name)]
    counts = np.bincount(likely, minlength=len(judged.classes))
    for finding in found:
        suspects[finding.clips] = True
        least, held = finding.amount or (1, len(finding.clips))
        if finding.kind == MOVED:  # what labels missed of the same clips
            most = max(most, held)
        else:  # of others, if labels told of some
            more += held - len(finding.clips)
        low = max(low, least)
        why.append(finding.text)
    count = int(suspects.sum())
    source = judged.classes[counts.argmax()] if len(likely) else ""
    share = float(counts.max() / count) if len(likely) else 0.0
    high = min(max(count, most) + more, int(own.sum()))
    return Accused(name, int(own.sum()), count, low, high, source, share, "; ".join(why))


def _sentence(kind: str, accused: Sequence[Accused], mistaken: int, total: int) -> str:
    if kind == POISONED:
        parts = [
            f"{a.label} (about {a.suspects} of {a.clips} clips, {a.low} to {a.high})"
            for a in accused
        ]
        sources = [
            f"; {a.share:.0%} of the suspects of {a.label} sound like {a.source}"
            for a in accused
            if a.share >= 0.5
        ]
        return f"Poisoned: {', '.join(parts)}{''.join(sources)}."
    if kind == MISLABELLED:
        return (
            f"Mislabelled: about {mistaken} of {total} clips ({mistaken / total:.1%}) sound unlike their "
            "label, spread over classes; no class draws them, so this looks like mistakes."
        )
    return (
        f"Nothing found in {total} clips: no class draws wrong labels, holds moved clips or repeats a sound. "
        "This does not prove the corpus clean."
    )
