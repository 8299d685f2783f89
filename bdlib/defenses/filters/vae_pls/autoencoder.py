"""The disentangled sequential autoencoder (Li and Mandt, ICML 2018), as VAE-PLS uses it.

A clip is explained by one latent f for the whole of it and one latent z_t a frame. VAE-PLS feeds it
spectrograms as if they were video: frame t of the spectrogram becomes a square colour image whose
columns are all that frame. `video` builds exactly that. Without it the same is computed on the
frames themselves, some `n_mels` times cheaper; `repeated` shows that nothing is lost by it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bdlib.corpus import Batch
from bdlib.defenses.checks import one_of
from bdlib.defenses.filters.vae_pls.frames import SHRINK, SLOPE, FrameDecoder, FrameEncoder
from bdlib.errors import InputError
from bdlib.features import FrontEnd


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian: mean and log variance, of one shape."""

    mean: Tensor
    logvar: Tensor

    def sample(self) -> Tensor:
        """A draw through which gradients flow."""
        return self.mean + torch.randn_like(self.mean) * (0.5 * self.logvar).exp()

    def divergence(self, prior: "Gaussian | None" = None) -> Tensor:
        """Kullback-Leibler divergence (B,) from `prior`, by default N(0, I), in nats."""
        if prior is None:
            terms = self.mean**2 + self.logvar.exp() - 1 - self.logvar
        else:
            spread = self.logvar.exp() + (self.mean - prior.mean) ** 2
            terms = prior.logvar - self.logvar + spread / prior.logvar.exp() - 1
        return 0.5 * terms.flatten(1).sum(1)


@dataclass(frozen=True)
class Explained:
    """What the autoencoder makes of a batch.

    Arguments
    ---------
    features, rebuilt : Tensor
        (B, T, F) spectrograms in [-1, 1], before and after. In the video form `rebuilt` is
        (B, T, 3, F, F).
    f, z, prior : Gaussian
        Posteriors of f (B, f_dim) and z (B, T, z_dim), and the prior of z.
    """

    features: Tensor
    rebuilt: Tensor
    f: Gaussian
    z: Gaussian
    prior: Gaussian


