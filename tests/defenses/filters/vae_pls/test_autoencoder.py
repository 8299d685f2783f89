"""The autoencoder of VAE-PLS: what its two forms share, its latents, its switches."""

import math

import pytest
import torch
from torch import nn

from bdlib.corpus import Batch
from bdlib.defenses.filters.vae_pls.autoencoder import Gaussian, SequentialAutoencoder
from bdlib.defenses.filters.vae_pls.brain import EvidenceBound, flat
from bdlib.defenses.filters.vae_pls.frames import FrameEncoder, repeated
from bdlib.errors import InputError
from bdlib.features import ScaledFbank

SMALL = {"f_dim": 5, "z_dim": 3, "conv_dim": 8, "hidden": 6, "channels": 4}
MELS = 16


def small(**changes):
    torch.manual_seed(0)
    front_end = ScaledFbank(n_mels=MELS, sample_rate=8000, window=512, hop=256)
    return SequentialAutoencoder(front_end, **{**SMALL, **changes})


def spectrograms(count=3, frames=7):
    return torch.rand(count, frames, MELS, generator=torch.Generator().manual_seed(1)) * 2 - 1


def as_video(one):
    """Weights of the video form that compute what a one-dimensional autoencoder does.

    A convolution gets its kernel in the middle column and shares it among the colours. One that
    doubles the width gets it in two neighbouring columns, so that each output column meets one.
    Linear layers share out or repeat the columns. No column of any padding is then ever looked at.
    """
    video = small(video=True)
    state = video.state_dict()
    for name, weight in one.state_dict().items():
        wanted = state[name]
        if wanted.dim() == 4:
            doubling = name.startswith("decoder") and not name.startswith("decoder.convolutions.3")
            wide = torch.zeros(*weight.shape, 5)
            wide[..., 2] = weight
            if doubling:
                wide[..., 3] = weight
            if name.startswith("encoder"):
                weight = wide.expand(wanted.shape) / (wanted.shape[1] // weight.shape[1])
            else:
                weight = wide.expand(wanted.shape)
        elif name.startswith("encoder.linear.0.w"):  # (out, channels, rows), spread over columns
            rows = weight.unflatten(1, (SMALL["channels"], -1))
            weight = (rows[..., None] / rows.shape[2]).expand(*rows.shape, rows.shape[2]).flatten(1)
        elif wanted.shape != weight.shape and "decoder.linear" in name:
            rows = weight.unflatten(0, (SMALL["channels"], -1))
            weight = rows[:, :, None].expand(-1, -1, rows.shape[1], *rows.shape[2:]).flatten(0, 2)
        elif wanted.shape != weight.shape:  # the last norm and bias, one a colour
            weight = weight.expand(wanted.shape)
        state[name] = weight.clone()
    video.load_state_dict(state)
    return video


@pytest.mark.parametrize("training", [False, True])
def test_the_video_form_can_compute_all_that_the_one_dimensional_form_does(training):
    """The same function, borders included, and the same loss and batch statistics."""
    one = small()
    video, x = as_video(one), spectrograms()
    bounds = []
    for form in (one, video):
        form.train(training)
        torch.manual_seed(2)
        explained = form(x)
        bounds.append((explained, *EvidenceBound()(explained)))
    (a, loss_a, terms_a), (b, loss_b, terms_b) = bounds
    assert b.rebuilt.shape == (3, 7, 3, MELS, MELS)
    assert torch.allclose(repeated(a.rebuilt), b.rebuilt, atol=1e-4)
    assert torch.allclose(a.f.mean, b.f.mean, atol=1e-4)
    assert torch.allclose(a.z.logvar, b.z.logvar, atol=1e-4)
    assert torch.allclose(terms_a, terms_b, rtol=1e-4)
    assert torch.allclose(loss_a, loss_b, rtol=1e-4)
    assert not torch.allclose(a.rebuilt[0], a.rebuilt[1], atol=1e-2)  # it is not all the same


def test_where_a_video_encoder_cannot_be_folded():
    """Summed over width and colours, kernels agree inside; padded borders of the width differ."""
    torch.manual_seed(3)
    video = FrameEncoder(MELS, 4, 8, video=True).eval()
    one = FrameEncoder(MELS, 4, 8, video=False).eval()
    state = {}
    for name, weight in video.convolutions.state_dict().items():
        if weight.dim() == 4:
            weight = weight.sum(3)
            weight = weight.sum(1, keepdim=True) if name.startswith("0.") else weight
        state[name] = weight
    one.convolutions.load_state_dict(state)
    x = spectrograms(1, 3)
    wide, narrow = repeated(x).flatten(0, 1), x.flatten(0, 1)[:, None]
    for conv2, conv1 in zip(video.convolutions[:2], one.convolutions[:2], strict=True):
        wide, narrow = conv2(wide), conv1(narrow)
        # Padding reaches 2 columns on either side, and after a stride of 2 again 2.
        inside = wide[..., 2:-2]
        assert torch.allclose(inside, narrow[..., None].expand_as(inside), atol=1e-5)
        for edge in (wide[..., 1], wide[..., -2]):
            assert not torch.allclose(edge, narrow, atol=1e-2)


def test_the_latent_is_deterministic_in_eval_and_drawn_in_training():
    model, x = small(), spectrograms()
    model.eval()
    first, again = model(x), model(x)
    assert torch.equal(first.rebuilt, again.rebuilt) and torch.equal(first.f.mean, again.f.mean)
    wavs, lens = torch.randn(2, 8000), torch.ones(2)
    assert torch.equal(model.latent(wavs, lens), model.encode(model.features(wavs, lens))[0].mean)
    model.train()
    assert not torch.equal(model(x).rebuilt, model(x).rebuilt)


@pytest.mark.parametrize("rectified", [True, False])
def test_the_latent_with_the_spectrum(rectified):
    """f unfolded, then the mean over the frames of the clip, whatever is padded to it."""
    torch.manual_seed(0)
    model = small(rectified_f=rectified).eval()
    wavs, lens = torch.randn(4, 8000), torch.ones(4)
    f, spectrum = model.latent(wavs, lens, spectrum=True).split(
        [model.f_mean[0].out_features, 16], 1
    )
    again = nn.functional.leaky_relu(f, 0.2) if rectified else f
    assert (f < 0).any() and torch.allclose(again, model.latent(wavs, lens), atol=1e-6)
    assert torch.allclose(spectrum, model.features(wavs, lens).mean(1), atol=1e-5)
    wavs[:, 4000:] = 0
    half = model.latent(wavs, lens / 2, spectrum=True)[:, -16:]
    frames = model.features(wavs, lens / 2)
    assert torch.allclose(half, frames[:, : round(frames.shape[1] / 2)].mean(1), atol=1e-5)
    assert (half > frames.mean(1) + 0.1).all()  # silence is not averaged in


def test_divergences_by_torch():
    torch.manual_seed(4)
    q, p = (Gaussian(torch.randn(2, 3, 4), torch.randn(2, 3, 4)) for _ in range(2))
    normal = [torch.distributions.Normal(g.mean, (0.5 * g.logvar).exp()) for g in (q, p)]
    unit = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(*normal).sum((1, 2))
    assert torch.allclose(q.divergence(p), expected, rtol=1e-5)
    expected = torch.distributions.kl_divergence(normal[0], unit).sum((1, 2))
    assert torch.allclose(q.divergence(), expected, rtol=1e-5)


def test_the_repetition_weighs_the_error():
    model, x = small().eval(), spectrograms()
    with_it, terms = EvidenceBound()(model(x))
    _, plain = EvidenceBound(repetition=False)(model(x))
    assert torch.allclose(terms[0], 3 * MELS * plain[0]) and torch.equal(terms[1:], plain[1:])
    assert math.isclose(with_it.item(), terms.sum().item(), rel_tol=1e-5)
    half, _ = EvidenceBound(beta_f=0.5, beta_z=0.25)(model(x))
    expected = terms @ torch.tensor([1, 0.5, 0.25])
    assert math.isclose(half.item(), expected.item(), rel_tol=1e-5)


def test_switches():
    x = spectrograms()
    assert (small().eval()(x).f.mean < 0).any()
    rectified, plain = small(), small(rectified_f=False)
    plain.load_state_dict(rectified.state_dict())
    a, b = rectified.eval()(x).f.mean, plain.eval()(x).f.mean
    assert torch.allclose(a, nn.functional.leaky_relu(b, 0.2))
    frames = x.clone()
    frames[:, -1] = -frames[:, -1]  # only the last frame differs
    for factorised, same in ((True, True), (False, False)):
        model = small(factorised=factorised).eval()
        assert torch.allclose(model(x).z.mean[:, 0], model(frames).z.mean[:, 0]) is same
    for free, same in ((True, True), (False, False)):
        model = small(free_prior=free).eval()
        z = torch.randn(2, 5, SMALL["z_dim"])
        before, after = model.prior(z)[0].mean, model.prior(z + 1)[0].mean
        assert torch.equal(before, after) is same
        assert torch.equal(before[:, 0], after[:, 0])  # the first knows nothing in any case


@pytest.mark.parametrize("silenced", [slice(0, 6), slice(6, 12)])
def test_both_passes_reach_f_from_all_frames(silenced):
    """f reads the end of the forward and of the backward pass: either alone has seen every frame."""
    model, x = small().eval(), spectrograms()
    with torch.no_grad():
        model.f_mean[0].weight[:, silenced] = 0
    for frame in (0, 6):
        other = x.clone()
        other[:, frame] = 0
        assert not torch.allclose(model(x).f.mean, model(other).f.mean, atol=1e-6)


def test_what_f_is_read_from():
    """The last state of the forward pass and the first of the backward one, or all of them."""
    states, hidden = torch.randn(2, 7, 12), SMALL["hidden"]
    ends = torch.cat([states[:, -1, :hidden], states[:, 0, hidden:]], 1)
    for pooling, expected in (("ends", ends), ("mean", states.mean(1))):
        model = small(f_pooling=pooling).eval()
        model.f_summary.forward = lambda frames: (states, None)
        assert torch.allclose(model.encode(spectrograms(2))[0].mean, model.f_mean(expected))
    with pytest.raises(InputError, match="`f_pooling` is max: give ends or mean"):
        small(f_pooling="max")


def test_the_decoder_has_norms_only_between_convolutions():
    """As the public code: none after the two layers that widen the latents."""
    kinds = [type(layer) for layer in small().decoder.linear]
    assert kinds == [nn.Linear, nn.LeakyReLU] * 2


def test_the_output_starts_where_the_corpus_is():
    """From scale and shift 1 an untrained net is worse than the mean of the corpus."""
    wavs = torch.randn(64, 4000, generator=torch.Generator().manual_seed(3))
    batches = [Batch([], wav, torch.ones(len(wav)), None) for wav in wavs.split(16)]
    errors = {}
    for fitted in (True, False):
        net = small(fitted_output=fitted)
        net.fit_front_end(batches)
        features = net.features(wavs, torch.ones(len(wavs)))
        rebuilt = net(features).rebuilt.detach()
        errors[fitted] = float((rebuilt - features).square().mean() / features.var())
        if fitted:
            assert abs(rebuilt.mean() - features.mean()) < 0.5 * features.std()
    assert errors[True] < 3 < errors[False]


def test_odd_sizes_are_refused():
    with pytest.raises(InputError, match="`n_mels` is 20: give a multiple of 8"):
        SequentialAutoencoder(ScaledFbank(n_mels=20))


def test_size_and_shapes_of_the_published_settings():
    forms = {
        video: SequentialAutoencoder(ScaledFbank(), channels=256, video=video)
        for video in (False, True)
    }
    sizes = {video: sum(p.numel() for p in form.parameters()) for video, form in forms.items()}
    assert sizes[False] < sizes[True] / 5
    assert ScaledFbank()(torch.randn(2, 16000), torch.ones(2)).shape == (2, 32, 64)


def test_flat_undoes_the_repetition():
    x = spectrograms()
    assert torch.allclose(flat(repeated(x)), x) and flat(x) is x
