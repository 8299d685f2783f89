"""Random removal: what a filter must beat."""

from collections.abc import Collection
from dataclasses import dataclass

from bdlib.defenses.base import BlindView, FilterDefense
from bdlib.defenses.checks import share
from bdlib.files import seed_of


@dataclass
class RandomFilter(FilterDefense):
    """Removes each utterance with the same probability (Armory's random filter, there 0.3).

    Arguments
    ---------
    removed_share : float
        The probability.

    Raises
    ------
    InputError
        If it is not in [0, 1].
    """

    removed_share: float = 0.3

    def __post_init__(self) -> None:
        share("removed_share", self.removed_share)

    def scores(self, view: BlindView) -> dict[str, float]:
        """A uniform number in [0, 1) for each utterance, drawn by the view's seed."""
        ids = view.rows["ID"]
        return {name: seed_of("random filter", view.seed, name) / 2**63 for name in ids}

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """Those below 1 - `removed_share`."""
        return [name for name, score in scores.items() if score < 1 - self.removed_share]