class SequentialAutoencoder(nn.Module):
    """Waveforms to latents and back.

    Layers, sizes and oddities are those of the public code that VAE-PLS names
    (yatindandi/Disentangled-Sequential-Autoencoder); the oddities can be switched off.

    Arguments
    ---------
    front_end : FrontEnd
        Waveforms to spectrograms in [-1, 1]; its `size` a multiple of 8.
    f_dim, z_dim : int
        Latents of a clip and of a frame.
    conv_dim : int
        Size of an encoded frame.
    hidden : int
        Of the recurrent nets.
    channels : int
        Of the convolutions; 256 in the public code.
    video : bool
        Repeat each frame along width and colours.
    factorised : bool
        q(z|x) from each frame alone; otherwise q(z|x, f) from all frames and f ("full").
    f_pooling : str
        What f is read from: the `ends` of the two directions of the recurrent net, as in the public
        code, or the `mean` of its states over all frames, to which a sound in the middle of a clip
        is as near as one at an edge.
    rectified_f : bool
        Leaky ReLU after mean and log variance of f.
    free_prior : bool
        The prior of z is rolled out on its own samples; otherwise on those of the posterior, as
        the paper on the autoencoder writes it.
    fitted_output : bool
        The last batch norm starts at the mean and the deviation of the training spectrograms;
        otherwise both at 1, as in the public code, from where Adam at 0.001 needs thousands of
        steps before a clip is rebuilt better than by the mean of the corpus.

    Raises
    ------
    InputError
        If the number of mels is not a multiple of 8, or `f_pooling` is neither.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        f_dim: int = 64,
        z_dim: int = 24,
        conv_dim: int = 256,
        hidden: int = 128,
        channels: int = 32,
        video: bool = False,
        factorised: bool = True,
        rectified_f: bool = True,
        free_prior: bool = True,
        fitted_output: bool = False,
        f_pooling: str = "ends",
    ) -> None:
        super().__init__()
        if front_end.size % SHRINK:
            raise InputError(f"`n_mels` is {front_end.size}: give a multiple of {SHRINK}")
        one_of("f_pooling", f_pooling, ("ends", "mean"))
        self.front_end, self.video = front_end, video
        self.factorised, self.free_prior = factorised, free_prior
        self.rectified_f, self.fitted_output = rectified_f, fitted_output
        self.f_pooling = f_pooling
        self.encoder = FrameEncoder(front_end.size, channels, conv_dim, video)
        self.decoder = FrameDecoder(f_dim + z_dim, front_end.size, channels, conv_dim, video)
        self.f_summary = nn.LSTM(conv_dim, hidden, bidirectional=True, batch_first=True)
        last = nn.LeakyReLU(SLOPE) if rectified_f else nn.Identity()
        self.f_mean = nn.Sequential(nn.Linear(2 * hidden, f_dim), last)
        self.f_logvar = nn.Sequential(nn.Linear(2 * hidden, f_dim), last)
        if factorised:
            self.z_hidden = nn.Sequential(nn.Linear(conv_dim, hidden), nn.LeakyReLU(SLOPE))
        else:
            self.z_summary = nn.LSTM(conv_dim + f_dim, hidden, bidirectional=True, batch_first=True)
            self.z_hidden = nn.RNN(2 * hidden, hidden, batch_first=True)
        self.z_mean, self.z_logvar = nn.Linear(hidden, z_dim), nn.Linear(hidden, z_dim)
        self.prior_cell = nn.LSTMCell(z_dim, hidden)
        self.prior_mean, self.prior_logvar = nn.Linear(hidden, z_dim), nn.Linear(hidden, z_dim)
        self.apply(_initialise)

    def fit_front_end(self, batches: Iterable[Batch]) -> None:
        """Estimate the front end's scale on training batches, and start the output from there."""
        self.front_end.fit(batches)
        if self.fitted_output:
            self._fit_output(self.features(batch.wavs, batch.lens) for batch in batches)

    @torch.no_grad()
    def _fit_output(self, spectrograms: Iterable[Tensor]) -> None:
        """Give tanh of the last norm about the mean and deviation of spectrograms (B, T, F)."""
        count, moments = 0, 0.0
        for bins in spectrograms:
            count += bins.numel()
            moments = moments + torch.stack([bins.double().sum(), bins.double().square().sum()])
        mean, square = moments / count
        norm = self.decoder.convolutions[-1][1]
        norm.bias.fill_(mean.atanh())
        norm.weight.fill_((square - mean**2).sqrt() / (1 - mean**2))  # tanh has this slope there

    def features(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """Waveforms (B, samples) and relative lengths (B,) to spectrograms (B, T, F) in [-1, 1]."""
        return self.front_end(wavs, lens)

    def encode(self, features: Tensor) -> tuple[Gaussian, Tensor]:
        """Posterior of f (B, f_dim), and the encoded frames (B, T, conv_dim)."""
        frames = self.encoder(features)
        states, _ = self.f_summary(frames)
        forward, backward = states.chunk(2, dim=2)
        if self.f_pooling == "mean":
            pooled = states.mean(1)
        else:
            pooled = torch.cat([forward[:, -1], backward[:, 0]], dim=1)
        return Gaussian(self.f_mean(pooled), self.f_logvar(pooled)), frames

    def latent(self, wavs: Tensor, lens: Tensor, spectrum: bool = False) -> Tensor:
        """Waveforms to the posterior mean of f (B, f_dim), by which VAE-PLS judges a clip.

        With `spectrum`, to (B, f_dim + F): f as it was before its leaky ReLU, which folds a cloud of
        clips along every axis, and the mean of the spectrogram over the frames of the clip.
        """
        features = self.features(wavs, lens)
        f = self.encode(features)[0].mean.float()
        if not spectrum:
            return f
        if self.rectified_f:
            f = torch.where(f > 0, f, f / SLOPE)
        count = (lens * features.shape[1]).round().clamp(min=1)
        inside = torch.arange(features.shape[1], device=lens.device) < count[:, None]
        mean = (features.float() * inside[:, :, None]).sum(1) / count[:, None]
        return torch.cat([f, mean], dim=1)

    def forward(self, features: Tensor) -> Explained:
        """Spectrograms (B, T, F) to latents and back; sampled in training, by the means in eval."""
        q_f, frames = self.encode(features)
        f = self._draw(q_f)
        q_z = self._posterior_of_z(frames, f)
        z = self._draw(q_z)
        prior, _ = self.prior(z)
        return Explained(features, self.decode(f, z), q_f, q_z, prior)

    def decode(self, f: Tensor, z: Tensor) -> Tensor:
        """f (B, f_dim) and z (B, T, z_dim) to spectrograms, of the shape of `Explained.rebuilt`."""
        return self.decoder(torch.cat([f[:, None].expand(-1, z.shape[1], -1), z], dim=2))

    def prior(self, z: Tensor) -> tuple[Gaussian, Tensor]:
        """The prior of z, rolled out over as many frames as `z` (B, T, z_dim) has, and a draw.

        With `free_prior` nothing but the shape of `z` matters.
        """
        means, logvars, drawn = [], [], []
        before, state = torch.zeros_like(z[:, 0]), None
        for frame in range(z.shape[1]):
            state = self.prior_cell(before, state)
            step = Gaussian(self.prior_mean(state[0]), self.prior_logvar(state[0]))
            means.append(step.mean)
            logvars.append(step.logvar)
            drawn.append(self._draw(step))
            before = drawn[-1] if self.free_prior else z[:, frame]
        return Gaussian(torch.stack(means, 1), torch.stack(logvars, 1)), torch.stack(drawn, 1)

    def _posterior_of_z(self, frames: Tensor, f: Tensor) -> Gaussian:
        if self.factorised:
            hidden = self.z_hidden(frames)
        else:
            whole = f[:, None].expand(-1, frames.shape[1], -1)
            hidden, _ = self.z_hidden(self.z_summary(torch.cat([frames, whole], dim=2))[0])
        return Gaussian(self.z_mean(hidden), self.z_logvar(hidden))

    def _draw(self, posterior: Gaussian) -> Tensor:
        return posterior.sample() if self.training else posterior.mean


def _initialise(module: nn.Module) -> None:
    """As the public code: Kaiming for convolutions and linear layers, ones for batch norms."""
    convolutions = nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d
    if isinstance(module, (nn.Linear, *convolutions)):
        nn.init.kaiming_normal_(module.weight)
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        nn.init.ones_(module.weight)
        nn.init.ones_(module.bias)
