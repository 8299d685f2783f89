"""SpeechBrain's run options that change what a training computes."""

from typing import Any

USUAL: dict[str, Any] = {
    **{"precision": "fp32", "auto_mix_prec": False, "bfloat16_mix_prec": False},
    **{"grad_accumulation_factor": 1, "optimizer_step_limit": None},
    **{"remove_vector_weight_decay": False, "skip_nonfinite_grads": False},
    "eval_precision": "fp32",
}
"""By name, with their defaults on a CPU; the loss of validation, in its precision, may choose the epoch."""
