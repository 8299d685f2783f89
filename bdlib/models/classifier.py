"""What everything else sees of a classifier."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.features import FrontEnd
from bdlib.making import Remembering


def in_float32(head: Callable[[Tensor], Tensor], embeddings: Tensor) -> Tensor:
    """What a head says of embeddings; in float32 under autocast, too.

    Its products are a small part of a net's, and bf16 has 8 bits: too few for cosines, for log-sums,
    and to tell two sure answers apart.
    """
    kind = embeddings.device.type
    available = torch.amp.is_autocast_available(kind)  # not on "meta", where operations are counted
    if not (available and torch.is_autocast_enabled(kind)):
        return head(embeddings)
    with torch.autocast(kind, enabled=False):
        return head(embeddings.float())


class SpeechClassifier(Remembering, nn.Module, ABC):
    """Waveforms to logits, in three steps that attacks and defenses can look into.

    Arguments
    ---------
    front_end : FrontEnd
        Waveforms to features.

    Attributes
    ----------
    classes : tuple[str, ...]
        What its logits stand for, where that is known.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end = front_end

    def fit_front_end(self, batches: Iterable[Batch]) -> None:
        """Estimate the front end's statistics on training batches."""
        self.front_end.fit(batches)

    def features(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """Waveforms (B, samples) and relative lengths (B,) to features (B, T, F)."""
        return self.front_end(wavs, lens)

    @abstractmethod
    def embed(self, features: Tensor, lens: Tensor) -> Tensor:
        """Features (B, T, F) to the last hidden representation (B, D)."""

    def classify(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, D) to true logits (B, C), by the module `head`, in float32.

        Scaled cosines for cosine heads, and never log-probabilities, whose log-sum-exp would always
        be zero.
        """
        return in_float32(self.head, embeddings)

    def logits(self, features: Tensor, lens: Tensor) -> Tensor:
        """Features (B, T, F) to logits (B, C), float32."""
        return self.classify(self.embed(features, lens))

    def forward(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """Waveforms (B, samples) and relative lengths (B,) to logits (B, C), float32."""
        return self.logits(self.features(wavs, lens), lens)

    def suspicion(self, wavs: Tensor, lens: Tensor) -> Tensor | None:
        """How suspicious each clip is, (B,); None from a classifier that does not judge clips."""
        return None


class Guarded(SpeechClassifier):
    """A classifier behind something that changes its features or screens its clips.

    Arguments
    ---------
    net : SpeechClassifier
        Answers everything that a child does not.
    """

    def __init__(self, net: SpeechClassifier) -> None:
        super().__init__(net.front_end)
        self.net, self.classes = net, net.classes

    def features(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `SpeechClassifier`."""
        return self.net.features(wavs, lens)

    def embed(self, features: Tensor, lens: Tensor) -> Tensor:
        """See `SpeechClassifier`."""
        return self.net.embed(features, lens)

    def classify(self, embeddings: Tensor) -> Tensor:
        """See `SpeechClassifier`."""
        return self.net.classify(embeddings)

    def logits(self, features: Tensor, lens: Tensor) -> Tensor:
        """See `SpeechClassifier`."""
        return self.net.logits(features, lens)


class Drawing(Guarded):
    """A `Guarded` that draws from `generator` for each batch.

    `eval` starts the draws anew, so that a test set scored twice gets the same answers.

    Arguments
    ---------
    net : SpeechClassifier
        See `Guarded`.
    seed : int
        Of the draws.
    """

    def __init__(self, net: SpeechClassifier, seed: int) -> None:
        super().__init__(net)
        self.seed = seed
        self.eval()

    def train(self, mode: bool = True) -> "Drawing":
        """See the class."""
        self.generator = torch.Generator().manual_seed(self.seed)
        return super().train(mode)


class CosineHead(nn.Module):
    """Cosine between embedding and class weight, times `scale` (the head of AAM training).

    Arguments
    ---------
    in_features, out_features : int
        D and C.
    scale : float
        Factor that makes cosines logits; the loss must use the same one.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 30.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the class weights anew."""
        nn.init.xavier_uniform_(self.weight)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, D) to (B, C), within plus and minus `scale`."""
        normalize = nn.functional.normalize
        return self.scale * normalize(embeddings) @ normalize(self.weight).T
