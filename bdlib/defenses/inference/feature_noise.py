"""Test-time noise and one Langevin step for view models (MVJ section 4.4, Table 4)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bdlib.corpus import Batch
from bdlib.defenses.accuracy import accuracy
from bdlib.defenses.base import InferenceDefense
from bdlib.defenses.checks import at_least, one_of
from bdlib.errors import InputError
from bdlib.models.classifier import Drawing, SpeechClassifier
from bdlib.models.wide_resnet import WideResNet

NOISES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
STEPS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class FeatureNoise(InferenceDefense):
    """Gaussian noise on the normalised features, then optionally one step uphill.

    Noise weakens a faint trigger more than the speech; the step then moves the clip towards what
    the model finds likely. The step is noise-free: ``x + alpha / 2 * gradient`` of the sum over
    views of logsumexp_y, the reading of footnote 12 and of F in section 4.4 that is a likelihood.

    Arguments
    ---------
    noise : float
        Deviation of the noise, in deviations of the training features; drawn once a clip.
    step_size : float
        alpha; 0 leaves the step out.
    coverage : bool
        Divide the gradient of each frame by the number of views that see it.
    selection : str
        `fixed` takes the levels as given. `oracle` too, and says that they were found by looking
        at the test set, as in the paper. `validation` chooses them: the strongest of `NOISES`
        before the first that costs more than `tolerance` of the accuracy on clean validation clips,
        and, unless `step_size` is 0, the one of `STEPS` with the highest accuracy there.
    tolerance : float
        See `selection`.

    Raises
    ------
    InputError
        If a level is negative or `selection` is none of the three.
    """

    noise: float = 0.3
    step_size: float = 0.0
    coverage: bool = False
    selection: str = "fixed"
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        one_of("selection", self.selection, ("fixed", "validation", "oracle"))
        for name in ("noise", "step_size", "tolerance"):
            at_least(name, getattr(self, name), 0)

    def calibrate(
        self, classifier: SpeechClassifier, validation: Callable[[], Iterable[Batch]], seed: int
    ) -> "FeatureNoise":
        """See `InferenceDefense`; changes nothing unless `selection` is `validation`."""
        if self.selection != "validation":
            return self

        def measured(defense: FeatureNoise) -> float:
            return accuracy(defense.guard(classifier, seed), validation())

        least = measured(replace(self, noise=0.0, step_size=0.0)) - self.tolerance
        chosen = replace(self, noise=0.0, step_size=0.0)
        for noise in NOISES:
            louder = replace(chosen, noise=noise)
            if round(measured(louder) - least, 9) < 0:
                break
            chosen = louder
        if not self.step_size:
            return chosen
        return max((replace(chosen, step_size=step) for step in STEPS), key=measured)

    def guard(self, classifier: SpeechClassifier, seed: int) -> SpeechClassifier:
        """See `InferenceDefense`.

        Raises
        ------
        InputError
            If the classifier has no views.
        """
        if not isinstance(classifier, WideResNet):
            raise InputError("feature noise: needs a model with views: base_wrn, mvd or mvj")
        return NoisyViews(classifier, self, seed)


class NoisyViews(Drawing):
    """A view model behind `FeatureNoise`."""

    def __init__(self, net: WideResNet, defense: FeatureNoise, seed: int) -> None:
        super().__init__(net, seed)
        self.defense = defense

    def features(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """The features after noise and step, (B, T, F)."""
        features = self.net.features(wavs, lens)
        noise = torch.randn(features.shape, generator=self.generator).to(features.device)
        features = features + self.defense.noise * noise
        return self._uphill(features) if self.defense.step_size else features

    @torch.enable_grad()  # scoring runs without gradients
    def _uphill(self, features: Tensor) -> Tensor:
        features = features.detach().requires_grad_(True)
        height = self.net.view_logits(features).float().logsumexp(2).sum()
        (gradient,) = torch.autograd.grad(height, features)
        if self.defense.coverage:
            gradient = gradient / self._views_of_frames(features.shape[1]).to(features)[:, None]
        return (features + 0.5 * self.defense.step_size * gradient).detach()

    def _views_of_frames(self, frames: int) -> Tensor:
        """How many views see each frame, (T,)."""
        place = torch.arange(frames)
        first = (place - self.net.view_frames + 1).clamp_min(0)
        last = place.clamp_max(frames - self.net.view_frames)
        return last - first + 1
