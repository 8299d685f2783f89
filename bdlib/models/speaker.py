"""Speaker models of SpeechBrain (x-vector, ECAPA-TDNN, ResNet) as classifiers (EmoBack)."""

import torch
from speechbrain.nnet.CNN import Conv1d
from speechbrain.nnet.pooling import StatisticsPooling
from torch import Tensor, nn

from bdlib.features import FrontEnd
from bdlib.models.classifier import CosineHead, SpeechClassifier


class MaskedStatisticsPooling(StatisticsPooling):
    """SpeechBrain's mean and deviation over valid frames, for all clips of a batch at once.

    Its own loop over the clips takes most of an x-vector's training step: the gradient of each
    slice is as large as the whole batch.
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, D) and relative lengths (B,) to (B, 1, 2 D)."""
        if lengths is None:
            return super().forward(x)
        frames = (lengths * x.shape[1]).round()[:, None, None]
        valid = (torch.arange(x.shape[1], device=x.device) < frames).to(x.dtype)  # (B, 1, T)
        mean = valid / frames @ x
        variance = valid / (frames - 1).clamp_min(1) @ (x - mean).square()
        deviation = variance.clamp_min(self.eps**2).sqrt()  # the root has no slope at 0
        noise = self._get_gauss_noise(mean.shape, device=x.device)
        return torch.cat((mean + noise, deviation + self.eps), dim=-1)


def unpadded(encoder: nn.Module) -> nn.Module:
    """An encoder whose convolutions of one frame no longer pad by nothing, in place.

    SpeechBrain's "same" copies what goes in, and its gradient, which costs ECAPA-TDNN time on a CPU;
    all numbers are the same without, to the bit.
    """
    for layer in encoder.modules():
        if isinstance(layer, Conv1d) and layer.kernel_size == 1 and layer.padding == "same":
            layer.padding = "valid"
    return encoder


class XVectorClassifier(SpeechClassifier):
    """SpeechBrain's x-vector with the hidden layer and output layer of its VoxCeleb recipe.

    The recipe's own head ends in a log-softmax; here the logits come out.

    Arguments
    ---------
    front_end : FrontEnd
        Features.
    encoder : nn.Module
        ``speechbrain.lobes.models.Xvector.Xvector``.
    n_classes : int
        C.
    embedding_size : int
        Width D of the encoder's output and of the hidden layer.
    """

    def __init__(
        self, front_end: FrontEnd, encoder: nn.Module, n_classes: int, embedding_size: int = 512
    ) -> None:
        super().__init__(front_end)
        self.encoder = unpadded(encoder)
        pooling = next(
            i for i, block in enumerate(encoder.blocks) if isinstance(block, StatisticsPooling)
        )
        encoder.blocks[pooling] = MaskedStatisticsPooling()
        self.hidden = nn.Sequential(
            nn.LeakyReLU(),
            nn.BatchNorm1d(embedding_size),
            nn.Linear(embedding_size, embedding_size),
            nn.LeakyReLU(),
            nn.BatchNorm1d(embedding_size),
        )
        self.head = nn.Linear(embedding_size, n_classes)

    def embed(self, features: Tensor, lens: Tensor) -> Tensor:
        """(B, T, F) to (B, D); padding stays out of the pooling."""
        return self.hidden(self.encoder(features, lens).squeeze(1))


class CosineSpeakerClassifier(SpeechClassifier):
    """An encoder with a cosine head, for additive angular margin training: ECAPA-TDNN.

    Arguments
    ---------
    front_end : FrontEnd
        Features.
    encoder : nn.Module
        ``speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN``, or any module called with features
        (B, T, F) and relative lengths (B,) that returns (B, 1, D).
    n_classes : int
        C.
    embedding_size : int
        D.
    scale : float
        Factor of the cosines; that of the loss.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        encoder: nn.Module,
        n_classes: int,
        embedding_size: int,
        scale: float = 30.0,
    ) -> None:
        super().__init__(front_end)
        self.encoder = unpadded(encoder)
        self.head = CosineHead(embedding_size, n_classes, scale)

    def embed(self, features: Tensor, lens: Tensor) -> Tensor:
        """(B, T, F) to (B, D)."""
        return self.encoder(features, lens).flatten(1)
