"""Trigger inversion: the smallest change that sends clean clips to a class, for every class.

Neural Cleanse (Wang et al., IEEE S&P 2019), with changes that fit sound; `MaskInversion` and
`WaveformInversion` say which.
"""

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import counts, positive, share
from bdlib.defenses.repair.probe import twice_differentiable
from bdlib.defenses.repair.tuning import Tuning, steps, tune
from bdlib.files import seed_of
from bdlib.models.classifier import SpeechClassifier

CONSISTENCY = 1.4826  # of the median absolute deviation with a normal deviation
LEAST = 0.3  # deviation of the logarithms of sizes
FASTER = 1.1  # factor of the weight of the size, after each step


@dataclass(frozen=True)
class Inverted:
    """The trigger that was found for a class.

    Arguments
    ---------
    size : float
        Of the smallest that sent enough clips to the class; if none did, of the largest tried.
    parts : tuple[Tensor, ...]
        What `TriggerInversion.stamped` takes.
    """

    size: float
    parts: tuple[Tensor, ...]


@dataclass(frozen=True)
class TriggerInversion(RepairDefense):
    """A class that a small change reaches from everywhere is a backdoor's; the change is unlearned.

    For each class t the loss ``CE(f(A(x)), t) + lambda * |A|`` of clean clips x is minimised over the
    change A (their Eq. 3); lambda grows while enough clips reach t and shrinks while they do not.
    The anomaly index of a class is how many deviations its size is below the median, ``(median -
    s) / (1.4826 * MAD)``, here of its logarithm s; above `anomaly` a class is called a target (their section IV-C). Then
    the classifier is tuned on clean clips of which the share `stamped_share` bears the triggers of
    these classes and its true label (their section VI-B). If no class is called, nothing is changed.

    Arguments
    ---------
    anomaly : float
        Index above which a class is called (2 in the paper, of the sizes themselves).
    search_steps : int
        Of the search for each class.
    search_rate : float
        Of Adam, in the search.
    success : float
        Share of clips that a trigger must send to its class, of other classes (0.99 in the paper).
    stamped_share : float
        Share of the clips of a step that bear a trigger (a fifth).
    clean_share : float
        Share of the training set, as many clips of each class.
    tuning : Tuning
        How it is unlearned, and the batches of the search.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    anomaly: float = 3.0
    search_steps: int = 200
    search_rate: float = 0.1
    success: float = 0.8
    stamped_share: float = 0.2
    clean_share: float = 0.05
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        for name in ("anomaly", "search_rate"):
            positive(name, getattr(self, name))
        counts("search_steps", self.search_steps)
        for name in ("success", "stamped_share"):
            share(name, getattr(self, name))

    @property
    def calls_above(self) -> float:
        """See `RepairDefense`: `anomaly`."""
        return self.anomaly

    @abstractmethod
    def blank(self, classifier: SpeechClassifier, batch: Batch) -> tuple[Tensor, ...]:
        """A change to start from, as leaves that the search moves."""

    @abstractmethod
    def stamped(
        self, classifier: SpeechClassifier, batch: Batch, parts: Sequence[Tensor]
    ) -> Tensor:
        """Features (B, T, F) of a batch with the change."""

    @abstractmethod
    def size(self, parts: Sequence[Tensor]) -> Tensor:
        """How large a change is, a scalar."""

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`."""
        found = self.triggers(classifier, clean)
        indices = anomaly_indices([trigger.size for trigger in found])
        clean.suspicion.extend(indices)
        called = [t.parts for t, index in zip(found, indices, strict=True) if index > self.anomaly]
        if not called:
            print(f"no class has an anomaly index above {self.anomaly}: nothing is repaired")
            return classifier
        turns = itertools.cycle(called)

        def gradient(classifier: SpeechClassifier, batch: Batch) -> Tensor:
            count = max(1, round(self.stamped_share * len(batch.labels)))
            with torch.no_grad():
                plain = classifier.features(batch.wavs, batch.lens)
                features = self.stamped(classifier, batch, next(turns))
            features = torch.cat([features[:count], plain[count:]])
            logits = classifier.logits(features, batch.lens)
            loss = nn.functional.cross_entropy(logits, batch.labels.to(logits.device))
            loss.backward()
            return loss.detach()

        return tune(classifier, clean, self.tuning, gradient)

    def triggers(self, classifier: SpeechClassifier, clean: CleanData) -> list[Inverted]:
        """The smallest trigger of each class, in the order of the classes; see `Inverted`."""
        classifier.eval()
        batch = next(iter(clean.train(self.tuning.batch_size)))
        with torch.no_grad():
            count = classifier(batch.wavs[:1], batch.lens[:1]).shape[1]
        with twice_differentiable():
            return [self._search(classifier, clean, target) for target in range(count)]

    def _search(self, classifier: SpeechClassifier, clean: CleanData, target: int) -> Inverted:
        size, weight = self.tuning.batch_size, 1.0
        torch.manual_seed(seed_of("inversion", clean.seed, target))
        parts = self.blank(classifier, next(iter(clean.train(size))))
        optimizer = torch.optim.Adam(parts, self.search_rate)
        best, largest = None, 0.0
        for batch in steps(clean, size, self.search_steps):
            others = batch.labels != target
            logits = classifier.logits(self.stamped(classifier, batch, parts), batch.lens)
            wanted = torch.full((len(logits),), target, device=logits.device)
            reached = float((logits.argmax(1) == target)[others].float().mean())
            large = self.size(parts)
            largest = max(largest, large.item())
            if reached >= self.success and (best is None or large.item() < best.size):
                best = Inverted(large.item(), tuple(part.detach().clone() for part in parts))
            loss = nn.functional.cross_entropy(logits, wanted) + weight * large
            for part, slope in zip(parts, torch.autograd.grad(loss, parts), strict=True):
                part.grad = slope
            optimizer.step()
            weight = weight * FASTER if reached >= self.success else weight / FASTER
        return best or Inverted(largest, tuple(part.detach() for part in parts))


def anomaly_indices(sizes: Sequence[float]) -> list[float]:
    """How many deviations each size is below the median, by the median absolute deviation.

    Of the logarithms, as sizes span orders of magnitude; the deviation counts as `LEAST` at least,
    or among classes that need about the same one would be called for being a little easier.
    """
    logs = torch.tensor(sizes, dtype=torch.float64).log()
    median = logs.quantile(0.5)
    deviation = CONSISTENCY * (logs - median).abs().quantile(0.5)
    return [float(index) for index in (median - logs) / deviation.clamp_min(LEAST)]
