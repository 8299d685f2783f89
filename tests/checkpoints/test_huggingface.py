"""AST and wav2vec2 as transformers saves them, with the features of their extractors."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bdlib.checkpoints import card
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.defenses.repair.layers import conv_layers
from bdlib.errors import InputError

transformers = pytest.importorskip("transformers")
LABELS = {0: "yes", 1: "no", 2: "left"}


def ast():
    config = transformers.ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_mel_bins=32, max_length=64, patch_size=16, id2label=LABELS,
    )  # fmt: skip
    extractor = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-4.0, std=3.0)
    return transformers.ASTForAudioClassification(config), extractor, "input_values"


def wav2vec2():
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(20, 8), conv_kernel=(20, 8), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8,
        mask_time_prob=0.3, id2label=LABELS,
    )  # fmt: skip
    net = transformers.Wav2Vec2ForSequenceClassification(config)
    return net, transformers.Wav2Vec2FeatureExtractor(), "input_values"


@pytest.mark.parametrize("made", [ast, wav2vec2], ids=["ast", "wav2vec2"])
def test_it_says_what_it_says_in_transformers(made, tmp_path):
    torch.manual_seed(0)
    net, extractor, key = made()
    net.eval().save_pretrained(tmp_path / "theirs")
    extractor.save_pretrained(tmp_path / "theirs")
    wavs = np.random.Generator(np.random.PCG64(0)).uniform(-0.2, 0.2, (3, 8000)).astype("float32")
    heard = extractor(list(wavs), sampling_rate=16000, return_tensors="pt")[key]
    with torch.no_grad():
        expected = net(heard).logits
    read = Checkpoint.open(tmp_path / "theirs")
    assert read.classes == ("left", "no", "yes") and read.kind == "huggingface"
    written = Checkpoint.open(card.save(read, tmp_path / "ours"))
    assert written.classes == read.classes and (tmp_path / "ours" / "README.md").exists()
    for checkpoint in (read, written):
        logits = checkpoint.net(torch.from_numpy(wavs), torch.ones(3))
        torch.testing.assert_close(logits, expected[:, [2, 1, 0]], atol=1e-4, rtol=1e-4)
        checkpoint.net.train()  # what it draws in a repair, torch's seed decides
        drawn = []
        for seed in (0, 1):
            np.random.seed(seed)
            torch.manual_seed(0)
            drawn.append(checkpoint.net(torch.from_numpy(wavs), torch.ones(3)))
        assert torch.equal(*drawn)


def test_only_safetensors_of_these_nets(tmp_path):
    net, _, _ = ast()
    net.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(told | {"hidden_size": 32}))
    with pytest.raises(InputError, match="numbers, its net"):
        Checkpoint.open(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["classifier.dense.weights"] = state.pop("classifier.dense.weight")
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"classifier\.dense\.weight"):
        Checkpoint.open(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        Checkpoint.open(tmp_path)


def test_what_was_looked_at_is_what_is_loaded(tmp_path):
    """A config may name other weights, a kernel to fetch, or a net that is too deep to be one."""
    net, extractor, _ = ast()
    net.save_pretrained(tmp_path / "k")
    extractor.save_pretrained(tmp_path / "k")
    state = load_file(tmp_path / "k" / "model.safetensors")
    nan = {name: torch.full_like(value, float("nan")) for name, value in state.items()}
    save_file(nan, tmp_path / "outside.safetensors", {"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(state, "../outside.safetensors")}
    (tmp_path / "k" / "i.safetensors.index.json").write_text(json.dumps(index))
    path = tmp_path / "k" / "config.json"
    told = json.loads(path.read_text())
    traps = {
        "transformers_weights": "i.safetensors.index.json",
        "_attn_implementation": "kernels-community/anything",
        "return_dict": False,
    }
    path.write_text(json.dumps(told | traps))
    read = Checkpoint.open(tmp_path / "k")
    assert read.net.module.net.config._attn_implementation == "eager"
    assert read.net(torch.zeros(1, 8000), torch.ones(1)).isfinite().all()
    (tmp_path / "k" / "preprocessor_config.json").write_text('{"mean": -4.0, "token": "secret"}')
    card.save(Checkpoint.open(tmp_path / "k"), tmp_path / "out", ["It was repaired."])
    written = (tmp_path / "out" / "README.md").read_text()
    assert "It was repaired." in written and "token" not in written
    assert "secret" not in (tmp_path / "out" / "preprocessor_config.json").read_text()
    for wrong in ({"num_hidden_layers": 501}, {"patch_size": [0, 1]}, {"id2label": 20_001}):
        path.write_text(json.dumps(told | wrong))
        with pytest.raises(InputError, match=next(iter(wrong))):
            Checkpoint.open(tmp_path / "k")


def test_a_short_clip_in_a_batch_is_heard_as_by_the_extractor(tmp_path):
    torch.manual_seed(0)
    net, extractor, key = ast()
    net.eval().save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    wav = np.random.Generator(np.random.PCG64(0)).uniform(-0.2, 0.2, 6000).astype("float32")
    with torch.no_grad():
        expected = net(extractor(wav, sampling_rate=16000, return_tensors="pt")[key]).logits
    batch = torch.zeros(1, 8000)
    batch[0, :6000] = torch.from_numpy(wav)
    logits = Checkpoint.open(tmp_path).net(batch, torch.tensor([0.75]))
    torch.testing.assert_close(logits, expected[:, [2, 1, 0]], atol=1e-4, rtol=1e-4)


def test_convolutions_whose_weights_are_made_are_left_alone(tmp_path):
    """Those of wav2vec2's positions: what is written into them is lost."""
    net, extractor, _ = wav2vec2()
    net.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    layers = conv_layers(Checkpoint.open(tmp_path).net)
    assert layers and not [layer.name for layer in layers if "pos_conv" in layer.name]
