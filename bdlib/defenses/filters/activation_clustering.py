"""Activation clustering: each class cut in two, one side suspected (Chen et al. 2018)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bdlib.defenses import clusters
from bdlib.defenses.activations import LAYERS, activations, by_class
from bdlib.defenses.base import BlindView, FilterDefense
from bdlib.defenses.checks import counts, one_of, positive, share
from bdlib.defenses.clusters import REDUCTIONS, Halves
from bdlib.errors import InputError
from bdlib.files import seed_of

DECISIONS = ("smaller", "relative_size", "distance", "silhouette")


@dataclass
class ActivationClustering(FilterDefense):
    """Cuts every class in two by two-means and removes the side that a rule suspects.

    Classes of fewer than 30 utterances are left as they are, and none is emptied.

    What the rules remove of clean data: `smaller`, the default of ART and Armory, is no decision
    rule; a side of every class goes, up to half of it. `relative_size` and `silhouette` remove
    nothing of a class with one mode, which two-means cuts near the middle; a class of many words or
    of silence may have more. `distance` removes nothing of classes farther apart than their halves.
    With `exre_threshold`, a suspected side comes back unless a classifier trained without all such
    sides takes it for another class.

    Arguments
    ---------
    layer : str
        `penultimate`, `logits` or `softmax`. Armory's wrapper makes it the softmax output.
    components : int
        Of the reduction: 10 in ART, 43 in Armory.
    reduction : str
        `pca`, or `ica` as in the paper.
    decision : str
        One of `DECISIONS`, the functions of these names in `clusters`.
    size_threshold, silhouette_threshold : float
        Of `relative_size` and `silhouette`.
    exre_threshold : float | None
        T: a side is cleared if its `clusters.exre` is above. None leaves this out; it costs a training.

    Raises
    ------
    InputError
        If a setting is out of range; in `scores`, if `distance` has one class alone.
    """

    layer: str = "penultimate"
    components: int = 10
    reduction: str = "pca"
    decision: str = "smaller"
    size_threshold: float = 0.35
    silhouette_threshold: float = 0.1
    exre_threshold: float | None = None

    def __post_init__(self) -> None:
        one_of("layer", self.layer, LAYERS)
        one_of("reduction", self.reduction, REDUCTIONS)
        one_of("decision", self.decision, DECISIONS)
        share("size_threshold", self.size_threshold)
        counts("components", self.components)
        if self.exre_threshold is not None:
            positive("exre_threshold", self.exre_threshold)

    def suspicion(
        self, activations: np.ndarray, labels: Sequence[str] | np.ndarray, seed: int = 0
    ) -> np.ndarray:
        """Suspicion of each utterance (N,), in [0, 1]: above 0.5 for what the rule suspects.

        Arguments
        ---------
        activations : np.ndarray
            (N, D), of any model.
        labels : Sequence[str] | np.ndarray
            (N,).
        seed : int
            Of the clustering.

        Raises
        ------
        InputError
            See `by_class`; or `distance` has one class alone.
        """
        classes = by_class(activations, labels)
        decide = self._rule(activations, classes)
        suspicion = np.zeros(len(activations))
        for label, rows in classes.items():
            start = seed_of("activation clustering", seed, label) % 2**32
            halves = clusters.halves(activations[rows], self.components, self.reduction, start)
            side = None if halves is None else decide(label, halves)
            if side is not None:
                suspicion[rows] = halves.suspicion(side)
        return suspicion

    def _rule(
        self, activations: np.ndarray, classes: Mapping[str, np.ndarray]
    ) -> Callable[[str, Halves], int | None]:
        if self.decision == "distance":
            if len(classes) < 2:
                raise InputError("`decision` is distance: it needs a second class of 30 utterances")
            middles = {name: np.median(activations[rows], 0) for name, rows in classes.items()}

        def by_distance(label: str, halves: Halves) -> int | None:
            others = np.stack([middle for name, middle in middles.items() if name != label])
            return clusters.distance(halves, activations[classes[label]], others)

        return {
            "smaller": lambda _, halves: clusters.smaller(halves),
            "relative_size": lambda _, halves: clusters.relative_size(halves, self.size_threshold),
            "silhouette": lambda _, halves: clusters.silhouette(
                halves, self.size_threshold, self.silhouette_threshold
            ),
            "distance": by_distance,
        }[self.decision]

    def scores(self, view: BlindView) -> dict[str, float]:
        """See `suspicion`, by the classifier that was trained on all."""
        outputs = activations(view.train(view.rows), view.batches(view.rows), self.layer)
        suspicion = pd.Series(
            self.suspicion(outputs, view.rows["label"], view.seed), view.rows["ID"].to_numpy()
        )
        if self.exre_threshold is not None and (suspicion > 0.5).any():
            suspicion[self._cleared(view, view.rows["ID"].map(suspicion) > 0.5)] = 0.0
        return suspicion.to_dict()

    def _cleared(self, view: BlindView, suspected: pd.Series) -> list[str]:
        """IDs of suspected sides that a classifier trained without them takes for their class."""
        classifier = view.train(view.rows[~suspected].reset_index(drop=True))
        rows = view.rows[suspected].reset_index(drop=True)
        best = activations(classifier, view.batches(rows), "logits").argmax(1)
        predicted = np.asarray(view.classes)[best]
        cleared = []
        for label, of_class in rows.groupby("label"):
            if clusters.exre(predicted[of_class.index], label) > self.exre_threshold:
                cleared += list(of_class["ID"])
        return cleared

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """Those of no suspected side."""
        return [name for name, suspicion in scores.items() if suspicion <= 0.5]
