"""SCAn: a class that is two groups under the variation all classes share (Tang et al. 2021)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from bdlib.corpus import Batch
from bdlib.defenses.activations import LAYERS, activations, by_class
from bdlib.defenses.base import BlindView, CleanData, FilterDefense
from bdlib.defenses.checks import counts, one_of, positive, share
from bdlib.defenses.clusters import two_means
from bdlib.errors import InputError
from bdlib.files import seed_of

STEPS = 20  # of the EM algorithm; it changes little after five
RIDGE = 0.05  # of the mean variance, added to the shared covariance: few clean clips leave gaps
FEWEST_CLASSES = 6  # of fewer, the spread over classes is known too badly to call one an outlier
BATCH = 64


def shared_covariance(
    rows: np.ndarray, labels: Sequence[str] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Covariances of what classes are, S_mu, and of how their members vary, S_eps; both (d, d).

    The model is r = mu + eps with mu ~ N(0, S_mu) for each class and eps ~ N(0, S_eps) for each
    utterance, the same for all classes (after Chen et al. 2012, joint Bayesian faces). Fitted by EM: given both
    covariances, mu of a class of m utterances with mean r is normal with mean
    m S_mu (m S_mu + S_eps)^-1 r and covariance S_mu - m S_mu (m S_mu + S_eps)^-1 S_mu. The paper's
    M-step takes the mean for mu itself; here its covariance counts, too.

    Arguments
    ---------
    rows : np.ndarray
        (N, d) activations of clean utterances, whose mean is taken out.
    labels : Sequence[str] | np.ndarray
        (N,).
    """
    rows = np.asarray(rows, np.float64) - np.mean(rows, axis=0, dtype=np.float64)
    _, number, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    middles = np.stack([rows[number == place].mean(0) for place in range(len(counts))])
    inner = rows - middles[number]
    within = inner.T @ inner / len(rows)
    between = middles.T @ middles / len(counts)
    ridge = RIDGE * (np.trace(within) or 1.0) / len(within) * np.eye(len(within))
    s_eps, s_mu = within + ridge, between + ridge
    for _ in range(STEPS):
        means, second, doubt = np.empty_like(middles), np.zeros_like(s_mu), np.zeros_like(s_mu)
        for m in np.unique(counts):
            of_size = counts == m
            gain = m * np.linalg.solve(m * s_mu + s_eps, s_mu).T
            means[of_size] = middles[of_size] @ gain.T
            left = s_mu - gain @ s_mu
            second += of_size.sum() * left
            doubt += of_size.sum() * m * left
        residual = rows - means[number]
        s_mu = (means.T @ means + second) / len(counts)
        s_eps = (residual.T @ residual + doubt) / len(rows) + ridge
    return s_mu, s_eps


def contamination(
    rows: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    s_eps: np.ndarray,
    clean: Mapping[str, np.ndarray],
    seed: int = 0,
) -> tuple[dict[str, float], np.ndarray]:
    """J* of every class, and the share to which each utterance is of its class's odd group.

    J = sum over r of (r - mu)' S_eps^-1 (r - mu) - (r - mu_j)' S_eps^-1 (r - mu_j): twice the
    log-likelihood ratio of two groups, where r is in group j, over one. It is highest for
    two-means of the rows whitened by S_eps, which is therefore how groups are found here. J* is its
    distance from the median over classes in robust deviations, 1.4826 times the median absolute
    deviation. Two departures: J grows with the size of a class, poisoned or not, so J / n
    is compared, which for classes of equal size is the same; and only a high J* is suspicious, where
    the paper takes its absolute value. The odd group is the one farther, by S_eps, from the mean of
    the class's clean utterances; without any it is the smaller, which is the paper's choice, and
    wrong where poison outnumbers a class.

    Arguments
    ---------
    rows : np.ndarray
        (N, d) untrusted activations.
    labels : Sequence[str] | np.ndarray
        (N,).
    s_eps : np.ndarray
        (d, d) of `shared_covariance`.
    clean : Mapping[str, np.ndarray]
        Mean (d,) of the clean utterances by class.
    seed : int
        Of two-means.

    Returns
    -------
    tuple[dict[str, float], np.ndarray]
        J* by class, and (N,) in [0, 1]: above 0.5 in the odd group of the class.

    Raises
    ------
    InputError
        See `by_class`; or there are fewer than `FEWEST_CLASSES` classes of 30.
    """
    classes = by_class(rows, labels)
    if len(classes) < FEWEST_CLASSES:
        raise InputError(
            f"SCAn: {len(classes)} classes of 30 utterances; it compares at least {FEWEST_CLASSES}"
        )
    values, vectors = np.linalg.eigh(s_eps)
    whiten = vectors / np.sqrt(values)
    white = np.asarray(rows, np.float64) @ whiten
    raw, nearness = {}, np.zeros(len(rows))
    for label, members in classes.items():
        points = white[members]
        groups = two_means(points, seed_of("scan", seed, label) % 2**32)
        one = ((points - points.mean(0)) ** 2).sum()
        raw[label] = (one - (groups.distances.min(1) ** 2).sum()) / len(points)
        odd = groups.smaller
        if label in clean:
            centres = np.stack([points[groups.side == side].mean(0) for side in (0, 1)])
            odd = int(np.linalg.norm(centres - clean[label] @ whiten, axis=1).argmax())
        if np.ptp(points, axis=0).any():  # points that are all equal are no two groups
            nearness[members] = groups.suspicion(odd)
    levels = np.array(list(raw.values()))
    middle = np.median(levels)
    spread = 1.4826 * np.median(np.abs(levels - middle)) + 1e-12
    return {label: float((value - middle) / spread) for label, value in raw.items()}, nearness


