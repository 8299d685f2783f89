"""Ways to change clips: some break what is said and some keep it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchaudio.functional import (
    fftconvolve,
    highpass_biquad,
    lowpass_biquad,
    phase_vocoder,
    resample,
)

WINDOW, HOP = 512, 128  # samples
NYQUIST = 1.0
ECHO = 10**0.5  # amplitude of an echo over that of the direct path: 10 dB


@dataclass(frozen=True)
class Means:
    """What perturbations draw from.

    Arguments
    ---------
    pool : Tensor
        Clean clips (N, T), int16.
    sample_rate : int
        Of all clips, in Hz.
    generator : torch.Generator
        Of what is drawn, on the CPU.
    """

    pool: Tensor
    sample_rate: int
    generator: torch.Generator


@dataclass(frozen=True)
class Perturbation:
    """Waveforms (B, T) to changed ones of that shape; `drawn` are those that differ each time."""

    change: Callable[[Tensor, Means], Tensor]
    drawn: bool = False


def overlay(gain: float) -> Perturbation:
    """Another clean clip is added, without clipping, as STRIP does."""

    def change(wavs: Tensor, means: Means) -> Tensor:
        chosen = torch.randint(len(means.pool), (len(wavs),), generator=means.generator)
        return wavs + gain * means.pool[chosen.to(means.pool.device)].to(wavs) / 2**15

    return Perturbation(change, drawn=True)


def noise(snr: float) -> Perturbation:
    """White noise, so many dB below the clip's level over its whole length."""

    def change(wavs: Tensor, means: Means) -> Tensor:
        drawn = torch.randn(wavs.shape, generator=means.generator).to(wavs)
        level = wavs.square().mean(1, keepdim=True).sqrt()
        return wavs + 10 ** (-snr / 20) * level * drawn

    return Perturbation(change, drawn=True)


def above(cutoff: float) -> Perturbation:
    """What lies above a share of the highest frequency; two sections of second order."""
    return Perturbation(lambda wavs, _: _twice(highpass_biquad, wavs, cutoff))


def below(cutoff: float) -> Perturbation:
    """What lies below a share of the highest frequency; two sections of second order."""
    return Perturbation(lambda wavs, _: _twice(lowpass_biquad, wavs, cutoff))


def _twice(section: Callable[..., Tensor], wavs: Tensor, cutoff: float) -> Tensor:
    return section(section(wavs, 2 * NYQUIST, cutoff), 2 * NYQUIST, cutoff)


def silence(start: float) -> Perturbation:
    """Half of the clip, from a share of it on, is silent."""

    def change(wavs: Tensor, _: Means) -> Tensor:
        samples, changed = wavs.shape[1], wavs.clone()
        changed[:, round(start * samples) : round((start + 0.5) * samples)] = 0
        return changed

    return Perturbation(change)


def pieces(count: int) -> Perturbation:
    """So many pieces of one length in another order; what is left over stays at the end."""

    def change(wavs: Tensor, means: Means) -> Tensor:
        size, changed = wavs.shape[1] // count, wavs.clone()
        cut = wavs[:, : count * size].reshape(len(wavs), count, size)
        order = torch.rand(len(wavs), count, generator=means.generator).argsort(1).to(wavs.device)
        changed[:, : count * size] = cut.gather(1, order[:, :, None].expand_as(cut)).flatten(1)
        return changed

    return Perturbation(change, drawn=True)


def backwards() -> Perturbation:
    """The end comes first."""
    return Perturbation(lambda wavs, _: wavs.flip(1))


def shift(part: float) -> Perturbation:
    """Later by a share of the clip, or earlier; silence comes in."""

    def change(wavs: Tensor, _: Means) -> Tensor:
        samples = round(part * wavs.shape[1])
        return nn.functional.pad(wavs, (samples, -samples))

    return Perturbation(change)


def speed(factor: float) -> Perturbation:
    """Played faster, pitch and all, in hundredths; the end is cut, or silent."""
    return Perturbation(lambda wavs, _: _fitted(resample(wavs, round(100 * factor), 100), wavs))


def tempo(factor: float) -> Perturbation:
    """Faster at the same pitch, by a phase vocoder; the end is cut, or silent."""

    def change(wavs: Tensor, _: Means) -> Tensor:
        window = torch.hann_window(WINDOW, device=wavs.device)
        spectrum = torch.stft(
            wavs, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True
        )
        advance = torch.linspace(0, math.pi * HOP, WINDOW // 2 + 1, device=wavs.device)
        played = phase_vocoder(spectrum, factor, advance[:, None])
        length = int(wavs.shape[1] / factor)
        return _fitted(torch.istft(played, WINDOW, HOP, window=window, length=length), wavs)

    return Perturbation(change)


def echo(seconds: float) -> Perturbation:
    """Noise that decays by 60 dB follows the clip as a room's echo does, 10 dB above the direct path."""

    def change(wavs: Tensor, means: Means) -> Tensor:
        time = torch.arange(round(seconds * means.sample_rate)) / means.sample_rate
        response = torch.randn(time.shape, generator=means.generator) * 10 ** (-3 * time / seconds)
        response *= ECHO / torch.linalg.vector_norm(response)
        response[0] = 1.0
        response /= torch.linalg.vector_norm(response)  # so that the level stays
        return _fitted(fftconvolve(wavs, response.to(wavs).expand(len(wavs), -1)), wavs)

    return Perturbation(change, drawn=True)


def _fitted(changed: Tensor, wavs: Tensor) -> Tensor:
    """Cut to the length of the clips, or filled with zeros."""
    samples = wavs.shape[1]
    return nn.functional.pad(changed, (0, max(samples - changed.shape[1], 0)))[:, :samples]


BREAKING: Mapping[str, tuple[Perturbation, ...]] = {
    "overlay": (overlay(1.0), overlay(2.0)),
    "noise": (noise(5.0), noise(-5.0)),
    "band": (above(0.25), below(0.1)),
    "silence": (silence(0.0), silence(0.25), silence(0.5)),
    "order": (pieces(4), pieces(16), backwards()),
    "speed": (speed(0.5), speed(2.0)),
}
"""Kinds after which a word is hardly one any more."""

PRESERVING: Mapping[str, tuple[Perturbation, ...]] = {
    "shift": (shift(-0.1), shift(-0.05), shift(0.05), shift(0.1)),
    "speed": (speed(0.9), speed(0.95), speed(1.05), speed(1.1)),
    "tempo": (tempo(0.9), tempo(1.1)),
    "echo": (echo(0.1), echo(0.3)),
}
"""Kinds after which a listener hears the same word."""
