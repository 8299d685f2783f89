"""Speaker models of SpeechBrain (x-vector, ECAPA-TDNN, ResNet) as classifiers (EmoBack)."""

from torch import Tensor, nn

from bdlib.features import FrontEnd
from bdlib.models.classifier import CosineHead, SpeechClassifier


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
        self.encoder = encoder
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

    def classify(self, embeddings: Tensor) -> Tensor:
        """See `SpeechClassifier`."""
        return self.head(embeddings)


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
        self.encoder = encoder
        self.head = CosineHead(embedding_size, n_classes, scale)

    def embed(self, features: Tensor, lens: Tensor) -> Tensor:
        """(B, T, F) to (B, D)."""
        return self.encoder(features, lens).flatten(1)

    def classify(self, embeddings: Tensor) -> Tensor:
        """See `SpeechClassifier`."""
        return self.head(embeddings)
