"""Langevin steps that a GPU plays again, beside those that it is told one by one."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bdlib.training.langevin import Recording, climb

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
MOVES = [(0.1 * 0.9**n, 0.0, 0.7) for n in range(12)]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=gpu)])
def device(request, monkeypatch):
    """A GPU, or a CPU that takes what is recorded as a function, and calls it again."""
    if request.param == "cpu":
        step, played = Recording._step, []
        monkeypatch.setattr(Recording, "_step", lambda self: played.append(self) or step(self))
        fork, stream = torch.random.fork_rng, SimpleNamespace(wait_stream=lambda _: None)
        for name, value in (
            ("Stream", lambda _: stream),
            ("current_stream", lambda _: stream),
            ("stream", lambda _: contextlib.nullcontext()),
            ("CUDAGraph", lambda: SimpleNamespace(replay=lambda: step(played[-1]))),
            ("graph", lambda *_, **__: fork([])),  # what is recorded draws when it is played
        ):
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.random, "fork_rng", lambda _: fork([]))
    return request.param


@pytest.fixture
def net(device):
    """A small net, whose weights ask for nothing."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Flatten(), nn.Linear(12, 32), nn.SiLU(), nn.Linear(32, 5))
    return made.to(device).requires_grad_(False)


@pytest.fixture
def height(net):
    """The logit of the class asked for."""
    return lambda x, chosen: net(x).float().gather(1, chosen[:, None]).squeeze(1)


def start(seed, device):
    """Six samples and their classes."""
    torch.manual_seed(seed)
    return torch.randn(6, 4, 3, device=device), torch.randint(5, (6,), device=device)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_recording_climbs_as_the_steps_do(net, height, device, precision):
    """From other places, to other classes, and over weights that have changed since."""
    with torch.autocast(device, precision, enabled=precision != torch.float32):
        recording = Recording(*start(0, device), height)
        for seed in (1, 2, 3):
            x, chosen = start(seed, device)
            with torch.no_grad():
                for weight in net.parameters():
                    weight += 0.3 * torch.randn_like(weight)
            expected = climb(x, chosen, height, MOVES)
            found = recording(x, chosen, MOVES)
            assert (expected - x).abs().mean() > 0.01
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_recording_draws_nothing_from_what_a_training_draws(height, device):
    given = start(0, device)
    states = torch.cuda if device == "cuda" else torch
    before = states.get_rng_state()
    Recording(*given, height)
    assert torch.equal(states.get_rng_state(), before)


def test_noise_is_new_in_each_step_and_has_its_deviation(height, device):
    recording = Recording(*start(0, device), height)
    x, chosen = start(1, device)
    ends = torch.stack([recording(x, chosen, [(0.0, 0.5, 1.0)] * 4) - x for _ in range(200)])
    assert abs(float(ends.std()) - 1.0) < 0.03  # of four steps, each 0.5
    assert (ends[1:] - ends[:-1]).abs().min() > 0


def test_a_chain_that_went_astray_spoils_no_other(height, device):
    recording = Recording(*start(0, device), height)
    x, chosen = start(1, device)
    recording(x * torch.nan, chosen, MOVES)
    assert recording(x, chosen, MOVES).isfinite().all()
