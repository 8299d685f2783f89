"""What a classifier and its backdoor do."""

from typing import Any

import pandas as pd

from bdlib import manifest
from bdlib.evaluation import metrics, scores
from bdlib.manifest import TEST, TRIGGERED
from bdlib.models.classifier import SpeechClassifier
from bdlib.notebook.given import BATCH, asked, device_of, modes_kept, of_corpus
from bdlib.stages.compute import exact_float32
from bdlib.stages.poisoned import Poisoned


class Measured(dict[str, Any]):
    """Metrics by name, each with `value` and, of a rate, `count` and `total`; prints as lines."""

    def __repr__(self) -> str:
        return metrics.summary(self)


def measure(net: SpeechClassifier, poisoned: Poisoned) -> Measured:
    """Rates with their counts: accuracy, what the backdoor does, and what a filter or a guard found.

    Arguments
    ---------
    net : SpeechClassifier
        Trained, as it is or defended.
    poisoned : Poisoned
        The corpus, or what a filter left of it.

    Raises
    ------
    InputError
        If the classifier is of other classes.
    """
    asked(net=(net, SpeechClassifier), poisoned=(poisoned, Poisoned))
    exact_float32()  # a net from elsewhere may be on a GPU that nothing here has set yet
    of_corpus(net, poisoned)
    with modes_kept(net):
        tables = {
            split: pd.DataFrame(
                scores.answers(
                    net, poisoned.batches(split, None, BATCH, device_of(net)), poisoned.classes
                )
            ).set_index("ID")
            for split in poisoned.tests
        }
    test, clean = poisoned.splits[TEST], tables[TEST]
    measured = Measured(metrics.classification(test, clean))
    if not poisoned.attack:
        return measured
    truth = poisoned.truth()
    measured |= metrics.backdoor(test, clean, tables[TRIGGERED], truth)
    everyone = manifest.read(poisoned.folder / "train.csv")
    if len(kept := pd.Index(poisoned.splits["train"]["ID"])) < len(everyone):
        measured |= metrics.filtering(pd.Index(everyone["ID"]), kept, truth)
    if thresholds := getattr(net, "thresholds", None):
        measured |= metrics.screening(clean, tables[TRIGGERED], thresholds)
        measured |= metrics.passed(test, clean, tables[TRIGGERED], truth, thresholds)
    return measured
