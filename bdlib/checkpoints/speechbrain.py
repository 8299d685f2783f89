"""Folders of SpeechBrain's `EncoderClassifier`: read without running their yaml, and written.

The nets are SpeechBrain's x-vector, ECAPA-TDNN and speaker ResNet with the classifiers of its
VoxCeleb recipes. Sizes are those of the weights; what leaves no trace in them (dilations, strides,
mels of a ResNet) is taken from the yaml where it stands there as plain numbers, and is the default
of the class otherwise.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bdlib.audio import HIGHEST_RATE
from bdlib.checkpoints import weights
from bdlib.checkpoints.weights import REMEDY, State
from bdlib.errors import InputError
from bdlib.features import SpeakerFbank
from bdlib.files import check_regular
from bdlib.stages.document import TYPE
from bdlib.stages.fitting import write_labels
from bdlib.stages.vetting import LARGEST, tags

MOST_MELS = 1000
LOBES = "speechbrain.lobes.models."
NETS = {
    "Xvector.Xvector": ("tdnn_dilations", [1, 2, 3, 1, 1]),
    "ECAPA_TDNN.ECAPA_TDNN": ("dilations", [1, 2, 3, 4, 1]),
    "ResNet.ResNet": ("strides", [1, 2, 2, 2]),
}
"""By class, the argument that leaves no trace in the weights, and its default."""
FEATURES = {
    "std_norm": ("false", "features whose deviation stays (std_norm: False)"),
    "n_fft": ("400", "transforms of 400 samples"),
    "win_length": ("25", "windows of 25 ms"),
    "hop_length": ("10", "windows every 10 ms"),
    "f_min": ("0", "bands from 0 Hz"),
    "deltas": ("false", "features without deltas"),
    "context": ("false", "features without their neighbours"),
}
"""What a yaml may set otherwise, as text: how it is here, in words."""
WORDS = {"norm_type", "f_max", *FEATURES}  # values that are read as they are written
SCALE = 30.0  # of cosines; SpeechBrain keeps it in the loss, which such a folder lacks
HEADS = {
    "Xvector.Xvector": {
        "norm.norm": "hidden.1",
        "DNN.block_0.linear.w": "hidden.2",
        "DNN.block_0.norm.norm": "hidden.4",
        "out.w": "head",
    },
    "ECAPA_TDNN.ECAPA_TDNN": {"": "head"},
    "ResNet.ResNet": {"": "head"},
}
"""By class of the encoder, the modules of SpeechBrain's classifier and ours."""

HYPERPARAMS = """# For speechbrain.inference.classifiers.EncoderClassifier.from_hparams(source=THIS_FOLDER)
sample_rate: {rate}
n_mels: {mels}
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
    sample_rate: !ref <sample_rate>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:{net} {sizes}
classifier: !new:{head} {head_sizes}
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
"""


def is_folder(folder: Path) -> bool:
    """Whether it has what an `EncoderClassifier` is loaded from."""
    return (folder / "embedding_model.ckpt").exists() and (folder / "classifier.ckpt").exists()


def read(folder: Path) -> tuple[dict[str, Any], State, int]:
    """Settings of the net, as `architecture.build` takes them, its weights, and its sampling rate.

    Raises
    ------
    InputError
        If a file is missing or broken, the yaml calls something, or the net is another.
    """
    path = folder / "embedding_model.ckpt"
    encoder, head = weights.read(path), weights.read(folder / "classifier.ckpt")
    hints = _hints(folder / "hyperparams.yaml")
    try:
        net, sizes, mels = _sizes(encoder, hints)
        argument, default = NETS[net]
        sizes[argument] = hints.get(argument, default)
        width = int(encoder[_last(encoder, net)].shape[0])
    except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{path}: neither x-vector, ECAPA-TDNN nor ResNet of SpeechBrain ({error}); {REMEDY}"
        ) from error
    front_end = {TYPE: "!new:bdlib.features.SpeakerFbank", "n_mels": mels}
    front_end["sample_rate"] = hints.get("sample_rate", 16000)
    settings = {
        TYPE: f"!name:bdlib.models.speaker.{_classifier(net)}",
        "front_end": front_end,
        "encoder": {TYPE: f"!new:{LOBES}{net}", **sizes},
        "embedding_size": width,
    }
    if net != "Xvector.Xvector":
        settings["scale"] = SCALE
    fbank = SpeakerFbank(min(mels, MOST_MELS), min(front_end["sample_rate"], HIGHEST_RATE))
    state = {f"front_end.{name}": value for name, value in fbank.state_dict().items()}
    state |= {f"encoder.{name}": value for name, value in encoder.items()}
    for name, value in head.items():
        module, _, kind = name.rpartition(".")
        state[f"{HEADS[net].get(module, f'classifier.{module}')}.{kind}"] = value
    return settings, state, front_end["sample_rate"]


