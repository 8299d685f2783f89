"""From few clips that are known to be clean to all that agree with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bdlib.defenses.base import BlindView
from bdlib.defenses.checks import share
from bdlib.defenses.small_net import (
    PValueFilter,
    beliefs,
    cross_entropy,
    fitted,
    p_values,
    shuffled,
)
from bdlib.errors import InputError
from bdlib.files import seed_of

BATCH = 32  # of the clean budget, which is small


@dataclass
class Bootstrapping(PValueFilter):
    """Removes clips whose label a net does not believe that has grown from clean data.

    A small net learns the clean budget. Of each class the clips whose label it believes most are
    kept, a fresh net learns these, believes, and keeps more; poison, whose labels are wrong, comes last.
    Self-paced learning with a clean start. A clip is removed if its p-value is at most
    `false_positive_rate`: the share of validation clips that the last net believes as little.

    Arguments
    ---------
    clean_share : float
        Of the training set, as clean budget.
    shares : Sequence[float]
        Of each class, what each round keeps.

    Further ones are those of `PValueFilter`.

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    clean_share: float = 0.05
    shares: Sequence[float] = (0.4, 0.6, 0.75)

    def __post_init__(self) -> None:
        super().__post_init__()
        share("clean_share", self.clean_share)
        if not self.shares or not all(0 < part <= 1 for part in self.shares):
            raise InputError(f"`shares` is {list(self.shares)}: give shares above 0 and up to 1")

    def scores(self, view: BlindView) -> dict[str, float]:
        """One minus the p-value of every utterance."""
        seed = seed_of("bootstrapping", view.seed)
        clean = view.clean(self.clean_share).train(BATCH)

        def of_clean(epoch: int) -> Sequence:
            clean.epoch = epoch
            return clean

        batches = of_clean
        for turn, part in enumerate((*self.shares, 1.0)):
            net = fitted(
                len(view.classes), batches, cross_entropy, self.epochs, self.net_lr,
                seed_of(seed, turn), f"bootstrapping {turn + 1} of {len(self.shares) + 1}",
            )  # fmt: skip
            belief = beliefs(net, view.batches(view.rows))
            rank = view.rows.assign(belief=belief).groupby("label")["belief"].rank(
                ascending=False, pct=True, method="first"
            )  # fmt: skip
            batches = shuffled(view, np.flatnonzero(rank <= part), seed)
        suspicion = 1 - p_values(1 - belief, 1 - beliefs(net, view.validation()))
        return dict(zip(view.rows["ID"], suspicion.tolist(), strict=True))
