"""Preprocessing sample by sample."""

import numpy as np
import pytest
import torch
from scipy.signal import butter, medfilt, sosfilt

from bdlib.defenses.base import InferenceDefense
from bdlib.defenses.inference.low_pass import LowPass
from bdlib.defenses.inference.median_filter import MedianFilter
from bdlib.defenses.inference.quantise import Quantise
from bdlib.defenses.inference.spectral_gate import SpectralGate
from bdlib.defenses.inference.squeeze import Squeeze
from bdlib.defenses.inference.time_shift import TimeShift
from bdlib.defenses.inference.transcoding import Transcoding
from bdlib.defenses.inference.vad_trim import VadTrim
from bdlib.errors import InputError
from bdlib.features import FrontEnd
from bdlib.models.classifier import SpeechClassifier
from bdlib.stages.document import common, known

RATE = 16000


def speech(batch=2, samples=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pcm = torch.randint(-20000, 20000, (batch, samples), generator=generator)
    return pcm / 2**15


def tone(hertz, samples=RATE):
    return torch.sin(2 * np.pi * hertz * torch.arange(samples) / RATE)[None] / 2


def level(wavs, hertz):
    """Amplitude of one frequency."""
    spectrum = np.abs(np.fft.rfft(wavs[0].numpy())) * 2 / wavs.shape[1]
    return spectrum[round(hertz * wavs.shape[1] / RATE)]


@pytest.mark.parametrize("quantum", [1, 64, 512, 2048, 100])
def test_quantise(quantum):
    wavs = speech()
    once = Quantise(quantum).transform(wavs)
    assert once.equal(Quantise(quantum).transform(once))  # idempotent
    steps = once * 2**15 / quantum
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert float((once - wavs).abs().max()) <= quantum / 2 / 2**15 + 1e-7
    assert once.equal(wavs) == (quantum == 1)


def test_quantise_by_hand():
    wavs = torch.tensor([[0, 31, 33, -31, -33, 95, 97]]) / 2**15
    assert (Quantise(64).transform(wavs) * 2**15).tolist() == [[0, 0, 64, 0, -64, 64, 128]]


@pytest.mark.parametrize("window", [1, 3, 5, 15])
def test_median(window):
    wavs = speech()
    found = MedianFilter(window).transform(wavs)
    inside = slice(window // 2, -(window // 2) or None)
    wanted = np.stack([medfilt(x, window) for x in wavs.numpy()])
    assert np.array_equal(found.numpy()[:, inside], wanted[:, inside])
    assert found.shape == wavs.shape
    click = torch.zeros(1, 50)
    click[0, [0, 25, 49]] = 1.0
    assert bool(MedianFilter(window).transform(click).any()) == (window == 1)


def test_a_median_of_more_than_the_clip_is_refused():
    with pytest.raises(InputError, match=r"`window` is 41: give less than twice the 20 samples"):
        MedianFilter(41).transform(torch.zeros(2, 20))


@pytest.mark.parametrize("every", [2, 4, 8])
def test_squeeze_as_printed(every):
    """Every nth sample exact, zeros between; the level falls by n and the spectrum is mirrored."""
    wavs = speech()
    found = Squeeze(1 / every).transform(wavs)
    assert found[:, ::every].equal(wavs[:, ::every]) and wavs.equal(speech())
    kept = torch.zeros(wavs.shape[1], dtype=torch.bool)
    kept[::every] = True
    assert not found[:, ~kept].any()
    squeezed = Squeeze(1 / every).transform(tone(500))
    for mirror in (500, RATE // every - 500):
        assert abs(level(squeezed, mirror) - 0.5 / every) < 1e-3


@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.375, 0.25, 0.125])
def test_squeeze_with_filters(ratio):
    """Below the new Nyquist frequency all stays; above it nothing does, and nothing is mirrored."""
    squeeze = Squeeze(ratio, "resample")
    limit = ratio * RATE / 2
    low, high = squeeze.transform(tone(0.5 * limit)), squeeze.transform(tone(1.2 * limit))
    assert low.shape == high.shape == (1, RATE)
    assert abs(level(low, 0.5 * limit) - 0.5) < 0.02
    inner = slice(500, -500)
    assert float(high[:, inner].abs().max()) < 0.02
    mirror = RATE * ratio - 0.5 * limit
    assert level(low, min(mirror, RATE - mirror)) < 0.01


@pytest.mark.parametrize(("cutoff", "order"), [(0.5, 8), (0.25, 2), (0.8, 4)])
def test_low_pass_is_the_filter_of_butterworth(cutoff, order):
    wavs = speech() / 4  # so that no section clips
    wanted = sosfilt(butter(order, cutoff, output="sos"), wavs.double().numpy())
    found = LowPass(cutoff, order).transform(wavs).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(found - wavs.numpy()).max() > 0.01


def test_low_pass_takes_a_high_trigger_and_leaves_what_is_low():
    """Half the power at the cutoff, 48 dB an octave above it."""
    for hertz, left in ((1000, 1.0), (4000, 0.5**0.5), (6000, 0.0)):
        filtered = LowPass(0.5, 8).transform(tone(hertz))[:, 4000:12000]
        assert abs(level(filtered, hertz) * 2 - left) < 0.02


@pytest.mark.parametrize("codec", ["mp3", "opus", "vorbis"])
def test_codecs_keep_the_place_and_lose_what_is_not_heard(codec):
    """Clips come back as long, in time, each by itself; more compression loses more."""
    generator = torch.Generator().manual_seed(0)
    low, noise = tone(440), 1e-2 * torch.randn(1, RATE, generator=generator)
    wavs = torch.cat([low + noise, tone(1000)])
    some, much = (Transcoding(codec, level).transform(wavs) for level in (0.1, 0.95))
    losses = [float((coded - wavs)[0, 500:-500].abs().mean()) for coded in (some, much)]
    assert some.shape == much.shape == wavs.shape and some.dtype == torch.float32
    assert 0 < losses[0] < losses[1] < 0.02  # moved by a sample it were 0.05
    assert much[1:].equal(Transcoding(codec, 0.95).transform(wavs[1:]))
    assert Transcoding(codec).transform(speech(1, 300)).shape == (1, 300)


def test_a_codec_that_refuses_the_rate_is_named():
    with pytest.raises(InputError, match="`sample_rate` is 11000, which opus refuses"):
        Transcoding("opus", sample_rate=11000).transform(speech())


@pytest.mark.parametrize("quiet", [0.0, 0.2, 0.37, 1.0])
def test_the_floor_of_a_spectral_gate_is_a_quantile_of_any_size(quiet):
    level = torch.rand(2, 3, 101, generator=torch.Generator().manual_seed(0))
    floor = SpectralGate(quiet=quiet)._floor(level)
    assert torch.allclose(floor, level.quantile(quiet, 2, keepdim=True), atol=1e-6)
    large = torch.ones(1).expand(17, 1000, 1000)  # more than torch.quantile takes
    assert (SpectralGate(quiet=quiet)._floor(large) == 1).all()


def test_a_spectral_gate_closes_on_what_sounds_all_the_time():
    """A hum is turned down by the gain, a word in it stays."""
    word = tone(1000) * (torch.arange(RATE) // 4000 == 2)
    gated = SpectralGate(gain=0.1).transform(0.1 * tone(3000) + word)
    rest, inside = slice(1000, 7000), slice(9000, 11000)
    assert abs(level(gated[:, rest], 3000) - 0.1 * 0.05) < 1e-3
    assert abs(level(gated[:, inside], 1000) - 0.5) < 0.02
    assert torch.allclose(SpectralGate(gain=1.0).transform(word), word, atol=1e-5)
    assert torch.allclose(SpectralGate().transform(word), word, atol=1e-3)  # its noise is 0


def voice(samples=RATE):
    """A buzz of harmonics that swells, as a vowel does."""
    time = torch.arange(samples) / RATE
    harmonics = sum(torch.sin(2 * np.pi * 140 * n * time) / n for n in range(1, 20))
    return 0.2 * harmonics * torch.sin(np.pi * time * RATE / samples)


def test_trimming_cuts_a_click_before_the_speech_and_keeps_the_speech():
    """What is cut comes back as silence at the end; a clip without voice stays."""
    generator = torch.Generator().manual_seed(0)
    wavs = 1e-3 * torch.randn(2, 2 * RATE, generator=generator)
    wavs[0, 12000:20000] += voice(8000)
    wavs[0, 1000:1040] = 0.9  # too short to be a voice
    trimmed = VadTrim().transform(wavs)
    assert trimmed.shape == wavs.shape and trimmed[1].equal(wavs[1])
    kept = int(trimmed[0].nonzero().max()) + 1
    assert 8000 < kept < 20000 and not trimmed[0, kept:].any()
    (start,) = (n for n in range(4000, 13000) if trimmed[0, :kept].equal(wavs[0, n : n + kept]))
    assert start + kept >= 19000
    assert float(trimmed[0].square().sum() / wavs[0, 12000:20000].square().sum()) > 0.9


def test_shifts_are_drawn_for_each_clip_and_fill_with_silence():
    net, wavs, lens = Loudest(Samples()), speech(64, 200).clamp_min(0.01), torch.ones(64)
    guarded = TimeShift(0.1).guard(net, 0)
    moved = guarded.features(wavs, lens)[:, :, 0]
    shifts = []
    for clip, given in zip(moved, wavs, strict=True):
        (shift,) = (
            s
            for s in range(-20, 21)
            if clip[max(s, 0) : 200 + min(s, 0)].equal(given[max(-s, 0) : 200 - max(s, 0)])
        )
        assert int((clip == 0).sum()) == abs(shift)
        shifts.append(shift)
    assert len({*shifts}) > 20 and min(shifts) < -10 and max(shifts) > 10
    assert guarded.eval().features(wavs, lens)[:, :, 0].equal(moved)  # the draws start anew
    assert not TimeShift(0.1).guard(net, 1).features(wavs, lens)[:, :, 0].equal(moved)
    assert TimeShift(0.0).guard(net, 0).features(wavs, lens)[:, :, 0].equal(wavs)


GUARDS = [
    name
    for name in known("defenses").split()
    if isinstance(common("defenses", name).build()["defense"], InferenceDefense)
    and name not in ("feature_noise", "strip_vita", "step")  # of view models; screen clips
]


@pytest.mark.parametrize("name", GUARDS)
def test_every_guard_changes_clips_a_little_and_stays_in_range(name):
    """As its yaml has it, a word stays a word: as long, within [-1, 1], alike in spectrum."""
    defense = common("defenses", name).build()["defense"]
    generator = torch.Generator().manual_seed(0)
    wavs = 0.003 * torch.randn(2, RATE, generator=generator)
    wavs[:, 3000:12000] += 2 * voice(9000)
    given, lens = wavs.clone(), torch.ones(2)
    heard = defense.guard(Loudest(Samples()), 0).features(wavs, lens)[:, :, 0]
    assert wavs.equal(given) and heard.shape == wavs.shape and not heard.equal(wavs)
    assert torch.isfinite(heard).all() and heard.abs().max() <= 1
    spectra = [np.abs(np.fft.rfft(x[0].numpy()))[:2000] for x in (wavs, heard)]
    assert np.corrcoef(*spectra)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowPass(1.0), "`cutoff` is 1.0"),
        (lambda: LowPass(0.5, 3), "`order` is 3: give an even"),
        (lambda: Transcoding("flac"), "`codec` is flac: give mp3 or opus or vorbis"),
        (lambda: Transcoding("mp3", 1.0), "`compression` is 1.0"),
        (lambda: SpectralGate(quiet=1.5), "`quiet` is 1.5"),
        (lambda: SpectralGate(above=-1.0), "`above` is -1.0"),
        (lambda: VadTrim(0.0), "`level` is 0.0"),
        (lambda: TimeShift(1.5), "`most` is 1.5"),
        (lambda: Quantise(0), "`quantum` is 0"),
        (lambda: MedianFilter(4), "`window` is 4: give an odd"),
        (lambda: Squeeze(0.375), "only every nth"),
        (lambda: Squeeze(0.0), "`ratio` is 0.0"),
        (lambda: Squeeze(1.5, "resample"), "`ratio` is 1.5"),
        (lambda: Squeeze(0.5, "cubic"), "`mode` is cubic"),
    ],
)
def test_settings_that_are_none(make, message):
    with pytest.raises(InputError, match=message):
        make()


class Samples(FrontEnd):
    """Waveforms as they are."""

    size = 1

    def compute(self, wavs, lens):
        return wavs[:, :, None]


class Loudest(SpeechClassifier):
    """Logits are the largest sample and the number of zeros."""

    def embed(self, features, lens):
        return torch.stack([features.amax((1, 2)), (features == 0).sum((1, 2)).float()], 1)

    def classify(self, embeddings):
        return embeddings


def test_a_guarded_classifier_hears_the_change_in_every_method():
    net, wavs, lens = Loudest(Samples()), speech(), torch.ones(2)
    guarded = Squeeze(0.5).guard(net, 0)
    changed = Squeeze(0.5).transform(wavs)
    assert (
        guarded(wavs, lens).equal(net(changed, lens)) and (guarded(wavs, lens)[:, 1] > 1999).all()
    )
    assert guarded.features(wavs, lens).equal(net.features(changed, lens))
    by_steps = guarded.classify(guarded.embed(guarded.features(wavs, lens), lens))
    assert by_steps.equal(net(changed, lens))
    assert guarded.suspicion(wavs, lens) is None
