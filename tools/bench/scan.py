"""What a scan does with embeddings beside cleanlab (2.9), given the same ones.

Ours judges labels, with classes called and clips flagged, and looks for outliers. Cleanlab does what its
tutorials do: `find_label_issues` on out-of-fold probabilities of a logistic regression, and its
`OutOfDistribution`, which is what its Datalab runs. Embeddings are made up: classes that overlap a little,
and a target class with intruders. Neither side listens to audio here: that costs both the same. Then
both have ten times as many clips, once; the growth is the time of ours for these over ten times that for
the fewer. Times are the processor's, on the CPU. The last line is one JSON object.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable

import numpy as np
from shared.timing import facts, options, ratio, summary, turns
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from bdlib.cli.command import guarded
from bdlib.defenses.disagreement import judge
from bdlib.defenses.opinions import neighbours
from bdlib.errors import InputError

SIZES = {
    "quick": {"rows": 600, "width": 96, "classes": 8},
    "cpu": {"rows": 6600, "width": 192, "classes": 11},
}
SHARE = 0.05  # of the clips, that are intruders


def made(rows: int, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings (rows, width) of unit length, class numbers, and which clips are intruders."""
    generator = np.random.Generator(np.random.PCG64(0))
    true = np.arange(rows) % args.classes
    middles = generator.standard_normal((args.classes, args.width)).astype(np.float32)
    embeddings = middles[true] + generator.standard_normal((rows, args.width), np.float32)
    intruder = (generator.random(rows) < SHARE) & (true > 0)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings, np.where(intruder, 0, true), intruder


def scanned(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What ours flags."""
    near = neighbours(embeddings)  # for labels, outliers and copies
    return judge(embeddings, labels.astype(str), near=near).flagged()


def cleanlab(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What cleanlab flags as label issues.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.outlier import OutOfDistribution
    except ImportError as error:
        raise InputError(f'no cleanlab ({error}); install it: pip install -e ".[bench]"') from error
    model = LogisticRegression(max_iter=400)
    shares = cross_val_predict(model, embeddings, labels, cv=5, method="predict_proba")
    OutOfDistribution().fit_score(features=embeddings, verbose=False)
    return find_label_issues(labels, shares, n_jobs=1)


SIDES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cleanlab": cleanlab,
    "scan": scanned,
}


def found(flagged: np.ndarray, intruder: np.ndarray) -> dict[str, float]:
    """Shares of intruders and of clean clips that are flagged."""
    return {
        "found": round(float(flagged[intruder].mean()), 3),
        "clean_flagged": round(float(flagged[~intruder].mean()), 4),
    }


def ten_times(args: argparse.Namespace, seconds: float) -> dict[str, float | int]:
    """Seconds of both sides for ten times the clips, and the growth of ours from `seconds`."""
    rows = 10 * args.rows
    embeddings, labels, _ = made(rows, args)
    told: dict[str, float | int] = {"clips": rows}
    for name, side in SIDES.items():
        started = time.process_time()
        side(embeddings, labels)
        told[name] = round(time.process_time() - started, 2)
    return told | {"growth": round(told["scan"] / seconds / 10, 2)}


def measure(args: argparse.Namespace) -> dict:
    """All figures for the sizes asked for."""
    embeddings, labels, intruder = made(args.rows, args)
    told: dict[str, np.ndarray] = {}
    works = {
        name: (lambda name=name, side=side: told.update({name: side(embeddings, labels)}))
        for name, side in SIDES.items()
    }
    seconds = turns(works, args, time.process_time)
    spread = ratio(seconds["cleanlab"], seconds["scan"])
    return {
        "name": "scan",
        "ratio": spread["median"],
        "over": "time of cleanlab over that of the scan, on the same embeddings",
        "ratio_spread": spread,
        "s": {name: summary(values, 3) for name, values in seconds.items()},
        "intruders": {name: found(flagged, intruder) for name, flagged in told.items()},
        "ten_times": ten_times(args, float(np.median(seconds["scan"]))),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **vars(args),
        **facts("cpu"),
    }


def main() -> None:
    """Command line."""
    print(json.dumps(measure(options(__doc__, SIZES))))


if __name__ == "__main__":
    with guarded():
        main()
