"""STEP: a trigger outlives what destroys the speech, and does not outlive what leaves it.

Wang et al., "STEP: Detecting Audio Backdoor Attacks via Stability-based Trigger Exposure Profiling",
arXiv 2603.18103, 2026, of which the abstract alone was at hand.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.checks import counts
from bdlib.defenses.inference.perturbations import BREAKING, PRESERVING, Means, Perturbation
from bdlib.defenses.inference.screening import Screening
from bdlib.errors import InputError
from bdlib.models.classifier import Drawing, SpeechClassifier

LEAST = 20  # validation clips: ten to learn from, ten for the bound
BATCH = 64
TIE = 1e-6  # deviations: less than profiles near a bound differ by


@dataclass(frozen=True)
class Branch:
    """A one-class model of how often the labels of clean clips stay.

    Where all clean profiles are equal, any other is as suspicious as can be, whatever the other branch says.

    Arguments
    ---------
    model : Pipeline
        Of stability profiles.
    centre, spread : float
        Mean and deviation of its scores over the clips that it was fitted to.
    """

    model: Pipeline
    centre: float
    spread: float

    @classmethod
    def fit(cls, profiles: np.ndarray, nu: float) -> "Branch":
        """That of clean profiles (N, kinds)."""
        model = make_pipeline(StandardScaler(), OneClassSVM(nu=nu)).fit(profiles)
        scores = -model.decision_function(profiles)
        return cls(model, float(scores.mean()), max(float(scores.std()), 1e-9))

    def scores(self, profiles: np.ndarray) -> np.ndarray:
        """How unlike a clean one each profile is, (N,), in deviations of clean clips."""
        return (-self.model.decision_function(profiles) - self.centre) / self.spread


@dataclass(frozen=True)
class Step(Screening):
    """Rejects clips whose label stays or changes under perturbations as that of no clean clip does.

    Of the paper are: that the classifier tells labels alone; that a clip is perturbed in two branches, by
    what breaks what is said (a triggered clip keeps its label too often) and by what keeps it (it loses
    its label too often); that profiles of label stability are judged by two one-class models, fitted
    to clean clips; and that their scores are fused without labels. It reports a mean AUROC of
    97.92 % and an equal error rate of 4.54 % over seven attacks.

    The rest is ours: the perturbations (`perturbations.BREAKING`, `PRESERVING`); that a profile is the
    share of perturbed copies, for each kind, whose label is that of the clip as it is; that the
    models are one-class support vector machines (Schölkopf et al. 2001) with a Gaussian kernel over standardised
    profiles; and the fusion, a sum in which each score is weighted by the inverse of its deviation
    over clean clips. Half of the validation clips, by lot, are what models are fitted to and
    overlays are drawn from; the other half sets the bound, so that the preset rate holds.

    Arguments
    ---------
    draws : int
        Copies for each perturbation that is drawn.
    nu : float
        Bound on the share of clean clips outside a model, above 0 and up to 1.
    frr : float
        The preset false rejection rate, in [0, 1).
    sample_rate : int
        Of the clips, in Hz.

    Raises
    ------
    InputError
        If a number is out of range; when calibrated, if there are fewer than 20 validation clips.
    """

    draws: int = 4
    nu: float = 0.5
    frr: float = 0.03
    sample_rate: int = 16000
    pool: Tensor | None = field(default=None, repr=False, compare=False)
    branches: tuple[Branch, ...] = field(default=(), repr=False, compare=False)
    benign: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        counts("draws", self.draws)
        counts("sample_rate", self.sample_rate)
        if not 0 < self.nu <= 1:
            raise InputError(f"`nu` is {self.nu}: give a share above 0, up to 1")

    def calibrate(
        self, classifier: SpeechClassifier, validation: Callable[[], Iterable[Batch]], seed: int
    ) -> "Step":
        """With models of one half of the validation clips, and suspicions of the other."""
        batches = list(validation())
        wavs, lens = (torch.cat([getattr(b, n) for b in batches]) for n in ("wavs", "lens"))
        if len(wavs) < LEAST:
            raise InputError(f"step: needs {LEAST} validation clips or more; there are {len(wavs)}")
        order = torch.randperm(len(wavs), generator=torch.Generator().manual_seed(seed))
        known, fresh = (
            [(wavs[some], lens[some]) for some in half.split(BATCH)]
            for half in order.to(wavs.device).tensor_split(2)
        )
        # Clips are stored in 16 bits, so that nothing is lost.
        pool = torch.cat([(clips * 2**15).to(torch.int16) for clips, _ in known])
        heard = replace(self, pool=pool)
        profiled = Profiled(classifier, heard, seed)
        profiles = zip(*(profiled.profiles(*batch) for batch in known), strict=True)
        branches = tuple(Branch.fit(np.concatenate(part), self.nu) for part in profiles)
        screened = replace(heard, branches=branches).guard(classifier, seed)
        benign = torch.cat([screened.suspicion(*batch) for batch in fresh])
        return replace(screened.defense, benign=tuple(benign.tolist()))

    def guard(self, classifier: SpeechClassifier, seed: int) -> "Profiled":
        """See `InferenceDefense`; the answers stay, and each gets a suspicion."""
        if not self.branches:
            raise InputError("step: there are no clean profiles; calibrate it first")
        return Profiled(classifier, self, seed)


class Profiled(Drawing):
    """A classifier that says how unlike a clean clip a clip's labels behave under perturbations."""

    def __init__(self, net: SpeechClassifier, defense: Step, seed: int) -> None:
        super().__init__(net, seed)
        self.defense = defense

    def suspicion(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """Sum of the scores of the branches, (B,), of waveforms (B, T).

        Labels alone make many profiles equal; the lot breaks ties, or equal clips would be rejected
        together and the preset rate be missed.
        """
        pairs = zip(self.defense.branches, self.profiles(wavs, lens), strict=True)
        scores = torch.from_numpy(sum(branch.scores(profiles) for branch, profiles in pairs))
        return scores + TIE * torch.rand(len(scores), generator=self.generator)

    @torch.no_grad()
    def profiles(self, wavs: Tensor, lens: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Shares of copies that keep the label, (B, kinds), breaking and preserving."""
        given = self.net(wavs, lens).argmax(1)
        breaking, preserving = (
            self._kept(wavs, lens, given, kinds) for kinds in (BREAKING, PRESERVING)
        )
        return breaking, preserving

    def _kept(
        self,
        wavs: Tensor,
        lens: Tensor,
        given: Tensor,
        kinds: Mapping[str, tuple[Perturbation, ...]],
    ) -> np.ndarray:
        """See `profiles`. What lies after the end of a short clip stays silent."""
        defense = self.defense
        means = Means(defense.pool, defense.sample_rate, self.generator)
        inside = torch.arange(wavs.shape[1], device=wavs.device) < (lens * wavs.shape[1])[:, None]
        columns = []
        for perturbations in kinds.values():
            kept = [
                self.net(each.change(wavs, means) * inside, lens).argmax(1) == given
                for each in perturbations
                for _ in range(defense.draws if each.drawn else 1)
            ]
            columns.append(torch.stack(kept).double().mean(0))
        return torch.stack(columns, 1).cpu().numpy()
