"""What each perturbation does to a clip."""

import numpy as np
import pytest
import torch

from bdlib.defenses.inference.perturbations import (
    BREAKING,
    PRESERVING,
    Means,
    above,
    backwards,
    below,
    echo,
    noise,
    overlay,
    pieces,
    shift,
    silence,
    speed,
    tempo,
)

RATE = 16000


def tones(*hertz):
    """A second of each tone, with rounded ends."""
    time = torch.arange(RATE) / RATE
    return torch.stack([0.3 * torch.sin(2 * np.pi * h * time) for h in hertz])


def pitch(wav):
    """The strongest frequency in Hz, and its amplitude."""
    spectrum = np.abs(np.fft.rfft(wav.numpy())) * 2 / len(wav)
    return np.argmax(spectrum), spectrum.max()


def means(seed=0):
    pool = (tones(200, 300) * 2**15).to(torch.int16)
    return Means(pool, RATE, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kinds", [BREAKING, PRESERVING])
def test_all_keep_the_shape_and_change_the_clip_and_draw_only_if_they_say_so(kinds):
    generator = torch.Generator().manual_seed(1)
    wavs = 0.1 * torch.randn(2, 3001, generator=generator)
    for perturbation in (each for some in kinds.values() for each in some):
        given, heard = wavs.clone(), means()
        own = Means(heard.pool[:, :3001], RATE, heard.generator)
        before = own.generator.get_state()
        changed, again = (perturbation.change(wavs, own) for _ in range(2))
        assert changed.shape == wavs.shape and torch.isfinite(changed).all()
        assert wavs.equal(given) and not changed.equal(wavs)
        assert perturbation.drawn is not changed.equal(again)
        assert perturbation.drawn is not before.equal(own.generator.get_state())


def test_in_time():
    wav = torch.arange(1.0, 11.0)[None]
    assert shift(0.2).change(wav, None)[0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert shift(-0.2).change(wav, None)[0].tolist() == [3, 4, 5, 6, 7, 8, 9, 10, 0, 0]
    assert silence(0.25).change(wav, None)[0].tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 9, 10]
    assert backwards().change(wav, None).equal(wav.flip(1))
    orders = set()
    for seed in range(40):
        (changed,) = pieces(3).change(wav, means(seed)).tolist()
        orders.add(tuple(changed[0:9:3]))
        assert changed == [n + k for n in changed[0:9:3] for k in range(3)] + [10]
    assert len(orders) == 6


def test_speed_moves_the_pitch_and_tempo_does_not():
    (wav,) = tones(400)
    faster, slower = (speed(f).change(wav[None], None)[0] for f in (2.0, 0.5))
    assert pitch(faster[:8000])[0] * 2 == 800 and not faster[8000:].any()
    assert pitch(slower)[0] == 200
    for factor, length in ((0.8, 16000), (1.25, 12800)):
        played = tempo(factor).change(wav[None], None)[0]
        assert abs(pitch(played[:length])[0] * RATE / length - 400) < 2
        assert played[length - 1000 : length].abs().max() > 0.2 and not played[length:].any()


def test_bands_and_what_is_added():
    wavs = tones(200, 4000)
    low, high = (made.change(wavs, None) for made in (below(0.1), above(0.25)))
    for kept, lost, number in ((low, high, 0), (high, low, 1)):
        assert pitch(kept[number])[1] > 0.28 > 0.01 > pitch(lost[number])[1]
    for snr in (5.0, -5.0):
        added = noise(snr).change(wavs, means()) - wavs
        ratio = wavs.square().mean(1) / added.square().mean(1)
        assert torch.allclose(10 * ratio.log10(), torch.tensor(snr), atol=0.2)
    drawn = torch.randint(2, (2,), generator=torch.Generator().manual_seed(0))
    laid = overlay(2.0).change(wavs, means()) - wavs
    assert torch.allclose(laid, 2 * tones(200, 300)[drawn], atol=1e-4)


def test_an_echo_comes_after_the_clip_is_louder_and_dies_away():
    click = torch.zeros(1, RATE)
    click[0, 100] = 1.0
    (heard,) = echo(0.3).change(click, means())
    late = heard[101:]
    assert not heard[:100].abs().max() > 1e-6 and abs(float(heard.square().sum()) - 1) < 1e-4
    assert abs(10 * float((late.square().sum() / heard[100] ** 2).log10()) - 10) < 0.1
    assert late[4800:].abs().max() < 1e-6
    assert late[:800].square().mean() > 1e4 * late[3900:4700].square().mean()
