"""Confident learning on the embeddings of a pretrained encoder: what people use against wrong labels."""

from collections.abc import Collection
from dataclasses import dataclass

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler

from bdlib.defenses.base import BlindView, FilterDefense
from bdlib.defenses.checks import counts, one_of
from bdlib.defenses.filters.label_disagreement import embedded
from bdlib.encoders import ENCODERS
from bdlib.errors import InputError


@dataclass
class CleanlabIssues(FilterDefense):
    """Removes what cleanlab's `find_label_issues` calls wrong labels (Northcutt, Jiang, Chuang 2021).

    The rival of `label_disagreement`: the same embeddings, out-of-fold probabilities of a logistic
    regression as in cleanlab's tutorials, all else at its defaults. It looks for mistakes that any class
    may have, and so takes clips from all classes; it trains no classifier and takes no clean data.

    Arguments
    ---------
    encoder : str
        `words` or `speakers`: what the labels are.
    folds : int
        Of the logistic regression.

    Raises
    ------
    InputError
        If a setting is out of range; in `scores`, if cleanlab or the encoder's weights are not
        installed, or a class has fewer clips than folds.
    """

    encoder: str = "words"
    folds: int = 5

    def __post_init__(self) -> None:
        one_of("encoder", self.encoder, ENCODERS)
        counts("folds", self.folds, 2)

    def scores(self, view: BlindView) -> dict[str, float]:
        """Suspicion in [0, 1]: above 0.5 for what is removed."""
        try:
            from cleanlab.filter import find_label_issues
            from cleanlab.rank import get_label_quality_scores
        except ImportError as error:
            raise InputError(
                f'no cleanlab ({error}); install it: pip install -e ".[bench]"'
            ) from error
        given = LabelEncoder().fit_transform(view.rows["label"])
        fewest = view.rows["label"].value_counts()
        if fewest.min() < self.folds:
            raise InputError(
                f"{fewest.idxmin()} has {fewest.min()} clips, fewer than `folds`, {self.folds}: set that lower"
            )
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=400))
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=view.seed)
        shares = cross_val_predict(
            model, embedded(view, self.encoder), given, cv=folds, method="predict_proba"
        )
        wrong = find_label_issues(given, shares, n_jobs=1)
        suspicion = (1 - get_label_quality_scores(given, shares)) / 2 + 0.5 * wrong
        return dict(zip(view.rows["ID"], suspicion.tolist(), strict=True))

    def keep(self, scores: dict[str, float]) -> Collection[str]:
        """All that is not flagged."""
        return [name for name, suspicion in scores.items() if suspicion <= 0.5]
