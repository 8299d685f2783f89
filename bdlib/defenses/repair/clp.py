"""CLP: pruning by the channels' Lipschitz constants, without data (Zheng et al., ECCV 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bdlib.defenses.base import CleanData, RepairDefense
from bdlib.defenses.checks import at_least
from bdlib.defenses.repair.layers import Layer, conv_layers
from bdlib.models.classifier import SpeechClassifier


@dataclass(frozen=True)
class ChannelLipschitzPruning(RepairDefense):
    """Channels that amplify their input far more than their neighbours are set to zero.

    The bound of a channel is the largest singular value of its kernel, times ``|gamma| / sigma``
    of the batch norm behind it (their Eq. 9). In each layer those above mean + u deviations go.
    No data is used, so nothing bounds what it costs.

    Arguments
    ---------
    u : float
        Deviations above the mean of the layer; smaller prunes more.

    Raises
    ------
    InputError
        If `u` is negative.
    """

    u: float = 3.0
    selection = "fixed"
    clean_share = 0.0

    def __post_init__(self) -> None:
        at_least("u", self.u, 0)

    @torch.no_grad()
    def repair(self, classifier: SpeechClassifier, clean: CleanData) -> SpeechClassifier:
        """See `RepairDefense`; the clean data is not touched."""
        for layer in conv_layers(classifier):
            bounds = lipschitz(layer)
            outliers = bounds > bounds.mean() + self.u * bounds.std(correction=0)
            layer.last.weight[outliers] = 0
            if layer.last.bias is not None:
                layer.last.bias[outliers] = 0
        return classifier.eval()


def lipschitz(layer: Layer) -> Tensor:
    """Upper bound of the Lipschitz constant of each channel, (channels,)."""
    kernels = layer.conv.weight.flatten(2)  # (channels, inputs, taps)
    bounds = torch.linalg.matrix_norm(kernels, ord=2)
    if layer.norm is not None:
        deviation = (layer.norm.running_var + layer.norm.eps).sqrt()
        bounds = bounds * layer.norm.weight.abs() / deviation
    return bounds
