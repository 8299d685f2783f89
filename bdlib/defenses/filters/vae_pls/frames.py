"""The convolutions of the disentangled sequential autoencoder: frames of a spectrogram in and out.

In the video form a frame is a square colour image whose columns are all that frame.
"""

from torch import Tensor, nn

COLOURS = 3
KERNEL, PADDING = 5, 2
SHRINK = 8  # three of the four convolutions have stride 2
SLOPE = 0.2  # of the leaky ReLUs


class FrameEncoder(nn.Module):
    """Frames (B, T, F) to (B, T, conv_dim): four convolutions over frequency, two layers after."""

    def __init__(self, size: int, channels: int, conv_dim: int, video: bool) -> None:
        super().__init__()
        self.video = video
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if video else (nn.Conv1d, nn.BatchNorm1d)
        widths = [COLOURS if video else 1, *[channels] * 4]
        self.convolutions = nn.Sequential(
            *(
                nn.Sequential(
                    conv(widths[i], channels, KERNEL, stride, PADDING),
                    norm(channels),
                    nn.LeakyReLU(SLOPE),
                )
                for i, stride in enumerate((1, 2, 2, 2))
            )
        )
        small = size // SHRINK
        self.linear = nn.Sequential(
            *_linear(channels * small ** (2 if video else 1), 2 * conv_dim),
            *_linear(2 * conv_dim, conv_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        shape = features.shape[:2]
        images = repeated(features) if self.video else features[:, :, None]
        return self.linear(self.convolutions(images.flatten(0, 1)).flatten(1)).unflatten(0, shape)


class FrameDecoder(nn.Module):
    """Latents (B, T, f_dim + z_dim) to frames (B, T, F), or to images (B, T, 3, F, F)."""

    def __init__(self, latent: int, size: int, channels: int, conv_dim: int, video: bool) -> None:
        super().__init__()
        self.video = video
        conv = nn.ConvTranspose2d if video else nn.ConvTranspose1d
        norm = nn.BatchNorm2d if video else nn.BatchNorm1d
        small = size // SHRINK
        self.shape = (channels, small, small) if video else (channels, small)
        flat = channels * small ** (2 if video else 1)
        self.linear = nn.Sequential(  # as in the public code, without norms
            nn.Linear(latent, 2 * conv_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(2 * conv_dim, flat),
            nn.LeakyReLU(SLOPE),
        )
        colours = COLOURS if video else 1
        layers = []
        for to, stride in ((channels, 2), (channels, 2), (channels, 2), (colours, 1)):
            last = nn.Tanh() if stride == 1 else nn.LeakyReLU(SLOPE)
            grow = conv(channels, to, KERNEL, stride, PADDING, output_padding=stride - 1)
            layers.append(nn.Sequential(grow, norm(to), last))
        self.convolutions = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """See the class."""
        shape = latents.shape[:2]
        images = self.convolutions(self.linear(latents.flatten(0, 1)).unflatten(1, self.shape))
        return (images if self.video else images[:, 0]).unflatten(0, shape)


def repeated(features: Tensor) -> Tensor:
    """Spectrograms (B, T, F) as video (B, T, 3, F, F): columns and colours of an image are equal."""
    size = features.shape[2]
    return features[:, :, None, :, None].expand(-1, -1, COLOURS, -1, size)


def _linear(size: int, to: int) -> list[nn.Module]:
    return [nn.Linear(size, to), nn.BatchNorm1d(to), nn.LeakyReLU(SLOPE)]
