"""How a run computes: float32 is float32."""

import torch

from bdlib.stages.compute import run_options


def test_float32_is_not_tensorfloat32():
    """Which importing SpeechBrain switches on."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    for part in flags:
        part.allow_tf32 = True
    run_options({"device": "cpu", "precision": "fp32"})
    assert not any(part.allow_tf32 for part in flags)
