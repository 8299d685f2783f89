"""Every classifier of the recipes: shapes, true logits, and what padding may not change."""

import re

import pytest
import torch
from speechbrain.nnet.CNN import Conv1d
from speechbrain.nnet.pooling import StatisticsPooling
from torch import nn

from bdlib.features import MagnitudeSpectrogram
from bdlib.files import COMMON
from bdlib.models import speaker
from bdlib.models.classifier import CosineHead
from bdlib.models.resnet50 import ResNet50Classifier
from bdlib.models.speaker import MaskedStatisticsPooling
from bdlib.models.wide_resnet import WideResNet
from bdlib.models.wrap import wrap
from bdlib.stages.document import Document

CLASSES = 5
RECIPES = COMMON.parent
HPARAMS = RECIPES / "SpeechCommands" / "hparams"  # has all models
# The semi-supervised recipes differ in the loss of their training alone.
MODELS = sorted(path.stem for path in HPARAMS.glob("*.yaml") if "semisup" not in path.stem)
WIDE = {
    "base_wrn",
    "base_views_wrn",
    "mvd",
    "mvj",
    "jem",
}  # 36.6 million parameters; built, but not run
SPEAKER = ("xvector_small", "ecapa_small", "resnet_small", "xvector", "ecapa", "resnet")
COSINE = ("ecapa_small", "resnet_small", "ecapa", "resnet")


def build(name):
    torch.manual_seed(0)
    return Document(HPARAMS / f"{name}.yaml").build()["model"]


def classifier(name):
    return build(name)["classifier"](n_classes=CLASSES).eval()


def clips(count, samples=16000):
    return torch.randn(count, samples, generator=torch.Generator().manual_seed(1)) / 10


def test_recipes_have_the_models_tested_here():
    assert {*WIDE, *SPEAKER, "keyword_resnet", "resnet50", "mvj_small"} <= set(MODELS)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in WIDE])
def test_built_from_the_recipe(name):
    built = build(name)
    model, wavs, lens = built["classifier"](n_classes=CLASSES).eval(), clips(3), torch.ones(3)
    with torch.no_grad():
        features = model.features(wavs, lens)
        embeddings, logits = model.embed(features, lens), model(wavs, lens)
    assert features.shape[::2] == (3, model.front_end.size)
    assert embeddings.dim() == 2 and len(embeddings) == 3
    assert logits.shape == (3, CLASSES) and logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    if not isinstance(model, WideResNet):  # which joins views by logsumexp
        assert torch.allclose(model.classify(embeddings), logits, atol=1e-4)
    # Log-probabilities would all have logsumexp 0, and softmax outputs sum 1.
    heights = logits.logsumexp(1)
    assert heights.abs().min() > 0.01 and heights.std() > 1e-5
    assert 0 < built["schedule"](0.001)(3, 10) <= 0.001


@pytest.mark.parametrize("name", MODELS)
def test_heads_compute_in_float32_under_autocast(name):
    """A head alone: all else stays without memory."""
    with torch.device("meta"):
        model = build(name)["classifier"](n_classes=CLASSES)
    head = model.head.to_empty(device="cpu")
    nn.init.normal_(head.weight)
    getattr(head, "bias", torch.empty(0)).data.zero_()
    embeddings = torch.randn(64, head.weight.shape[1]).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.classify(embeddings)
    assert torch.equal(logits, head(embeddings.float()))
    assert not torch.equal(logits, logits.bfloat16().float())


def test_a_head_within_a_module_computes_in_float32_under_autocast():
    module = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 3), nn.Flatten())
    net, wavs, lens = wrap(module, "cab"), torch.randn(64, 16), torch.ones(64)
    with torch.autocast("cpu", torch.bfloat16):
        logits, embeddings = net(wavs, lens), net.embed(wavs[:, :, None], lens)
        assert torch.equal(logits, net.classify(embeddings))
    assert embeddings.dtype == torch.bfloat16 and not module[1]._forward_hooks
    assert torch.equal(logits, module[1](embeddings.float())[:, [1, 2, 0]])


@pytest.mark.parametrize("name", [name for name in MODELS if name not in WIDE])
def test_loss_reaches_every_parameter(name):
    built = build(name)
    model = built["classifier"](n_classes=CLASSES).train()
    wavs, labels = clips(4, 12000 if name in SPEAKER else 16000), torch.arange(4)
    loss = built["loss"](model(wavs, torch.ones(4)), labels)
    loss.backward()
    assert torch.isfinite(loss) and loss.dim() == 0
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", sorted(WIDE))
def test_wide_nets_of_the_recipes(name):
    with torch.device("meta"):
        model = build(name)["classifier"](n_classes=12)
    whole = name == "base_wrn"  # the clip in one view, with a pooling as long as it
    count = sum(p.numel() for p in model.parameters())
    assert count == 36_613_772 + (640 * 39 * 20 if whole else 0)
    assert model.view_frames == (100 if whole else 61)
    assert model.multi_view == (not name.startswith("base"))


