"""Perfect removal: what no filter can beat."""

from collections.abc import Collection

from bdlib.defenses.base import BlindView, OracleFilter
from bdlib.errors import InputError


class PerfectFilterOracle(OracleFilter):
    """Removes exactly the poisoned utterances, because it is told which they are (Armory)."""

    def scores(self, view: BlindView) -> dict[str, float]:
        """1 for poisoned utterances, 0 for others.

        Raises
        ------
        InputError
            If the truth was not revealed, or nothing is poisoned.
        """
        if not self.poisoned:
            raise InputError("perfect filter: nothing is poisoned; choose an `attack`")
        return {name: float(name in self.poisoned) for name in view.rows["ID"]}

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """The clean ones."""
        return [name for name, score in scores.items() if score == 0]
