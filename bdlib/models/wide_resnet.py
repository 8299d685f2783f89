"""Wide residual net that sees a clip as overlapping views (MVJ section 3; JEM's network)."""

import torch
from torch import Tensor, nn

from bdlib.errors import InputError
from bdlib.features import FrontEnd
from bdlib.models.classifier import SpeechClassifier


class ViewBlock(nn.Module):
    """Pre-activation residual block without normalisation: (B, C, T, F) to (B, D, T - 4, F / s).

    Frequency is padded, time never is, so the shortcut is cropped by two frames on each side. The
    stride stands in the second convolution, as the authors of MVJ have it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=(0, 1))
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, (1, stride), (0, 1))
        self.shortcut = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, (1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = self.conv1(nn.functional.leaky_relu(x, 0.2))
        return self.conv2(nn.functional.leaky_relu(y, 0.2)) + self.shortcut(x[:, :, 2:-2])


class WideResNet(SpeechClassifier):
    """WRN-depth-width over views of `view_frames` frames; WRN-28-10 on 80 mels is the paper's.

    Time is neither padded nor strided, so one pass over a clip of T frames gives the logits of all
    its T - `view_frames` + 1 views, equal to as many separate passes. In training mode `forward`
    takes one random view a clip; in evaluation mode it joins all views.

    Arguments
    ---------
    front_end : FrontEnd
        Features, taken as a one-channel image (T, F); F must be a multiple of 4.
    n_classes : int
        C.
    depth, width : int
        6n + 4 layers, and the factor of the channels 16, 32, 64.
    view_frames : int
        Frames of a view; at least the receptive field of the convolutions. The pooling covers all
        frames that the convolutions leave of a view.
    multi_view : bool
        True joins views by logsumexp (MVJ Eq. 7) and trains on random views (MVD, MVJ). False
        averages their logits and trains on whole clips. Only with views as long as the clips is
        that an undefended net: a mean of 40 views of 61 frames resists a short trigger, too.

    Raises
    ------
    InputError
        If depth is not 6n + 4, F not a multiple of 4, or a view too short for the depth.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        n_classes: int,
        depth: int = 28,
        width: int = 10,
        view_frames: int = 61,
        multi_view: bool = True,
    ) -> None:
        super().__init__(front_end)
        blocks, rest = divmod(depth - 4, 6)
        pooled = view_frames - 2 * (6 * blocks + 1)  # each 3x3 convolution takes two frames
        if rest or blocks < 1 or front_end.size % 4 or pooled < 1:
            raise InputError(
                f"`depth` is {depth}, `view_frames` {view_frames}, of {front_end.size} mels: give a "
                "depth of 6n + 4, a view of more than 2(6n + 1) frames, and a multiple of 4 mels"
            )
        self.view_frames, self.multi_view = view_frames, multi_view
        channels = 16
        layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, padding=(0, 1))]
        for stage, wide in enumerate((16 * width, 32 * width, 64 * width)):
            for number in range(blocks):
                stride = 2 if stage and not number else 1
                layers.append(ViewBlock(channels, wide, stride))
                channels = wide
        self.net = nn.Sequential(*layers, nn.LeakyReLU(0.2))
        # A weighted average a channel, in place of average pooling.
        self.pool = nn.Conv2d(channels, channels, (pooled, front_end.size // 4), groups=channels)
        self.head = nn.Linear(channels, n_classes)
        self.to(memory_format=torch.channels_last)

    def features(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `SpeechClassifier`; raises `InputError` for clips shorter than a view."""
        features = super().features(wavs, lens)
        if features.shape[1] < self.view_frames:
            raise InputError(
                f"clips of {features.shape[1]} frames are shorter than a view of "
                f"{self.view_frames}; raise `seconds`"
            )
        return features

    def view_embeddings(self, features: Tensor) -> Tensor:
        """(B, T, F) to (B, views, D)."""
        return self.pool(self.net(features[:, None])).squeeze(3).transpose(1, 2)

    def view_logits(self, features: Tensor) -> Tensor:
        """(B, T, F) to (B, views, C), float32."""
        return self.classify(self.view_embeddings(features))

    def random_views(self, features: Tensor) -> Tensor:
        """One random view of each clip, (B, T, F) to (B, `view_frames`, F)."""
        room = features.shape[1] - self.view_frames
        starts = torch.randint(0, room + 1, (len(features), 1))
        frames = (starts + torch.arange(self.view_frames)).to(features.device)
        return features.gather(1, frames[:, :, None].expand(-1, -1, features.shape[2]))

    def join(self, logits: Tensor) -> Tensor:
        """Logits of all views (B, views, C) to those of the clips (B, C)."""
        return logits.logsumexp(1) if self.multi_view else logits.mean(1)

    def forward(self, wavs: Tensor, lens: Tensor | None) -> Tensor:
        """See `SpeechClassifier`; of features (B, T, F), the logits of all views (B, views, C).

        The second is for trainings: what compiles a network or averages its gradients over
        processes sees `forward` alone.
        """
        return self.view_logits(wavs) if wavs.dim() == 3 else super().forward(wavs, lens)

    def embed(self, features: Tensor, lens: Tensor) -> Tensor:
        """(B, T, F) to (B, D), the mean over views."""
        return self.view_embeddings(features).mean(1)

    def logits(self, features: Tensor, lens: Tensor) -> Tensor:
        """See `SpeechClassifier`; of one random view in the training of a multi-view model."""
        if self.training and self.multi_view:
            features = self.random_views(features)
        return self.join(self.view_logits(features))
