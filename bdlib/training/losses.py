"""Losses over true logits."""

from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from torch import Tensor, nn


class AngularMarginLoss(nn.Module):
    """Additive angular margin softmax (ECAPA-TDNN, Desplanques et al. 2020).

    Arguments
    ---------
    margin : float
        Added to the angle of the true class, in radians.
    scale : float
        Factor of the cosines; that of the classifier's `CosineHead`.
    """

    def __init__(self, margin: float = 0.2, scale: float = 30.0) -> None:
        super().__init__()
        self.scale = scale
        self.loss = LogSoftmaxWrapper(AdditiveAngularMargin(margin=margin, scale=scale))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scaled cosines (B, C) and class numbers (B,) to the mean loss."""
        return self.loss(logits[:, None] / self.scale, labels[:, None])