@dataclass
class Scan(FilterDefense):
    """Removes the odd group of every class that is an outlier in being two groups.

    Of classes that all vary alike, a clean one is flagged in less than 1 of 100 (normal J, six
    classes or more); of it one group goes. The variation is learned from clean utterances that
    the defender recorded or checked. Activations are reduced to principal components of the
    untrusted ones first, because few clean clips do not determine a wide covariance. Classes of
    fewer than 30 utterances are left as they are.

    Arguments
    ---------
    layer : str
        `penultimate`, `logits` or `softmax`.
    components : int
        Of the reduction.
    threshold : float
        Of J*: e squared in the paper.
    clean_share : float
        The clean budget: share of the training set, as many clips of each class.

    Raises
    ------
    InputError
        If a setting is out of range; in `scores`, if there is too little clean data or too few
        classes.
    """

    layer: str = "penultimate"
    components: int = 32
    threshold: float = 7.389
    clean_share: float = 0.1

    def __post_init__(self) -> None:
        one_of("layer", self.layer, LAYERS)
        share("clean_share", self.clean_share)
        counts("components", self.components)
        positive("threshold", self.threshold)

    def scores(self, view: BlindView) -> dict[str, float]:
        """Suspicion in [0, 1]: above 0.5 in the odd group of a flagged class, 0 in others."""
        classifier, clean = view.train(view.rows), view.clean(self.clean_share)
        if clean.count < 2 * self.components:
            raise InputError(
                f"`clean_share` is {self.clean_share}: {clean.count} clean utterances for "
                f"{self.components} components; give a larger share or fewer `components`"
            )
        labels: list[int] = []

        def noted() -> Iterator[Batch]:
            for batch in _budget(clean):
                labels.extend(batch.labels.tolist())
                yield batch

        trusted = activations(classifier, noted(), self.layer)
        untrusted = activations(classifier, view.batches(view.rows), self.layer)
        if untrusted.shape[1] > self.components:
            pca = PCA(self.components, random_state=view.seed % 2**32).fit(untrusted)
            trusted, untrusted = pca.transform(trusted), pca.transform(untrusted)
        _, s_eps = shared_covariance(trusted, labels)
        middles = {view.classes[n]: trusted[np.equal(labels, n)].mean(0) for n in set(labels)}
        flagged, nearness = contamination(untrusted, view.rows["label"], s_eps, middles, view.seed)
        guilty = view.rows["label"].map(flagged).fillna(0.0).to_numpy() > self.threshold
        return dict(zip(view.rows["ID"], (nearness * guilty).tolist(), strict=True))

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """Those of no suspected group."""
        return [name for name, suspicion in scores.items() if suspicion <= 0.5]


def _budget(clean: CleanData) -> Iterator[Batch]:
    """The budget in equal batches, so that next to nothing falls into a last short one."""
    yield from clean.train(clean.count // -(-clean.count // BATCH))
