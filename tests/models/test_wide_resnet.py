"""Views: one pass equals many, and the published size."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.models.wide_resnet import ViewBlock, WideResNet


def net(**settings):
    torch.manual_seed(0)
    return WideResNet(NormalizedFbank(8), 5, depth=16, width=1, **settings)


def test_published_size():
    """WRN-28-10 on 80 mels for 12 classes has 36.614 million parameters (MVJ: 36.6 M).

    The pooling of one view of 100 frames has 39 x 20 more weights in each of its 640 channels.
    """
    with torch.device("meta"):
        views, whole = (
            sum(p.numel() for p in WideResNet(NormalizedFbank(80), 12, view_frames=f).parameters())
            for f in (61, 100)
        )
    assert views == 36_613_772 and whole == views + 640 * 39 * 20


@pytest.mark.parametrize(("frames", "billions"), [(61, 27.26), (100, 67.12)])
def test_multiply_adds_of_a_view_and_of_forty(frames, billions):
    """Counted on the graph; a stride in the first convolutions would make 25.58 and 63.29."""
    with torch.device("meta"):
        model, clip = WideResNet(NormalizedFbank(80), 12), torch.empty(1, frames, 80)
    with FlopCounterMode(display=False) as counter:
        model.view_logits(clip)
    assert round(counter.get_total_flops() / 2e9, 2) == billions


def convolved(x, layer):
    """A convolution of (C, T, F) in plain loops."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    (_, stride), (_, pad) = layer.stride, layer.padding
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad)))
    out_channels, _, high, wide = weight.shape
    frames, mels = x.shape[1] - high + 1, (x.shape[2] - wide) // stride + 1
    out = np.empty((out_channels, frames, mels))
    for d in range(out_channels):
        for t in range(frames):
            for f in range(mels):
                seen = x[:, t : t + high, f * stride : f * stride + wide]
                out[d, t, f] = (weight[d] * seen).sum() + bias[d]
    return out


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


@pytest.mark.parametrize(("channels", "stride"), [((2, 2), 1), ((2, 3), 1), ((2, 3), 2)])
def test_block_by_hand(channels, stride):
    """Activation, convolution, activation, strided convolution, and the cropped shortcut."""
    torch.manual_seed(0)
    block, x = ViewBlock(*channels, stride).double(), torch.randn(2, 7, 8, dtype=torch.float64)
    image = x.numpy()
    inner = convolved(leaky(image), block.conv1)
    assert inner.shape == (channels[1], 5, 8)  # the first convolution has no stride
    skipped = image[:, 2:-2]
    if channels[0] != channels[1]:
        skipped = convolved(skipped, block.shortcut)
    expected = convolved(leaky(inner), block.conv2) + skipped
    assert expected.shape == (channels[1], 3, 8 // stride)
    assert np.allclose(block(x[None])[0].detach().numpy(), expected)


def test_views_of_the_published_net():
    """61 frames are one view, 100 frames are 40."""
    wide = WideResNet(NormalizedFbank(80), 12, width=1).eval()
    assert wide.view_logits(torch.randn(1, 61, 80)).shape == (1, 1, 12)
    assert wide.view_logits(torch.randn(1, 100, 80)).shape == (1, 40, 12)


def test_one_pass_equals_separate_passes():
    model, clips = net().eval(), torch.randn(3, 100, 8)
    together = model.view_logits(clips)
    apart = torch.cat([model.view_logits(clips[:, i : i + 61]) for i in range(40)], 1)
    assert (together - apart).abs().max() < 1e-4
    assert together.std(1).min() > 1e-4  # views differ, so the comparison means something


def test_evaluation_joins_by_logsumexp():
    model, wavs, lens = net().eval(), torch.randn(2, 16000) / 10, torch.ones(2)
    views = model.view_logits(model.features(wavs, lens))
    assert torch.allclose(model(wavs, lens), views.exp().sum(1).log(), atol=1e-5)
    mean = net(multi_view=False).eval()
    assert torch.allclose(mean(wavs, lens), views.mean(1), atol=1e-5)


def test_undefended_net_hears_the_whole_clip_in_one_view():
    """In training, too; and the first frame counts with the last."""
    model, wavs = net(multi_view=False, view_frames=100).train(), torch.randn(2, 16000) / 10
    features = model.features(wavs, torch.ones(2)).requires_grad_(True)
    views = model.view_logits(features)
    assert views.shape == (2, 1, 5)
    assert torch.equal(model.logits(features, torch.ones(2)), views[:, 0])
    (slope,) = torch.autograd.grad(views.sum(), features)
    assert slope.abs().amax(2).min() > 0


def test_logits_are_float32_under_autocast():
    """In bf16 much of the difference between views would be rounded away."""
    model, clips = net().eval(), torch.randn(2, 70, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings, views = model.view_embeddings(clips), model.view_logits(clips)
        joined, embedded = model.logits(clips, torch.ones(2)), model.classify(embeddings)
    assert embeddings.dtype == torch.bfloat16  # autocast did something
    expected = model.head(embeddings.float())
    assert views.dtype == joined.dtype == torch.float32
    assert torch.equal(views, expected) and torch.equal(embedded, expected)
    assert torch.equal(joined, expected.logsumexp(1))
    assert not torch.equal(views, views.bfloat16().float())


def test_training_sees_one_random_view():
    model, wavs, lens = net().train(), torch.randn(2, 16000) / 10, torch.ones(2)
    every = model.view_logits(model.features(wavs, lens))
    seen = set()
    for _ in range(60):
        out = model(wavs, lens)
        distance = (every - out[:, None]).abs().amax(2)
        assert distance.min(1).values.max() < 1e-4
        seen |= set(distance.argmin(1).tolist())
    assert len(seen) > 20 and max(seen) > 30 and min(seen) < 10


def test_random_views_reach_both_ends():
    frames = torch.arange(100.0)[None, :, None].expand(2000, -1, 1)
    views = net().random_views(frames)[:, :, 0]
    assert torch.equal(views - views[:, :1], torch.arange(61.0).expand(2000, -1))
    assert set(views[:, 0].int().tolist()) == set(range(40))


@pytest.mark.parametrize("settings", [{"depth": 17}, {"depth": 28, "view_frames": 49}])
def test_impossible_shapes_are_refused(settings):
    with pytest.raises(InputError, match="6n \\+ 4"):
        WideResNet(NormalizedFbank(8), 5, **settings)
