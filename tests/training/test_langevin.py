"""Langevin steps that a GPU plays again, beside those that it is told one by one."""

import pytest
import torch
from torch import nn

from bdlib.training.langevin import Recording, climb

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
MOVES = [(0.1 * 0.9**n, 0.0, 0.7) for n in range(12)]


@pytest.fixture
def net():
    """A small net on the GPU, whose weights ask for nothing."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Flatten(), nn.Linear(12, 32), nn.SiLU(), nn.Linear(32, 5))
    return made.cuda().requires_grad_(False)


@pytest.fixture
def height(net):
    """The logit of the class asked for."""
    return lambda x, chosen: net(x).float().gather(1, chosen[:, None]).squeeze(1)


def start(seed):
    """Six samples and their classes."""
    torch.manual_seed(seed)
    return torch.randn(6, 4, 3, device="cuda"), torch.randint(5, (6,), device="cuda")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_recording_climbs_as_the_steps_do(net, height, precision):
    """From other places, to other classes, and over weights that have changed since."""
    with torch.autocast("cuda", precision, enabled=precision != torch.float32):
        recording = Recording(*start(0), height)
        for seed in (1, 2, 3):
            x, chosen = start(seed)
            with torch.no_grad():
                for weight in net.parameters():
                    weight += 0.3 * torch.randn_like(weight)
            expected = climb(x, chosen, height, MOVES)
            found = recording(x, chosen, MOVES)
            assert (expected - x).abs().mean() > 0.01
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_recording_draws_nothing_from_what_a_training_draws(height):
    given = start(0)
    before = torch.cuda.get_rng_state()
    Recording(*given, height)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_noise_is_new_in_each_step_and_has_its_deviation(height):
    recording = Recording(*start(0), height)
    x, chosen = start(1)
    ends = torch.stack([recording(x, chosen, [(0.0, 0.5, 1.0)] * 4) - x for _ in range(200)])
    assert abs(float(ends.std()) - 1.0) < 0.03  # of four steps, each 0.5
    assert (ends[1:] - ends[:-1]).abs().min() > 0


def test_a_chain_that_went_astray_spoils_no_other(height):
    recording = Recording(*start(0), height)
    x, chosen = start(1)
    recording(x * torch.nan, chosen, MOVES)
    assert recording(x, chosen, MOVES).isfinite().all()