def _classifier(net: str) -> str:
    return "XVectorClassifier" if net == "Xvector.Xvector" else "CosineSpeakerClassifier"


def _last(encoder: State, net: str) -> str:
    """The weight whose rows are the embedding."""
    if net == "Xvector.Xvector":
        return max((n for n in encoder if n.endswith(".w.weight")), key=len)
    return "fc.conv.weight" if net == "ECAPA_TDNN.ECAPA_TDNN" else "fc_embed.weight"


def _sizes(encoder: State, hints: dict[str, Any]) -> tuple[str, dict[str, Any], int]:
    """Class of an encoder, its arguments, and the mels it hears, from the shapes of its weights."""
    shape = {name: list(value.shape) for name, value in encoder.items()}
    if "mfa.conv.conv.weight" in shape:
        blocks = len({name.split(".")[1] for name in shape if name.startswith("blocks.")})
        parts = [shape["blocks.0.conv.conv.weight"]]
        parts += [shape[f"blocks.{n}.tdnn1.conv.conv.weight"] for n in range(1, blocks)]
        res2 = [
            n for n in shape if re.fullmatch(r"blocks\.1\.res2net_block\..*\.conv\.conv\.weight", n)
        ]
        kernels = [parts[0][2]]
        kernels += [
            shape[f"blocks.{n}.res2net_block.blocks.0.conv.conv.weight"][2]
            for n in range(1, blocks)
        ]
        mfa, heard = shape["mfa.conv.conv.weight"], shape["asp.tdnn.conv.conv.weight"]
        return (
            "ECAPA_TDNN.ECAPA_TDNN",
            {
                "input_size": parts[0][1],
                "channels": [*(part[0] for part in parts), mfa[0]],
                "kernel_sizes": [*kernels, mfa[2]],
                "attention_channels": heard[0],
                "res2net_scale": len(res2) + 1,
                "se_channels": shape["blocks.1.se_block.conv1.conv.weight"][0],
                "global_context": heard[1] == 3 * mfa[0],
                "lin_neurons": shape["fc.conv.weight"][0],
            },
            parts[0][1],
        )
    if "fc_embed.weight" in shape:
        stages = [f"layer{n}" for n in range(1, 5)]
        channels = [shape[f"{stage}.0.conv1.weight"][0] for stage in stages]
        strides = hints.get("strides", NETS["ResNet.ResNet"][1])
        height = shape["norm_stats.weight"][0] // (2 * channels[-1])
        every = strides[0] * strides[1] * strides[2] * strides[3]
        mels = hints.get("n_mels", 80)
        mels = mels if -(-mels // every) == height else height * every
        sizes = {
            "input_size": mels,
            "channels": channels,
            "block_sizes": [len({n.split(".")[1] for n in shape if n.startswith(f"{s}.")}) for s in stages],
            "lin_neurons": shape["fc_embed.weight"][0],
        }  # fmt: skip
        return "ResNet.ResNet", sizes, mels
    layers = [shape[f"blocks.{3 * n}.conv.weight"] for n in range(len(shape)) if f"blocks.{3 * n}.conv.weight" in shape]  # fmt: skip
    sizes = {
        "in_channels": layers[0][1],
        "tdnn_blocks": len(layers),
        "tdnn_channels": [layer[0] for layer in layers],
        "tdnn_kernel_sizes": [layer[2] for layer in layers],
        "lin_neurons": shape[_last(encoder, "Xvector.Xvector")][0],
    }
    return "Xvector.Xvector", sizes, layers[0][1]


def _hints(path: Path) -> dict[str, Any]:
    """Plain numbers of a yaml by name; nothing in it is resolved, made or called.

    Raises
    ------
    InputError
        If it would call something when it is read, or asks for what is not read here.
    """
    check_regular(path)
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: more than {LARGEST} bytes of yaml; {REMEDY}")
        for number, tag, text in tags(path):  # which also tells what is too deep
            if "!apply" in f"{tag} {text}":
                raise InputError(f"{path}, line {number}: {tag[:80]} would be run; {REMEDY}")
        found: dict[str, Any] = {}
        _gather(YAML(typ="safe", pure=True).compose(path.read_text("utf-8")), found)
    except (OSError, YAMLError) as error:
        what = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({what}); {REMEDY}") from error
    if found.get("norm_type", "sentence") != "sentence":
        raise InputError(
            f"{path}: features normalised by {found['norm_type']!a}; only by sentence is read"
        )
    rate = found.get("sample_rate")
    most = str(rate // 2 if isinstance(rate, int) else 8000)
    ours = {**FEATURES, "f_max": (most, f"bands up to {most} Hz")}
    for name, (here, what) in ours.items():
        if (given := str(found.get(name, here)).lower().removesuffix(".0")) not in (here, "null"):
            raise InputError(f"{path}: {name} is {given!a}; only {what} are read")
    return found


def _gather(node: Node | None, found: dict[str, Any]) -> None:
    """Numbers of this node and those below it."""
    if isinstance(node, SequenceNode):
        for item in node.value:
            _gather(item, found)
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            name = str(key.value)
            if isinstance(value, SequenceNode) and all(_whole(item) for item in value.value):
                found.setdefault(name, [int(item.value) for item in value.value])
            elif _whole(value) or (name in WORDS and _plain(value)):
                found.setdefault(name, int(value.value) if _whole(value) else value.value)
            _gather(value, found)
        if str(node.tag).endswith(".InputNormalization"):
            found.setdefault("std_norm", "True")  # its default, which is not ours


def _plain(node: Node) -> bool:
    """Whether it is a value, and not a reference to one."""
    return isinstance(node, ScalarNode) and not str(node.tag).startswith("!")


def _whole(node: Node) -> bool:
    return isinstance(node, ScalarNode) and bool(re.fullmatch(r"\d{1,6}", node.value))


def write(folder: Path, settings: dict[str, Any], state: State, classes: Sequence[str]) -> bool:
    """Write what `EncoderClassifier.from_hparams` loads, if the net is one of SpeechBrain's.

    Arguments
    ---------
    folder : Path
        Gets `hyperparams.yaml`, `embedding_model.ckpt`, `classifier.ckpt`, `label_encoder.ckpt`.
    settings, state : dict[str, Any], State
        Of the net, under our names.
    classes : Sequence[str]
        In the order of its logits.

    Returns
    -------
    bool
        Whether it was written.
    """
    encoder = settings.get("encoder", {})
    net = str(encoder.get(TYPE, "")).removeprefix(f"!new:{LOBES}")
    front_end = settings.get("front_end", {})
    if net not in NETS or front_end.get(TYPE) != "!new:bdlib.features.SpeakerFbank":
        return False
    parts = {"embedding_model": {}, "classifier": {}}
    theirs = {ours: name for name, ours in HEADS[net].items()}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        if name.startswith("encoder."):
            parts["embedding_model"][name.removeprefix("encoder.")] = value
        elif module in theirs:
            parts["classifier"][f"{theirs[module]}.{kind}".lstrip(".")] = value
    for name, part in parts.items():
        torch.save(part, folder / f"{name}.ckpt")
    write_labels(classes, folder / "label_encoder.ckpt")
    width, count = settings["embedding_size"], len(classes)
    sizes = {name: value for name, value in encoder.items() if name != TYPE}
    head = {"input_size": width, "out_neurons": count}
    if net == "Xvector.Xvector":
        head = {"input_shape": [None, None, width], "lin_neurons": width, "out_neurons": count}
    rate, mels = front_end.get("sample_rate", 16000), front_end.get("n_mels", 80)
    text = HYPERPARAMS.format(
        rate=rate, mels=mels, net=f"{LOBES}{net}", sizes=json.dumps(sizes),
        head=f"{LOBES}{net.partition('.')[0]}.Classifier", head_sizes=json.dumps(head),
    )  # fmt: skip
    (folder / "hyperparams.yaml").write_text(text, "utf-8")
    return True
