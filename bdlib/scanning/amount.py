"""About how many clips of a called class are poisoned: the bounds that a verdict states.

Constants were set on the development half of `tools/scan_trials.yaml`, and tried on the other (docs/scan.md).
"""

from collections.abc import Sequence

import numpy as np

from bdlib.defenses.disagreement import SURE

# Score from which a single label is taken to be wrong, in a class that is not called.
MISTAKEN = 0.7
DEVIATIONS = 3.0  # of the share of clean clips that score as high, from class to class
# Clips below the line, for each between the line and `SURE` that clean ones do not explain.
MISSED = 1.5


def bounds(own: np.ndarray, others: Sequence[np.ndarray], line: float) -> tuple[int, int]:
    """Least and most clips of a class that are poisoned.

    The least: of n clips, P poisoned, k score above a level. If all poison does and a share q of clean
    clips, then k = P + q (n - P). The other classes tell how large q may be in one more class. At a low
    level few poisoned clips are missed, at a high one few clean ones are taken for them: each gives a
    bound, and the largest counts. The most: poison that lies apart from clean clips lies above the
    line as a whole. What is left of it just above the line tells how much may be below.

    Arguments
    ---------
    own : np.ndarray
        (n,) scores of the clips of the class.
    others : Sequence[np.ndarray]
        Scores of the clips of each class that is not called.
    line : float
        Score above which clips of the class are flagged.
    """
    if not others:  # nothing tells how clean clips score
        return 1, len(own)
    least = max(_least(own, others, level) for level in {line, SURE, MISTAKEN} if level >= line)
    between = ((own > line) & (own <= SURE)).sum()
    usual = np.mean([((o > line) & (o <= SURE)).mean() for o in others]) * (own <= line).sum()
    missed = MISSED * max(0.0, between - usual + 2 * np.sqrt(between + 1))
    return max(1, int(np.floor(least))), min(len(own), int(np.ceil((own > line).sum() + missed)))


def _least(own: np.ndarray, others: Sequence[np.ndarray], level: float) -> float:
    """Poisoned clips by those above a level; the clean ones are as many as of one more such class."""
    shares = np.array([((o > level).sum() + 0.5) / (len(o) + 1) for o in others])
    usual = shares.mean()
    spread = shares.std(ddof=1) if len(shares) > 1 else usual
    clean = usual + DEVIATIONS * np.sqrt(spread**2 + usual * (1 - usual) / len(own))
    clean = min(clean, 0.9)
    return float(((own > level).sum() - clean * len(own)) / (1 - clean))
