"""VAE-PLS: train an autoencoder on what is to be judged, and look for classes of two populations."""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from bdlib.defenses.base import BlindView, FilterDefense
from bdlib.defenses.checks import one_of
from bdlib.defenses.filters.vae_pls.encoder import Corpus, encode, error_of, home, trained
from bdlib.defenses.filters.vae_pls.judge import (
    Judge,
    Verdict,
    judge_all,
    poison_likelihood,
    small_or_strange,
    smaller,
    stranger,
)
from bdlib.errors import InputError
from bdlib.training.autoencoder import AutoencoderSettings

Chooser = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
CHOOSERS: dict[str, Chooser] = {
    "smaller": lambda inside, second, others: smaller(second),
    "stranger": stranger,
    "small_or_strange": small_or_strange,
}


@dataclass(frozen=True)
class Judged:
    """A corpus, judged class by class.

    Arguments
    ---------
    verdicts : dict[str, Verdict]
        By class; those not judged are missing.
    suspicion : dict[str, np.ndarray]
        By class, of its clips in order: share of the runs in which a clip was in the cluster that
        is taken for the poison.
    class_scores : dict[str, float]
        `outlyingness` in units of the `threshold`: above 1 a class is called poisoned.
    """

    verdicts: dict[str, Verdict]
    suspicion: dict[str, np.ndarray]
    class_scores: dict[str, float]


@dataclass
class VaePls(FilterDefense):
    """Removes the poisoned cluster of every class whose score is an outlier (Mehlman et al. 2024).

    The autoencoder is trained on all untrusted clips, poisoned or not; labels only group its
    latents. Classes of fewer than `LEAST_CLIPS` clips, and those left out, are kept whole.

    Arguments
    ---------
    autoencoder : AutoencoderSettings
        Of which the latents are judged.
    judge : Judge
        Latents to a verdict: `poison_likelihood` (the paper), or `two_populations`.
    poison : str
        Which cluster of a poisoned class goes: the `smaller`, the `stranger` to all other classes,
        or `small_or_strange`. The paper listens to both.
    left_out : Sequence[str]
        Classes not judged; noise among words (section 4.1). Those a corpus has not do not matter.
    false_alarms : float
        Share of clean corpora in which some class would be called poisoned if scores were normal. It
        is nominal: scores are skewed and of few classes, and `least_spread` makes it less.
    least_spread : float
        See `outlyingness`, in units of the score; 0 is the rule alone. `two_populations` needs 0.15:
        most benign classes share its least score.
    most_error : float
        An autoencoder whose `rebuilding_error` is above it gives no verdict: every clip is kept.
    spectrum : bool
        Unfold f, and judge by the mean spectrum of a clip, too; see `SequentialAutoencoder.latent`.
    selection : str
        How these were chosen: `oracle` says that `least_spread` was set on corpora whose poison was
        known.

    Raises
    ------
    InputError
        If `poison` or `selection` is none of these.
    """

    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    judge: Judge = poison_likelihood
    poison: str = "small_or_strange"
    left_out: Sequence[str] = ("_silence_",)
    false_alarms: float = 0.05
    least_spread: float = 0.0
    most_error: float = 1.0
    spectrum: bool = False
    selection: str = "fixed"
    class_scores: dict[str, float] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        one_of("poison", self.poison, CHOOSERS)
        one_of("selection", self.selection, ("fixed", "validation", "oracle"))

    def latents(self, view: BlindView) -> tuple[np.ndarray, float]:
        """Latents (n, D) of all clips, by an autoencoder trained on them, and its error."""
        whole = Corpus(view.pack, view.rows, view.seed, view.run_opts)
        network = trained(self.autoencoder, whole, view.folder)
        self.trained_in = home(self.autoencoder, whole, view.folder)
        error = error_of(self.autoencoder, whole, view.folder)
        return encode(network, whole, self.spectrum), error

    def judged(self, latents: np.ndarray, labels: Sequence[str], seed: int) -> Judged:
        """Judge a corpus by its latents (n, D) and labels (n,); see `judge_all` for errors."""
        labels = np.asarray(labels)
        verdicts = judge_all(latents, labels, seed, self.left_out, self.judge)
        raw = {name: verdict.score for name, verdict in verdicts.items()}
        scores = outlyingness(raw, self.least_spread)
        limit = threshold(len(scores), self.false_alarms)
        suspicion = {}
        for name, verdict in verdicts.items():
            here = labels == name
            second, others = verdict.second, ~here & ~np.isin(labels, list(self.left_out))
            poison = CHOOSERS[self.poison](latents[here], second, latents[others])
            same = bool((poison == second).all())
            suspicion[name] = verdict.soft if same else 1 - verdict.soft
        return Judged(verdicts, suspicion, {name: z / limit for name, z in scores.items()})

    def scores(self, view: BlindView) -> dict[str, float]:
        """Suspicion of every clip in [0, 1]; above 0.75 it goes.

        Half the share of the runs in which it was in the cluster taken for poison, and another half
        if its class is called poisoned. 0 in classes that are not judged, and of all clips without a
        verdict; see `most_error`.
        """
        labels = view.rows["label"].to_numpy()
        latents, error = self.latents(view)
        if error > self.most_error:
            print(f"warning: {no_verdict(error)}; every clip is kept")
            self.class_scores = None
            return dict.fromkeys(view.rows["ID"], 0.0)
        judged = self.judged(latents, labels, view.seed)
        suspicion = np.zeros(len(labels))
        for name, soft in judged.suspicion.items():
            suspicion[labels == name] = soft / 2 + (judged.class_scores[name] > 1) / 2
        self.class_scores = judged.class_scores
        self._say(labels, judged)
        return dict(zip(view.rows["ID"], suspicion.tolist(), strict=True))

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """See `scores`."""
        return [name for name, score in scores.items() if score <= 0.75]

    def _say(self, labels: np.ndarray, judged: Judged) -> None:
        unjudged = sorted(set(labels) - set(self.class_scores) - set(self.left_out))
        if unjudged:
            print(f"note: too few clips to judge {' '.join(unjudged)}; they are kept")
        shrunk = [name for name, verdict in judged.verdicts.items() if verdict.shrunk]
        if shrunk:
            print(
                f"note: of clusters of {' '.join(shrunk)} a covariance was shrunk, having few clips"
            )
        called = [name for name, score in self.class_scores.items() if score > 1]
        print(f"called poisoned: {' '.join(called) or 'no class'}")


