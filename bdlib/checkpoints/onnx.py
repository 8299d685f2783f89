"""Classifiers of ONNX: waveforms (B, T) to logits (B, C), for answers alone.

`onnxruntime` computes it; operators of a file's own are not loaded, nor weights in other files.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bdlib.checkpoints.architecture import MOST
from bdlib.checkpoints.weights import LARGEST, REMEDY, unusable
from bdlib.errors import InputError
from bdlib.files import check_regular
from bdlib.models.classifier import SpeechClassifier
from bdlib.models.wrap import wrap

ELSEWHERE = "session.model_external_initializers_file_folder_path"
"""The runtime's option for the folder of weights in other files: by default where the command runs."""


class Session(nn.Module):
    """A file of ONNX as a module without parameters.

    Arguments
    ---------
    data : bytes
        Of the file.

    Raises
    ------
    Exception
        Of the runtime's own kinds, if it is none.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        with tempfile.TemporaryDirectory() as nowhere:  # weights elsewhere are looked for in it
            options.add_session_config_entry(ELSEWHERE, nowhere)
            self.session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
        (self.heard,) = self.session.get_inputs()
        self.width = self.session.get_outputs()[0].shape[-1]

    def __deepcopy__(self, memo: dict) -> "Session":
        return self  # it has no state

    def forward(self, wavs: Tensor) -> Tensor:
        """(B, T) to (B, C), clip by clip where the file has one clip a batch."""
        parts = wavs.split(1) if self.heard.shape[0] == 1 else [wavs]
        told = [self.session.run(None, {self.heard.name: part.numpy()})[0] for part in parts]
        return torch.cat([torch.from_numpy(part).flatten(1) for part in told])


def read(
    path: Path, classes: Sequence[str] | None
) -> tuple[SpeechClassifier, tuple[str, ...], int | None]:
    """A file of ONNX, the names of its outputs in the order of the classifier's, and the samples of a clip.

    These are None where it hears clips of any length.

    Raises
    ------
    InputError
        If it is none, hears anything but waveforms, or the classes are not as many as its outputs.
    """
    check_regular(path)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        module = Session(path.read_bytes())
        if len(module.heard.shape) != 2 or module.heard.type != "tensor(float)":
            raise ValueError(
                f"hears {module.heard.type} {module.heard.shape}, not waveforms (B, T)"
            )
        if not isinstance(module.width, int):
            raise ValueError("does not say how many classes it has")
        if module.width > MOST:
            raise ValueError(f"{module.width} classes")
    except ImportError as error:
        raise InputError(f"{path}: needs onnxruntime; `pip install onnxruntime`") from error
    except Exception as error:  # the runtime's errors have no base of their own
        raise unusable(path, error) from error
    names = tuple(classes) if classes is not None else tuple(str(n) for n in range(module.width))
    if len(names) != module.width:
        raise InputError(f"{path}: {len(names)} classes of a net of {module.width}; {REMEDY}")
    heard = module.heard.shape[1]
    samples = heard if isinstance(heard, int) else None
    return wrap(module, names).eval(), tuple(sorted(names)), samples
