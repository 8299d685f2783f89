"""How a run computes: float32 is float32."""

import torch

from bdlib.stages.compute import determining, run_options, unusual
from bdlib.training.options import USUAL


def test_float32_is_not_tensorfloat32():
    """Which importing SpeechBrain switches on."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    for part in flags:
        part.allow_tf32 = True
    run_options({"device": "cpu", "precision": "fp32"})
    assert not any(part.allow_tf32 for part in flags)


def test_what_changes_a_training_changes_its_digest(monkeypatch):
    """What is as it always was adds nothing, so that what stands is found again."""
    plain = run_options({"device": "cpu"})
    assert unusual(plain) == {} and len(determining(plain)) == len(USUAL) - 1
    digests = [determining(plain)]
    for given in (
        {"precision": "bf16"},
        {"eval_precision": "bf16"},
        {"grad_accumulation_factor": 4},
    ):
        options = run_options({"device": "cpu", **given})
        assert unusual(options) == given
        digests.append(determining(options))
    monkeypatch.setenv("RANK", "0")
    for processes in ("1", "8"):
        monkeypatch.setenv("WORLD_SIZE", processes)
        options = run_options({"device": "cpu"})
        digests.append(determining(options))
    assert unusual(options) == {"processes": 8}
    assert digests.pop(-2) == digests[0]  # one process is one process
    assert len({str(one) for one in digests}) == len(digests) == 5
    assert unusual(run_options({"device": "cpu", "noprogressbar": True})) == {"processes": 8}