def no_verdict(error: float) -> str:
    """What to say of an autoencoder above `VaePls.most_error`."""
    return (
        f"no verdict: the autoencoder rebuilds clips with {error:.2f} times the variance of the "
        "corpus; raise `steps`, or set `fitted_output` to True"
    )


def outlyingness(scores: dict[str, float], least_spread: float = 0.0) -> dict[str, float]:
    """By how many robust deviations each class scores above the median class.

    (score - median) / (1.4826 MAD); the paper looks for outliers but gives no rule. Benign classes
    are taken to differ by a deviation of at least `least_spread`.
    """
    values = np.array(list(scores.values()))
    middle = np.median(values)
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), least_spread, 1e-12)
    return {name: float((score - middle) / spread) for name, score in scores.items()}


@functools.cache
def threshold(classes: int, false_alarms: float) -> float:
    """The outlyingness that the first of so many equal classes exceeds with this probability.

    By simulation of normal scores, always the same one. It makes the rule's rate of false alarms a
    setting, a nominal one: the share of clean corpora in which some class would be called poisoned,
    if scores were normal and classes alike.

    It falls with the share, but not with every class more. Of an odd number the median class deviates
    by nothing, which makes the median deviation smaller, and the limit higher, than of one class more
    or less; and of few classes the deviation itself is little known. At 0.05: 10.5 for 3 classes, 4.7
    for 4, 5.7 for 5, 3.9 for 11, 3.5 for 40.

    Raises
    ------
    InputError
        If `false_alarms` is not within 0.001 and 1.
    """
    if not 0.001 <= false_alarms <= 1:
        raise InputError(f"`false_alarms` is {false_alarms}: give a share of 0.001 to 1")
    scores = np.random.Generator(np.random.PCG64(0)).standard_normal((20000, classes))
    scores -= np.median(scores, axis=1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(scores), axis=1)
    return float(np.quantile(scores.max(1) / spread, 1 - false_alarms))
