"""Small keyword models for a CPU."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bdlib.features import FrontEnd
from bdlib.models.classifier import SpeechClassifier


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut: (B, C, T, F) to (B, D, T/s, F/s)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


class SmallResNet(SpeechClassifier):
    """A residual net of a few blocks on log-mels, average-pooled over time and frequency.

    Arguments
    ---------
    front_end : FrontEnd
        Features, taken as a one-channel image (T, F).
    n_classes : int
        C.
    channels : Sequence[int]
        Width of each stage; every stage halves time and frequency.
    blocks : int
        Residual blocks a stage.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        n_classes: int,
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
    ) -> None:
        super().__init__(front_end)
        layers: list[nn.Module] = [
            nn.Conv2d(1, channels[0], 3, stride=1, padding=1, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        ]
        width = channels[0]
        for wide in channels:
            for number in range(blocks):
                layers.append(ResidualBlock(width, wide, 2 if number == 0 else 1))
                width = wide
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if min(channels) >= 8:  # below, oneDNN crashes in a strided 1x1 convolution without AVX-512
            self.net.to(memory_format=torch.channels_last)  # up to twice as fast, on CPUs as well
        self.head = nn.Linear(width, n_classes)

    def embed(self, features: Tensor, lens: Tensor) -> Tensor:
        """(B, T, F) to (B, last width)."""
        return self.net(features[:, None])
