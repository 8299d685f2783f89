"""Front ends against the libraries and the formulas they stand for."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from torchaudio.compliance import kaldi

from bdlib.corpus import Batch
from bdlib.features import (
    KaldiFbank,
    MagnitudeSpectrogram,
    Mfcc,
    NormalizedFbank,
    NormalizedMfcc,
    ScaledFbank,
    SpeakerFbank,
)

FRONT_ENDS = (
    *(KaldiFbank, NormalizedFbank, MagnitudeSpectrogram),
    *(Mfcc, NormalizedMfcc, SpeakerFbank),
)


def noise(clips, samples, seed=0):
    return torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed)) / 10


def reference(clip, n_mels, rate=16000):
    settings = {"dither": 0.0, "high_freq": -400.0, "low_freq": 20.0, "snip_edges": False}
    return kaldi.fbank(clip[None], num_mel_bins=n_mels, sample_frequency=rate, **settings)


@pytest.mark.parametrize("samples", [16000, 15999, 16001, 16079, 16080, 12345, 401, 400])
@pytest.mark.parametrize("n_mels", [80, 23])
def test_kaldi_fbank_equals_kaldi(samples, n_mels):
    wavs = noise(2, samples) + 0.05  # an offset, so that DC removal matters
    found = KaldiFbank(n_mels)(wavs, torch.ones(2))
    for clip, features in zip(wavs, found, strict=True):
        expected = reference(clip, n_mels)
        assert features.shape == expected.shape
        assert (features - expected).abs().max() < 2e-3


def test_kaldi_fbank_at_another_rate():
    wavs = noise(1, 8000)
    found = KaldiFbank(40, 8000)(wavs, torch.ones(1))
    assert (found[0] - reference(wavs[0], 40, 8000)).abs().max() < 2e-3


def test_one_second_is_exactly_100_frames():
    assert KaldiFbank(80)(noise(1, 16000), torch.ones(1)).shape == (1, 100, 80)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_gradient_reaches_the_waveform(front_end):
    """Finite for speech-like noise and for digital silence, where logs and roots go wrong."""
    wavs = torch.stack([noise(1, 16000)[0], torch.zeros(16000)]).requires_grad_(True)
    features = front_end()(wavs, torch.ones(2))
    assert torch.isfinite(features).all()
    (features**2).sum().backward()
    assert torch.isfinite(wavs.grad).all()
    assert (wavs.grad[0] != 0).float().mean() > 0.9


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_float32_whatever_the_precision_and_clips_do_not_mix(front_end):
    front_end, wavs, lens = front_end(), noise(3, 16000), torch.ones(3)
    plain = front_end(wavs, lens)
    assert plain.shape[0] == 3 and plain.shape[2] == front_end.size
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = front_end(wavs.bfloat16().float(), lens)
    assert mixed.dtype == torch.float32
    assert torch.allclose(mixed, front_end(wavs.bfloat16().float(), lens))
    assert torch.allclose(front_end(wavs[1:2], lens[:1])[0], plain[1], atol=1e-3)


def batches(*wavs):
    for part in wavs:
        count = len(part)
        labels = torch.zeros(count, dtype=torch.long)
        yield Batch([str(i) for i in range(count)], part, torch.ones(count), labels)


def test_normalized_fbank_standardises_the_training_frames():
    parts = noise(3, 16000), 0.2 * noise(5, 16000, seed=1)  # of different size and level
    front_end = NormalizedFbank(20)
    front_end.fit(batches(*parts))
    frames = torch.cat([front_end(part, torch.ones(len(part))).flatten(0, 1) for part in parts])
    assert frames.mean(0).abs().max() < 1e-4
    assert (frames.std(0) - 1).abs().max() < 1e-3
    plain = torch.cat([KaldiFbank(20)(part, None).flatten(0, 1) for part in parts])
    assert torch.allclose(front_end.mean, plain.mean(0), atol=1e-4)
    assert torch.allclose(front_end.deviation, plain.std(0, correction=0), atol=1e-4)


def test_statistics_travel_with_the_state_and_need_no_second_fit():
    fitted, other = NormalizedFbank(20), NormalizedFbank(20)
    fitted.fit(batches(noise(4, 16000)))
    assert set(fitted.state_dict()) == {"mean", "deviation"}
    other.load_state_dict(fitted.state_dict())
    wavs = noise(2, 16000, seed=3)
    assert torch.equal(other(wavs, None), fitted(wavs, None))
    assert not torch.allclose(other(wavs, None), NormalizedFbank(20)(wavs, None))


def test_constant_bins_do_not_divide_by_zero():
    front_end = NormalizedFbank(20)
    front_end.fit(batches(torch.zeros(2, 16000)))
    assert torch.isfinite(front_end(torch.zeros(1, 16000), None)).all()


def test_magnitude_of_a_sine_is_linear_and_at_its_bin():
    """A sine of amplitude a in the middle of a bin: a / 2 times the sum of the window."""
    time = torch.arange(16000) / 16000
    for number, amplitude in ((32, 0.5), (100, 0.25)):
        wavs = amplitude * torch.sin(2 * math.pi * number * 16000 / 256 * time)[None]
        spectrum = MagnitudeSpectrogram()(wavs, torch.ones(1))
        assert spectrum.shape == (1, 124, 129)
        assert (spectrum.argmax(2) == number).all()
        expected = amplitude / 2 * float(torch.hann_window(255).sum())
        assert torch.allclose(spectrum[0, :, number], torch.tensor(expected), rtol=1e-3)
        assert spectrum[0, :, (number + 64) % 129].max() < 1e-2 * expected


def test_magnitude_frames_are_not_centred():
    """Frame t hears samples 128 t to 128 t + 255 and nothing else."""
    wavs = torch.zeros(1, 16000)
    wavs[0, 128 * 50 + 100] = 1.0
    heard = MagnitudeSpectrogram()(wavs, torch.ones(1))[0].amax(1) > 1e-4
    assert heard.nonzero().flatten().tolist() == [49, 50]


def mel(hertz):
    return 2595 * np.log10(1 + hertz / 700)


def mel_centres(count, low, high):
    """Hertz of the tops of triangles that are even in mel (HTK)."""
    return 700 * (10 ** (np.linspace(mel(low), mel(high), count + 2)[1:-1] / 2595) - 1)


def test_mfcc_is_the_cosine_transform_of_the_logarithm_of_mels():
    """Of a tone and of one a hundredth as loud: as printed in textbooks, by numpy and scipy."""
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 700 * time) + 0.1 * np.cos(2 * np.pi * 3100 * time)
    window = np.hanning(401)[:-1]
    hertz, tops = np.arange(201) * 40, mel_centres(64, 0, 8000)
    edges = np.concatenate([[0], tops, [8000]])
    banks = np.array([np.interp(hertz, edges[k : k + 3], [0, 1, 0]) for k in range(64)])
    found = Mfcc()(torch.tensor(np.stack([tone, tone / 100]), dtype=torch.float32), None)
    for clip, level in zip(found, (1, 0.01), strict=True):
        frame = level * tone[160 * 50 - 200 : 160 * 50 + 200] * window  # centred at 0.5 s
        mels = banks @ np.abs(np.fft.rfft(frame)) ** 2
        expected = scipy.fft.dct(np.log(mels + 1e-6), norm="ortho")[:40]
        assert np.allclose(clip[50], expected, atol=0.02 * np.abs(expected).max())


def test_speaker_fbank_takes_the_mean_over_valid_frames_only():
    front_end, wavs = SpeakerFbank(24), noise(2, 16000)
    wavs[1, 8000:] = 0
    lens = torch.tensor([1.0, 0.5])
    found, raw = front_end(wavs, lens), front_end.fbank(wavs)
    valid = (lens * raw.shape[1]).ceil().int().tolist()
    for clip, frames, count in zip(found, raw, valid, strict=True):
        assert clip[:count].mean(0).abs().max() < 1e-3
        centred = frames[:count] - frames[:count].mean(0)
        assert torch.allclose(clip[:count], centred, atol=1e-3)  # the deviation stays
    assert found[1].mean(0).abs().min() > 1  # padding is far from the mean and was left out


def test_speaker_fbank_is_speechbrains_bit_for_bit():
    front_end, wavs, lens = SpeakerFbank(24), noise(3, 16000), torch.tensor([1.0, 0.5, 0.9])
    assert torch.equal(front_end(wavs, lens), front_end.normalize(front_end.fbank(wavs), lens))


def test_speaker_fbank_of_a_clip_does_not_depend_on_its_padding():
    front_end, clip = SpeakerFbank(24), noise(1, 8000)
    short = front_end(clip, torch.ones(1))
    padded = front_end(torch.nn.functional.pad(clip, (0, 8000)), torch.tensor([0.5]))
    same = short.shape[1] - 2  # the last windows reach into the padding
    assert (padded[:, :same] - short[:, :same]).abs().max() < 0.5
    assert padded[:, :same].std() > 1


def test_scaled_fbank_lies_between_the_loudest_and_the_floor():
    """1 is the loudest mel of what `fit` heard; `range_db` below and silence are -1."""
    time = torch.arange(16000) / 16000
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * time)
    wavs = torch.stack([tone, tone * 10 ** (-40 / 20), torch.zeros(16000)])
    front_end = ScaledFbank(range_db=80.0)
    front_end.fit([Batch(["a"], wavs[:1], torch.ones(1), torch.zeros(1))])
    loud, faint, silent = front_end(wavs, torch.ones(3))
    assert loud.shape == (32, 64) and torch.isclose(loud.max(), torch.tensor(1.0))
    assert torch.isclose(faint[8:24].max(), loud[8:24].max() - 1, atol=1e-3)  # 40 of 80 dB
    assert (silent == -1).all() and (loud >= -1).all()
    louder = front_end(2 * wavs[:1], torch.ones(1))
    assert louder.max() == 1  # what was not heard in training is cut off


def test_bands_of_the_scaled_fbank_are_even_in_mel_from_20_hz():
    """A tone at the top of a triangle is loudest there, the lowest at 47 Hz as loud as any."""
    chosen = [0, 5, 20, 40, 63]
    hertz = torch.tensor(mel_centres(64, 20, 8000)[chosen], dtype=torch.float32)
    wavs = 0.3 * torch.sin(2 * torch.pi * hertz[:, None] * torch.arange(16000) / 16000)
    front_end = ScaledFbank()
    front_end.fit(batches(wavs))
    middle = front_end(wavs, None)[:, 16]
    assert middle.argmax(1).tolist() == chosen
    assert middle.amax(1).min() > 0.8  # within 8 dB
