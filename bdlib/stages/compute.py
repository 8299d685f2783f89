"""How a run computes: SpeechBrain's run options, and the device."""

import os
from collections.abc import Mapping
from typing import Any

from bdlib.errors import InputError
from bdlib.training.options import USUAL

LATER = ("eval_precision", "processes")
"""What a training depends on that a digest holds only where it is not the usual one."""
TRY = "try `number_of_epochs` 1"
WHOLE = "a checkpoint is written after each epoch, and a training goes on from there"
REFUSED = {
    **dict.fromkeys(("debug", "debug_persistently", "test_only", "data_parallel_backend"), TRY),
    **dict.fromkeys(("ckpt_interval_minutes", "ckpt_interval_steps"), WHOLE),
}
"""SpeechBrain's options that do not go with these recipes, and what to do."""


def run_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """All of SpeechBrain's run options, those not given at their defaults, with the device chosen.

    `distributed_launch` tells whether `torchrun` started this process.

    Raises
    ------
    InputError
        For an option that does not go with these recipes, or a device that is not there.
    """
    from speechbrain.utils.run_opts import RunOptions  # with torch, which takes seconds

    exact_float32()
    for name, remedy in REFUSED.items():
        if given.get(name):
            raise InputError(f"`{name}`: not with these recipes; {remedy}")
    options = RunOptions.from_dictionary(dict(given)).as_dict()
    options["device"] = device(options["device"])
    options["distributed_launch"] = "RANK" in os.environ
    if options["device"] == "cpu" and "distributed_backend" not in given:
        options["distributed_backend"] = "gloo"  # the default is for GPUs
    if options["device"].startswith("cuda"):
        options |= {name: "bf16" for name in ("precision", "eval_precision") if name not in given}
        _tune_convolutions()
    return options


def determining(options: Mapping[str, Any]) -> list[Any]:
    """What a training depends on besides its data, settings and seed, for a digest.

    Arguments
    ---------
    options : Mapping[str, Any]
        All of `run_options`.
    """
    later = {name: value for name, value in unusual(options).items() if name in LATER}
    always = [options[name] for name in USUAL if name not in LATER]
    return [*always, later] if later else always


def unusual(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options of `USUAL` that are otherwise, and `processes` where there are several.

    Each process has a batch of its own.
    """
    told = {name: options[name] for name, usual in USUAL.items() if options[name] != usual}
    processes = int(os.environ.get("WORLD_SIZE", 1)) if options["distributed_launch"] else 1
    return told | ({"processes": processes} if processes > 1 else {})


def exact_float32() -> None:
    """Let float32 be float32 on a GPU, in matrix products and convolutions.

    Importing SpeechBrain switches TensorFloat32 on, whose products have 10 bits of mantissa instead of
    23: `precision` fp32 would be no float32, nor would the heads that are kept in it under bf16.
    """
    import speechbrain  # noqa: F401  # first, as a later import would switch it on again
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def _tune_convolutions() -> None:
    """Let cuDNN try its algorithms once a shape; shapes here are fixed, so that it pays."""
    import torch

    torch.backends.cudnn.benchmark = True


def device(name: str | None) -> str:
    """The device of this name, or the best there is.

    Raises
    ------
    InputError
        If it is not there.
    """
    import torch
    from speechbrain.utils.distributed import infer_device

    name = name or infer_device()
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        what = str(error).partition("\n")[0]
        raise InputError(
            f"`device` {name}: not here ({what}); leave it out, or give cpu"
        ) from error
    return name
