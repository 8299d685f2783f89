"""Audio classifiers of Hugging Face, from a folder: AST and wav2vec2, of safetensors alone.

Code that comes with a checkpoint is not run (no ``trust_remote_code``), and nothing is fetched.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks

from bdlib.checkpoints import weights
from bdlib.checkpoints.architecture import DEEPEST
from bdlib.checkpoints.weights import REMEDY
from bdlib.errors import InputError, fits
from bdlib.features import FrontEnd, KaldiFbank, Waveform
from bdlib.files import read_json
from bdlib.models.classifier import SpeechClassifier
from bdlib.models.wrap import wrap

BY_US = "quantization_config", "dtype", "torch_dtype", "return_dict"
"""Keys of a config that are not taken, as are all that its class does not have: of others, kernels would be
fetched and run, and weights read from elsewhere."""
NETS = {
    "audio-spectrogram-transformer": "ASTForAudioClassification",
    "wav2vec2": "Wav2Vec2ForSequenceClassification",
}
"""By `model_type`, the class."""
EXTRACTOR = "preprocessor_config.json"
HEARING = (
    *("do_normalize", "feature_extractor_type", "feature_size", "max_length", "mean"),
    *("num_mel_bins", "padding_side", "padding_value", "return_attention_mask"),
    *("sampling_rate", "std"),
)
"""Keys of `EXTRACTOR`."""
MOST = 20_000  # of any whole number in a config
SHORTEST_STRIDE = 64  # samples between frames of wav2vec2, whose models have 320
FIRST_STRIDE = 4  # of its first layer, which has 5 there
MOST_PATCHES = 2048  # of AST, whose largest models have 1,212


class AstFbank(KaldiFbank):
    """The features of `ASTFeatureExtractor`: Kaldi's log mels, cut or padded, then scaled.

    Arguments
    ---------
    n_mels, frames : int
        F and T.
    mean, deviation : float
        Of the data set it was trained on; features end at twice the deviation.
    """

    def __init__(self, n_mels: int, frames: int, mean: float, deviation: float) -> None:
        super().__init__(n_mels)
        self.frames, self.mean, self.deviation = frames, mean, deviation
        banks, _ = get_mel_banks(n_mels, self.fft_size, 16000, 20.0, 0.0, 100.0, -500.0, 1.0)
        self.banks = nn.functional.pad(banks, (0, 1)).T
        self.window = torch.hann_window(self.window_size, periodic=False)

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`; whole frames alone, as Kaldi counts them with `snip_edges`."""
        frames = wavs.unfold(1, self.window_size, self.hop)
        frames = frames - frames.mean(dim=2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        power = torch.fft.rfft((frames - 0.97 * before) * self.window, self.fft_size).abs() ** 2
        mels = (power @ self.banks).clamp_min(torch.finfo(torch.float32).eps).log()
        samples = (lens * wavs.shape[1]).round().long()
        whole = 1 + (samples - self.window_size).div(self.hop, rounding_mode="floor")
        padding = torch.arange(mels.shape[1], device=mels.device) >= whole[:, None].to(mels.device)
        mels = mels.masked_fill(padding[..., None], 0.0)  # as the frames that a short clip lacks
        mels = nn.functional.pad(mels, (0, 0, 0, max(0, self.frames - mels.shape[1])))
        return (mels[:, : self.frames] - self.mean) / (2 * self.deviation)


class ScaledWaveform(Waveform):
    """The waveform with mean 0 and deviation 1, as `Wav2Vec2FeatureExtractor` scales it."""

    def compute(self, wavs: Tensor, lens: Tensor) -> Tensor:
        """See `FrontEnd`."""
        deviation, mean = torch.var_mean(wavs, dim=1, correction=0, keepdim=True)
        return super().compute((wavs - mean) / (deviation + 1e-7).sqrt(), lens)


class Answering(nn.Module):
    """A classifier of transformers as a module that gives logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, heard: Tensor) -> Tensor:
        """Features (B, T, F) or waveforms (B, T) to logits (B, C)."""
        return self.net(heard).logits

    def save_pretrained(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        self.net.save_pretrained(folder)


def read(folder: Path) -> tuple[SpeechClassifier, tuple[str, ...], int]:
    """A classifier, the names of its classes in the order of its logits, and its sampling rate.

    Raises
    ------
    InputError
        If it is another net, brings code, or a file is missing or broken.
    """
    path = folder / "config.json"
    config = read_json(path, {"model_type": str})
    if "auto_map" in config:
        raise InputError(f"{path}: auto_map names code of its own, which is not run; {REMEDY}")
    if config["model_type"] not in NETS:
        what = config["model_type"][:50]
        raise InputError(f"{path}: model_type {what!a}; read are: {' '.join(NETS)}")
    if not (folder / "model.safetensors").exists():
        raise InputError(f"{folder}: no model.safetensors; only such weights are read")
    state = weights.read(folder / "model.safetensors")
    net, labels = _built(config, state, path)
    net = wrap(Answering(net.eval()), labels, _front_end(folder, config))
    return net.eval(), tuple(sorted(labels)), 16000


def _check_numbers(config: dict[str, Any], path: Path) -> None:
    """Refuse a net that is too large or too deep to be one, before it is built."""
    for name, value in config.items():
        if isinstance(value, bool):
            continue
        most = DEEPEST if name == "num_hidden_layers" else MOST
        several = isinstance(value, list)
        whole = [number for number in (value if several else [value]) if isinstance(number, int)]
        if len(whole) > DEEPEST or not all(several <= number <= most for number in whole):
            raise InputError(f"{path}: {name[:50]!a} is {str(value)[:50]}; {REMEDY}")


def _check_strides(made: Any, path: Path) -> None:
    """Refuse a net of so many frames that its attention needs more memory than there is.

    Strides are not in the weights, so a few numbers could ask for any amount.
    """
    if made.model_type == "wav2vec2":
        first, *_ = made.conv_stride
        many = math.prod(made.conv_stride) < SHORTEST_STRIDE or first < FIRST_STRIDE
    else:
        sides = (
            (made.max_length, made.time_stride),
            (made.num_mel_bins, made.frequency_stride),
        )
        many = math.prod((n - made.patch_size) // stride + 1 for n, stride in sides) > MOST_PATCHES
    if many:
        raise InputError(f"{path}: strides so short that it hears too many frames; {REMEDY}")


def _built(config: dict[str, Any], state: weights.State, path: Path) -> tuple[nn.Module, list[str]]:
    """The net with these weights, and its labels by number."""
    try:
        import transformers
    except ImportError as error:
        raise InputError(f"{path}: needs transformers; `pip install transformers`") from error
    try:
        own = transformers.AutoConfig.for_model(config["model_type"]).to_dict()
        count = "id2label" if "id2label" in config else "num_labels"
        taken = (own.keys() | {"model_type", count}) & config.keys() - set(BY_US)
        plain = {name: config[name] for name in taken if not name.startswith("_")}
        _check_numbers(plain, path)
        made = transformers.AutoConfig.for_model(**plain)
        _check_strides(made, path)
        made.apply_spec_augment = False  # of wav2vec2: masks that no seed of ours draws
        named = dict(made.id2label)
        if not fits(list(named.values()), list[str | int]):
            raise ValueError("id2label is no text")
        labels = [str(named[number]) for number in range(len(named))]
        kind = getattr(transformers, NETS[config["model_type"]])
        with torch.device("meta"):  # costs no memory, and names may differ from those of the file
            wanted = sum(value.numel() for value in kind(made).state_dict().values())
        if wanted != (numbers := sum(value.numel() for value in state.values())):
            raise ValueError(f"model.safetensors has {numbers} numbers, its net {wanted}")
        options = {"attn_implementation": "eager", "dtype": torch.float32}
        # Of no folder: what was read and looked at is all that is loaded.
        net, told = kind.from_pretrained(
            None, config=made, state_dict=state, output_loading_info=True, **options
        )
        if different := [name for names in told.values() for name in names]:
            raise ValueError(f"{str(different[0])[:80]} is not as its net has it")
        return net, labels
    except InputError:
        raise
    except Exception as error:  # transformers validates with errors of its own
        raise weights.unusable(path, error) from error


def _front_end(folder: Path, config: dict[str, Any]) -> FrontEnd:
    """What its feature extractor does, from `EXTRACTOR` or by default."""
    path = folder / EXTRACTOR
    told = read_json(path, {}) if path.exists() else {}
    if not isinstance(told, dict) or told.get("sampling_rate", 16000) != 16000:
        raise InputError(f"{path}: only waveforms of 16000 Hz are heard; {REMEDY}")
    if config["model_type"] == "wav2vec2":
        return ScaledWaveform() if told.get("do_normalize", True) else Waveform()
    mean, deviation = told.get("mean", -4.2677393), told.get("std", 4.5689974)
    if not fits([mean, deviation], list[float]) or not deviation > 0:
        raise InputError(f"{path}: mean and std are no numbers; {REMEDY}")
    return AstFbank(
        config.get("num_mel_bins", 128), config.get("max_length", 1024), mean, deviation
    )