def test_resnet50_has_23_5_million_parameters():
    """For 12 classes and one input channel (MVJ, VAE-PLS: 23.5 M)."""
    with torch.device("meta"):
        model = ResNet50Classifier(MagnitudeSpectrogram(), 12)
    count = sum(p.numel() for p in model.parameters())
    assert count == 25_557_032 - (1000 - 12) * 2049 - 2 * 64 * 49 and round(count / 1e6, 1) == 23.5


def test_resnet50_weights_are_xavier_uniform():
    model = classifier("resnet50")
    for parameter in model.parameters():
        if parameter.dim() < 2:
            continue
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(parameter)
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.95 * bound < parameter.abs().max() <= bound


@pytest.mark.parametrize("name", COSINE)
def test_cosine_heads_stay_within_their_scale(name):
    settings = Document(HPARAMS / f"{name}.yaml").plain()["model"]
    head = classifier(name).head
    scaled = head(1000 * torch.randn(200, head.weight.shape[1]))
    assert scaled.abs().max() <= settings["logit_scale"] * (1 + 1e-6)
    assert torch.allclose(head(head.weight).diagonal(), torch.tensor(settings["logit_scale"]))
    assert settings["logit_scale"] == head.scale


def test_cosine_head_ignores_lengths():
    torch.manual_seed(0)
    head, x = CosineHead(8, 3, 10.0), torch.randn(4, 8)
    assert torch.allclose(head(x), head(7 * x), atol=1e-5)
    expected = 10 * nn.functional.cosine_similarity(x[:, None], head.weight[None], dim=2)
    assert torch.allclose(head(x), expected, atol=1e-5)


def trained(name):
    """The weights after three steps on six clips, and how many convolutions copy what goes in."""
    model = build(name)
    net = model["classifier"](n_classes=CLASSES)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        logits = net(clips(6, 4000), torch.ones(6))
        model["loss"](logits, torch.tensor([0, 1, 2, 3, 4, 0])).backward()
        optimizer.step()
    short = [x for x in net.modules() if isinstance(x, Conv1d) and x.kernel_size == 1]
    return net.state_dict(), sum(layer.padding == "same" for layer in short)


@pytest.mark.parametrize("name", ["xvector_small", "ecapa_small"])
def test_padding_by_nothing_is_left_out_and_changes_no_bit(name, monkeypatch):
    weights, copying = trained(name)
    monkeypatch.setattr(speaker, "unpadded", lambda encoder: encoder)
    before, copied = trained(name)
    assert copying == 0 < copied
    assert all(torch.equal(before[key], weights[key]) for key in before)


def test_statistics_over_a_batch_are_those_of_speechbrain():
    x = torch.randn(4, 50, 3, dtype=torch.double, requires_grad=True)
    lens = torch.tensor([1.0, 0.5, 0.31, 0.04])
    ours, theirs = MaskedStatisticsPooling()(x, lens), StatisticsPooling()(x, lens)
    assert ours.shape == (4, 1, 6) and torch.allclose(ours, theirs, atol=2e-4)  # both add noise
    weights = torch.randn(4, 1, 6, dtype=torch.double)
    slopes = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (ours, theirs)]
    assert torch.allclose(*slopes, atol=1e-7) and not slopes[0][1, 25:].any()


@pytest.mark.parametrize("name", ["xvector_small", "ecapa_small"])
def test_padding_stays_out_of_the_pooling(name):
    """Frames far from the end of the clip decide alone; zeros behind it must not dilute them."""
    model, features = classifier(name), torch.randn(2, 200, 80)
    with torch.no_grad():
        model.train()  # statistics of batch norm that are not those of the start
        model.embed(features, torch.ones(2))
        model.eval()
        plain = model.embed(features, torch.ones(2))
        for longer in (100, 400):
            padded = nn.functional.pad(features, (0, 0, 0, longer))
            lens = torch.full((2,), 200 / (200 + longer))
            kept = model.embed(padded, lens)
            diluted = model.embed(padded, torch.ones(2))
            distance = (kept - plain).norm() / plain.norm()
            assert distance < 0.25 and distance < 0.5 * (diluted - plain).norm() / plain.norm()


@pytest.mark.parametrize("name", ["xvector_small", "ecapa_small", "keyword_resnet"])
def test_clips_of_a_batch_do_not_mix(name):
    model, wavs = classifier(name), clips(3)
    lens = torch.tensor([1.0, 0.7, 1.0])
    wavs[1, 11200:] = 0
    with torch.no_grad():
        together = model(wavs, lens)
        alone = torch.cat([model(wavs[i : i + 1], lens[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-3)


def test_every_file_of_models_is_included_by_a_recipe():
    included = {
        (recipe.parent / name).resolve()
        for recipe in RECIPES.glob("*/hparams/*.yaml")
        for name in re.findall(r"^model: !include:(\S+)", recipe.read_text(), flags=re.MULTILINE)
    }
    assert included == {*RECIPES.glob("*/models/*.yaml"), *RECIPES.glob("*/hparams/models/*.yaml")}


def test_models_of_common_are_those_of_several_data_sets():
    """A model of one data set stands in its recipe."""
    for path in (COMMON / "models").glob("*.yaml"):
        include = f"!include:../../common/models/{path.name}"
        users = [p for p in RECIPES.glob("*/hparams/*.yaml") if include in p.read_text()]
        assert len({user.parts[-3] for user in users}) > 1, path.name
