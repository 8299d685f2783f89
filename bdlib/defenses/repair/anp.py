"""ANP: adversarial neuron pruning (Wu and Wang, NeurIPS 2021)."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.defenses.accuracy import correct
from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import counts, positive, share
from bdlib.defenses.repair.layers import conv_layers
from bdlib.defenses.repair.tuning import affordable, steps
from bdlib.models.classifier import SpeechClassifier

Noise = tuple[list[Tensor], list[Tensor]]
"""Perturbations of the weights and of the biases of each layer, (channels,) each."""
MOMENTUM = 0.9


@dataclass(frozen=True)
class AdversarialNeuronPruning(RepairDefense):
    """Neurons whose disturbance easily makes clean clips fail are pruned.

    Each channel gets a mask m, and within it weights are scaled by ``m + delta`` and biases by
    ``1 + xi``. The masks minimise ``trust * L(m) + (1 - trust) * max L(m, delta, xi)`` over delta
    and xi within plus and minus epsilon (their Eq. 5), the maximum by one step of signed ascent.
    Channels lose their weight in the order of their masks, up to `threshold`, as long as that is
    affordable on validation clips (`tuning.affordable`). Masks stand on batch norm where one follows the
    convolution.

    Arguments
    ---------
    epsilon : float
        Budget of the disturbance, relative (0.4).
    trust : float
        Weight of the undisturbed loss (alpha, 0.2).
    threshold : float
        Masks above it are never pruned.
    mask_steps : int
        Steps of the masks, however large the budget (2,000).
    mask_rate : float
        Of their steps, of stochastic gradient descent with momentum (0.2).
    batch_size : int
        Clips a step; a smaller budget is one batch.
    max_drop : float
        Accuracy on clean validation clips that the pruning may give up, as a share of one.
    clean_share : float
        Share of the training set, as many clips of each class.

    Raises
    ------
    InputError
        If epsilon or the rate is not positive, there is no step, or the others are out of range.
    """

    epsilon: float = 0.4
    trust: float = 0.2
    threshold: float = 0.5
    mask_steps: int = 2000
    mask_rate: float = 0.2
    batch_size: int = 32
    max_drop: float = 0.05
    clean_share: float = 0.05

    def __post_init__(self) -> None:
        positive("epsilon", self.epsilon)
        positive("mask_rate", self.mask_rate)
        for name in ("trust", "threshold", "max_drop"):
            share(name, getattr(self, name))
        for name in ("mask_steps", "batch_size"):
            counts(name, getattr(self, name))

    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`."""
        masks = self._masks(copy.deepcopy(classifier), clean)
        return self._pruned(classifier, masks, clean)

    def _masks(self, classifier: SpeechClassifier, clean: CleanData) -> list[Tensor]:
        """The masks of all layers; the copy's running statistics move meanwhile."""
        layers = [layer.last for layer in conv_layers(classifier)]
        masks = [
            torch.ones(len(layer.weight), device=layer.weight.device, requires_grad=True)
            for layer in layers
        ]
        optimizer = torch.optim.SGD(masks, self.mask_rate, MOMENTUM)
        classifier.train()
        for batch in steps(clean, self.batch_size, self.mask_steps):
            none = [torch.zeros_like(mask) for mask in masks]
            noise = self._worst(classifier, layers, masks, batch)
            loss = self.trust * masked_loss(classifier, layers, masks, (none, none), batch)
            loss = loss + (1 - self.trust) * masked_loss(classifier, layers, masks, noise, batch)
            for mask, part in zip(masks, torch.autograd.grad(loss, masks), strict=True):
                mask.grad = part
            optimizer.step()
            with torch.no_grad():
                for mask in masks:
                    mask.clamp_(0, 1)
        return [mask.detach() for mask in masks]

    def _worst(
        self,
        classifier: SpeechClassifier,
        layers: list[nn.Module],
        masks: list[Tensor],
        batch: Batch,
    ) -> Noise:
        """One step of signed ascent from a random start, cut to plus and minus epsilon."""
        start = [
            torch.empty_like(mask).uniform_(-self.epsilon, self.epsilon).requires_grad_(True)
            for mask in (*masks, *masks)
        ]
        noise = start[: len(masks)], start[len(masks) :]
        loss = masked_loss(classifier, layers, masks, noise, batch)
        slopes = torch.autograd.grad(loss, start, allow_unused=True, materialize_grads=True)
        ends = [
            (point.detach() + self.epsilon * slope.sign()).clamp(-self.epsilon, self.epsilon)
            for point, slope in zip(start, slopes, strict=True)
        ]
        return ends[: len(masks)], ends[len(masks) :]

    @torch.no_grad()
    def _pruned(
        self, classifier: SpeechClassifier, masks: list[Tensor], clean: CleanData
    ) -> SpeechClassifier:
        """Zero the weights of ever more channels, in steps of a twentieth of the mask, up to the threshold."""
        layers = [layer.last for layer in conv_layers(classifier)]
        right = correct(classifier, clean.validation())
        cuts = [step / 20 for step in range(21) if step / 20 < self.threshold]
        for cut in (*cuts, self.threshold):
            before = [layer.weight.clone() for layer in layers]
            for layer, mask in zip(layers, masks, strict=True):
                layer.weight[mask <= cut] = 0
            if not affordable(right, correct(classifier, clean.validation()), self.max_drop):
                for layer, weight in zip(layers, before, strict=True):
                    layer.weight.copy_(weight)
                break
        return classifier


def masked_loss(
    classifier: SpeechClassifier,
    layers: list[nn.Module],
    masks: list[Tensor],
    noise: Noise,
    batch: Batch,
) -> Tensor:
    """Cross entropy with the channels of `layers` masked and disturbed."""
    name_of = {parameter: name for name, parameter in classifier.named_parameters()}
    used = {}
    for layer, mask, weight, bias in zip(layers, masks, *noise, strict=True):
        scale = (mask + weight).view(-1, *[1] * (layer.weight.dim() - 1))
        used[name_of[layer.weight]] = layer.weight.detach() * scale
        if layer.bias is not None:
            used[name_of[layer.bias]] = layer.bias.detach() * (1 + bias)
    logits = torch.func.functional_call(classifier, used, (batch.wavs, batch.lens))
    return nn.functional.cross_entropy(logits, batch.labels.to(logits.device))
