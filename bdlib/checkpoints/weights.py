"""Weights by name, from files of strangers: tensors and nothing else, finite, in bounded memory."""

import io
import json
import pickletools
import re
import struct
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bdlib.errors import InputError, fits
from bdlib.files import check_regular
from bdlib.training.checkpoints import BROKEN

LARGEST = 4 * 2**30  # bytes of a file of weights
LARGEST_HEADER = 2**24  # bytes of what safetensors say of their tensors
INFLATED = 1.01  # what a file may unpack to, over its size: torch stores, and compresses nothing
TENSORS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch (\w+Storage|Size)"
)
"""What a pickle of weights calls for, as `pickletools` writes it."""
REMEDY = "get the checkpoint again, from someone you trust"
State = dict[str, Tensor]
"""Weights by name."""


def read(path: Path) -> State:
    """The weights in a file that `torch.save` or safetensors wrote.

    Of torch's format only tensors in plain containers are made (``weights_only``).

    Raises
    ------
    InputError
        If it is anything else, promises more than it holds, or has a number that is not finite.
    """
    check_regular(path)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        if path.suffix == ".safetensors":
            _check_header(path)
            state = load_file(path)
        else:
            state = torch.load(_looked_at(path), weights_only=True, map_location="cpu")
        if not fits(state, dict[str, Tensor]) or not state:
            raise ValueError("no weights by name")
        for name, value in state.items():
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"{name} claims more than lies there")
        if sum(4 * value.numel() for value in state.values()) > LARGEST:  # nets have 32 bits
            raise ValueError("its tensors claim more than lies there")
        for name, value in state.items():
            if value.is_complex() or not value.float().isfinite().all():
                raise ValueError(f"{name} holds what is not a finite number")
        return state
    except (*BROKEN, SafetensorError) as error:
        raise unusable(path, error) from error


def _check_header(path: Path) -> None:
    """Refuse safetensors whose header is longer than the file, or than any needs."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(LARGEST_HEADER, path.stat().st_size - 8):
            raise ValueError(f"a header of {length} bytes")
        json.loads(file.read(length))


def _looked_at(path: Path) -> io.BytesIO:
    """An archive of torch, written anew from what was looked at: torch and zipfile may read two in one file.

    Raises
    ------
    ValueError
        If it is none, unpacks to more than it is, or makes anything but tensors.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("not whole, or no weights")
    made = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(made, "w") as copy:
        entries = archive.infolist()
        if (unpacked := sum(entry.file_size for entry in entries)) > INFLATED * path.stat().st_size:
            raise ValueError(f"unpacks to {unpacked} bytes")
        if len({entry.filename.casefold() for entry in entries}) < len(
            entries
        ):  # as torch finds them
            raise ValueError("two parts of one name")
        for entry in entries:
            data = archive.read(entry)
            if entry.filename.casefold().endswith("data.pkl"):
                _check_made(data)
            copy.writestr(entry.filename, data)
    made.seek(0)
    return made


def _check_made(pickled: bytes) -> None:
    """Refuse a pickle that calls for more than tensors: torch allows `bytearray`, of any length."""
    for code, named, _ in pickletools.genops(pickled):
        known = code.name == "GLOBAL" and TENSORS.fullmatch(named)
        if code.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not known:
            raise ValueError(f"makes {named or 'something'}, no tensor")


def check_shapes(net: nn.Module, state: State, path: Path) -> None:
    """Refuse weights that are not those of a net, by name and shape; the net may be on `meta`.

    Raises
    ------
    InputError
        Naming the first that differs.
    """
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            what = f"{name[:80]!a} is {found.get(name, 'missing')}, not {wanted.get(name, 'there')}"
            raise unusable(path, ValueError(f"{what}, as {type(net).__name__} has it"))


def unusable(path: Path, error: Exception) -> InputError:
    """The error of a file that cannot be used."""
    what = " ".join("".join(filter(str.isprintable, str(error).partition("\n")[0])).split())
    return InputError(f"{path}: cannot be read ({what[:200] or 'cut short'}); {REMEDY}")
