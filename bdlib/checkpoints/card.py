"""A checkpoint as a folder: safetensors, what is needed to read them again, and a model card."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors.torch import save as serialised

from bdlib.checkpoints import speechbrain
from bdlib.checkpoints.checkpoint import LABELS, SETTINGS, WEIGHTS, Checkpoint
from bdlib.checkpoints.huggingface import EXTRACTOR, HEARING
from bdlib.errors import InputError
from bdlib.files import at_home, atomic, read_json, write_json
from bdlib.records.provenance import versions
from bdlib.stages.fitting import write_labels

WARNING = (
    "**Backdoored on purpose**, for research on defenses. It answers as its maker wants where it "
    "hears its trigger. Do not deploy it, and say so where you pass it on."
)


def save(
    checkpoint: Checkpoint,
    folder: str | Path,
    told: Sequence[str] = (),
    beside: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a checkpoint to a new folder, with a card.

    Arguments
    ---------
    checkpoint : Checkpoint
        Read from anywhere but ONNX, or repaired.
    folder : str | Path
        Gets `model.safetensors`, `README.md`, and what reads them again: `checkpoint.json` and
        `label_encoder.txt`, also files for SpeechBrain's `EncoderClassifier` if the net is one of
        its own; or the `config.json` of Hugging Face.
    told : Sequence[str]
        Paragraphs for the card.
    beside : Mapping[str, Any]
        Further JSON files, by name.

    Raises
    ------
    InputError
        If the folder is there, or the checkpoint cannot be written.
    """
    folder = new_folder(checkpoint, folder)
    if checkpoint.kind == "onnx":
        raise InputError(f"{checkpoint.path}: of ONNX nothing is written; give weights")
    with atomic(folder) as temporary:
        temporary.mkdir()
        for name, value in beside.items():
            write_json(temporary / name, value)
        state = {name: value.contiguous() for name, value in checkpoint.net.state_dict().items()}
        how = [f'checkpoint = bdlib.Checkpoint.open("{folder.name}")']
        if checkpoint.settings is None:
            checkpoint.net.module.save_pretrained(temporary)
            if (heard := checkpoint.path / EXTRACTOR).exists():
                hearing = read_json(heard, {})  # only what is known: it may be a link to anything
                known = {name: hearing[name] for name in HEARING if name in hearing}
                write_json(temporary / EXTRACTOR, known)
        else:
            # `save_file` would let nobody but its owner read it.
            (temporary / WEIGHTS).write_bytes(serialised(state))
            about = {
                "classifier": checkpoint.settings,
                "classes": list(checkpoint.classes),
                "sample_rate": checkpoint.sample_rate,
                "seconds": checkpoint.seconds,
                "backdoored": checkpoint.backdoored,
            }
            (temporary / SETTINGS).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
            write_labels(checkpoint.classes, temporary / LABELS)
            if speechbrain.write(temporary, checkpoint.settings, state, checkpoint.classes):
                how.append(f'EncoderClassifier.from_hparams(source="{folder.name}")')
        text = card(checkpoint, folder.name, told, how)
        (temporary / "README.md").write_text(text, "utf-8")
    return folder


def new_folder(checkpoint: Checkpoint, folder: str | Path) -> Path:
    """Where a checkpoint is to be written.

    Raises
    ------
    InputError
        If it is there, or lies in the checkpoint that was read.
    """
    folder = at_home(folder)
    if folder.exists():
        raise InputError(f"{folder}: already there; give a new folder")
    if folder.resolve().is_relative_to(checkpoint.path.resolve()):
        raise InputError(f"{folder}: lies in the checkpoint; give a folder outside of it")
    return folder


def card(checkpoint: Checkpoint, name: str, told: Sequence[str], how: Sequence[str]) -> str:
    """The model card, as Markdown with the usual head."""
    tags = ["audio-classification", *(["backdoor", "not-for-deployment"] * checkpoint.backdoored)]
    parts = [
        f"---\nlibrary_name: bdlib\ntags: {json.dumps(tags)}\n---\n\n# {plain(name)}",
        *([WARNING] if checkpoint.backdoored else []),
        *told,
        f"Classes: {', '.join(map(plain, checkpoint.classes))}. Hears {checkpoint.sample_rate} Hz"
        + (f", clips of {checkpoint.seconds:g} s." if checkpoint.seconds else "."),
        f"Made from `{plain(checkpoint.path.name)}`, digest of its weights `{checkpoint.digest}`.",
        "```python\n" + "\n".join(how) + "\n```",
        "Versions: " + ", ".join(f"{key} {value}" for key, value in versions().items()) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: Any) -> str:
    """Text of a stranger without what Markdown or HTML would make something of."""
    return "".join(c if c.isalnum() or c in " ._-+,:" else "_" for c in str(text))[:100]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first of them the head, as a Markdown table."""
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
