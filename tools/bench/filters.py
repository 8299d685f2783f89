"""Activation clustering and spectral signatures beside ART 1.20.1, on the same activations.

Every class has two modes far apart, so that it is clear what two-means must find; elsewhere ART's
single start, drawn anew each time, decides. Both sides get the activations as one matrix, and both
have ART's settings; ours must decide as ART does before a time counts. Utterances whose score is
within rounding of the quantile may differ. It runs on the CPU, as both sides do. The last line is
one JSON object.
"""

import argparse
import json
from collections.abc import Callable

import numpy as np
from shared.timing import facts, options, ratio, summary, turns

from bdlib.cli.command import guarded
from bdlib.defenses.filters.activation_clustering import ActivationClustering
from bdlib.defenses.filters.spectral_signatures import SpectralSignatures, spectral_ranks
from bdlib.errors import InputError

NAMES = ("clustering", "spectral")
ROUNDING = 1e-3  # share of decisions that may differ
SIZES = {
    "quick": {"rows": 6000, "width": 512, "classes": 6},
    "cuda": {"rows": 30000, "width": 2048, "classes": 12},
    "cpu": {"rows": 30000, "width": 2048, "classes": 12},
}


class Matrix:
    """What ART takes for a classifier: its activations are the rows it is given."""

    layer_names = ("penultimate",)

    def __init__(self, classes: int) -> None:
        self.nb_classes = classes

    def get_activations(self, x: np.ndarray, layer: int, batch_size: int) -> np.ndarray:
        """The rows."""
        return x


def made(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Activations (rows, width) float32, not below 0 as after a ReLU, and class numbers (rows,).

    A fifth of every class is far from the rest.
    """
    generator = np.random.Generator(np.random.PCG64(0))

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape, np.float32)

    labels = np.arange(args.rows) % args.classes
    second = generator.random(args.rows) < 0.2
    embeddings = normal(args.rows, 32) @ (0.2 * normal(32, args.width))
    embeddings += normal(args.classes, args.width)[labels]
    embeddings += second[:, None] * normal(args.classes, args.width)[labels]
    embeddings += 0.3 * normal(args.rows, args.width)
    return np.maximum(embeddings, 0, out=embeddings), labels


def ways(
    embeddings: np.ndarray, labels: np.ndarray, decided: dict[str, np.ndarray]
) -> dict[str, Callable[[], object]]:
    """All that is timed: ART's two filters and ours. What each keeps comes into `decided`.

    Raises
    ------
    InputError
        If ART is not installed.
    """
    try:
        from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense
    except ImportError as error:
        raise InputError(f'no ART ({error}); install it: pip install -e ".[bench]"') from error
    names = labels.astype(str)
    clustering, spectral = ActivationClustering(), SpectralSignatures(centered=False)

    def art(defense: type) -> np.ndarray:
        _, clean = defense(Matrix(int(labels.max()) + 1), embeddings, labels).detect_poison()
        return np.array(clean) == 1

    def kept_by_rank() -> np.ndarray:
        ranks = spectral_ranks(embeddings, names, spectral.centered)
        return np.isin(np.arange(len(ranks)), spectral.keep(dict(enumerate(ranks))))

    kept = {
        "clustering_art": lambda: art(ActivationDefence),
        "spectral_art": lambda: art(SpectralSignatureDefense),
        "clustering": lambda: clustering.suspicion(embeddings, names) <= 0.5,
        "spectral": kept_by_rank,
    }

    def noted(name: str) -> Callable[[], object]:
        return lambda: decided.update({name: kept[name]()})

    return {name: noted(name) for name in kept}


def agreement(decided: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of utterances for which ours decides as ART does.

    Raises
    ------
    InputError
        If more than rounding sets them apart.
    """
    same = {name: float((decided[name] == decided[f"{name}_art"]).mean()) for name in NAMES}
    for name, value in same.items():
        if not value >= 1 - ROUNDING:
            raise InputError(
                f"{name}: {value:.2%} of the decisions are ART's; run tests/defenses, and check "
                "that it is ART 1.20.1"
            )
    return same


def report(seconds: dict[str, list[float]]) -> dict:
    """Ratios of each turn."""
    both = {
        side: [sum(pair) for pair in zip(*(seconds[f"{n}{side}"] for n in NAMES), strict=True)]
        for side in ("", "_art")
    }
    spread = ratio(both["_art"], both[""])
    return {
        "name": "filters",
        "ratio": spread["median"],
        "over": "time of ART's two filters over that of ours, on the same activations",
        "ratio_spread": spread,
        **{
            f"ratio_{name}": ratio(seconds[f"{name}_art"], seconds[name])["median"]
            for name in NAMES
        },
        "s": {name: summary(values, 4) for name, values in seconds.items()},
    }


def measure(args: argparse.Namespace) -> dict:
    """All figures for the sizes asked for."""
    decided: dict[str, np.ndarray] = {}
    seconds = turns(ways(*made(args), decided), args)
    return report(seconds) | {"same_decisions": agreement(decided)} | vars(args) | facts("cpu")


def main() -> None:
    """Command line."""
    print(json.dumps(measure(options(__doc__, SIZES))))


if __name__ == "__main__":
    with guarded():
        main()
