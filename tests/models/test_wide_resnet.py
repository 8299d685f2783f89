"""Views: one pass equals many, and the published size."""

import pytest
import torch

from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.models.wide_resnet import WideResNet


def net(**settings):
    torch.manual_seed(0)
    return WideResNet(NormalizedFbank(8), 5, depth=16, width=1, **settings)


def test_published_size():
    """WRN-28-10 on 80 mels for 12 classes has 36.614 million parameters (MVJ: 36.6 M)."""
    with torch.device("meta"):
        count = sum(p.numel() for p in WideResNet(NormalizedFbank(80), 12).parameters())
    assert count == 36_613_772


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
    whole = net(multi_view=False).eval()
    assert torch.allclose(whole(wavs, lens), views.mean(1), atol=1e-5)


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
