"""Langevin sampling: bookkeeping, and that it generates."""

import math

import pytest
import torch
from torch import nn

from bdlib.training.jem_brain import generative_loss
from bdlib.training.sgld import CALLS, HEIGHTS, Sampler, SgldSettings, Tuner


def test_published_buffers_and_steps():
    sampler = Sampler(SgldSettings(), 12, (1, 1))
    assert sampler.free.shape[0] == 1000
    assert sampler.classes.shape[:2] == (12, 750)  # 9000 in all
    steps = []
    for epoch in range(1, 27):
        sampler.start_epoch(epoch)
        steps.append(sampler.steps)
    assert steps == list(range(21, 47))


def well(x):
    """Two Gaussian wells at -3 and +3, one a class: logits (S, 2) of x (S, 1, 1)."""
    value = x.flatten(1)
    return torch.cat([-0.5 * (value + 3) ** 2, -0.5 * (value - 3) ** 2], 1)


def test_chains_climb_to_the_class_asked_for():
    torch.manual_seed(0)
    settings = SgldSettings(samples=64, steps=80, adaptive=False, unconditional=0.0, restart=1.0)
    sampler = Sampler(settings, 2, (1, 1))
    for label, centre in ((0, -3.0), (1, 3.0)):
        x = sampler.draw(well, torch.full((64,), label)).flatten()
        assert (x - centre).abs().mean() < 0.2
    assert sampler.classes[0].min() < -2.5 and sampler.classes[1].max() > 2.5  # written back


@pytest.mark.parametrize("caution", [1.0, 0.5])
@pytest.mark.parametrize("decay", [1.0, 0.5, 1.2])
@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.95])
def test_chain_by_hand(momentum, decay, caution):
    """No noise; up a parabola from 0.5. Momentum is used up to 0.9, decay up to 1."""
    settings = SgldSettings(1, 5, 0, 0.3, math.inf, decay, momentum, False, 0.0, 0.0, 1, 1)
    sampler = Sampler(settings, 2, (1, 1), caution)
    sampler.classes.fill_(0.5)
    x, average, step = 0.5, None, 0.3 * caution
    for _ in range(5):
        slope = -(x - 3)
        kept = min(momentum, 0.9)
        average = slope if average is None else kept * average + (1 - kept) * slope
        x += step / 2 * average
        step *= min(decay, 1.0)
    assert math.isclose(float(sampler.draw(well, torch.tensor([1]))), x, rel_tol=1e-5)


def test_heights_are_taken_in_float32(monkeypatch):
    """Of a net under autocast, whose logits are bf16: two of them here, which bf16 cannot add."""

    def coarse(x):
        return torch.cat([x.flatten(1), x.flatten(1) - 3], 1).bfloat16()

    settings = SgldSettings(2, 0, 0, unconditional=1.0, restart=0.0, buffer=2)
    sampler, seen = Sampler(settings, 2, (1, 1)), []
    sampler.free.fill_(1.0)
    sampler.draw(coarse, torch.tensor([0]))
    height = math.log(math.exp(1) + math.exp(-2))
    assert math.isclose(float(sampler.tuners["free"].sums.sum()), height, rel_tol=1e-6)
    assert not math.isclose(float(torch.tensor(height).bfloat16()), height, rel_tol=1e-4)
    sampler.steps = 1
    monkeypatch.setitem(HEIGHTS, "free", lambda q, chosen: (seen.append(q.dtype), q[:, 0])[1])
    sampler.draw(coarse, torch.tensor([0]))
    assert seen == [torch.float32]


def test_noise_has_the_temperature_asked_for():
    """With divisor 1 the chain samples N(3, 1) itself (Eq. 6), with 100 it sits at the top."""
    torch.manual_seed(0)
    spread = {}
    for divisor in (1.0, 100.0):
        settings = SgldSettings(2000, 300, 0, 0.1, divisor, 1.0, 0.0, False, 0.0, 1.0, 1, 2000)
        x = Sampler(settings, 2, (1, 1)).draw(well, torch.ones(2000, dtype=torch.long))
        spread[divisor] = float(x.std())
    assert 0.9 < spread[1.0] < 1.1 and spread[100.0] < 0.05


def test_no_gradient_reaches_parameters():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    sampler = Sampler(SgldSettings(steps=3), 3, (2, 2))
    x = sampler.draw(net, torch.tensor([0, 1, 2]))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not x.requires_grad and x.shape == (6, 2, 2)


def test_chains_start_from_noise_of_the_kind_asked_for():
    for uniform, low, high in ((True, 0.95, 1.0), (False, 2.5, 6.0)):
        sampler = Sampler(SgldSettings(steps=0, restart=1.0, uniform_start=uniform), 2, (1, 1))
        drawn = torch.cat([sampler.draw(well, torch.tensor([0, 1])) for _ in range(50)])
        assert low < drawn.abs().max() < high and low < sampler.classes.abs().max() < high


def test_free_samples_use_their_own_buffer_without_repetition():
    sampler = Sampler(SgldSettings(unconditional=1.0, steps=1, buffer=6), 2, (1, 1))
    free, classes = sampler.free.clone(), sampler.classes.clone()
    sampler.draw(well, torch.tensor([0, 1]))
    assert (sampler.free != free).all() and torch.equal(sampler.classes, classes)


def test_tuner_keeps_the_best_choice_and_tunes_the_step_first():
    torch.manual_seed(0)
    tuner = Tuner(SgldSettings(), 1.0)
    for _ in range(CALLS):
        (step, *_), choice = tuner.propose()
        tuner.report(choice, torch.tensor(-abs(step - 0.2 / 0.9)))
    assert abs(float(tuner.values[0]) - 0.2 / 0.9) < 1e-9
    assert int(tuner.calls) == 0


def test_momentum_is_kept_up_to_0_95_and_used_up_to_0_9():
    torch.manual_seed(0)
    tuner = Tuner(SgldSettings(momentum=0.93), 1.0)
    tuner.active.fill_(3)
    for _ in range(CALLS):
        (*_, momentum), choice = tuner.propose()
        assert momentum == (0.93 * 0.95 if choice == 0 else 0.9)
        tuner.report(choice, torch.tensor(float(choice)))
    assert math.isclose(float(tuner.values[3]), 0.95, rel_tol=1e-6)  # not 0.93 / 0.95, the best


def test_tuner_ignores_a_choice_never_drawn():
    tuner = Tuner(SgldSettings(), 1.0)
    for _ in range(CALLS):
        tuner.report(1, torch.tensor(5.0))
    assert torch.isfinite(tuner.values).all() and float(tuner.values[0]) == 0.2


def test_fixed_settings_stay():
    tuner = Tuner(SgldSettings(adaptive=False), 1.0)
    for _ in range(2 * CALLS):
        values, choice = tuner.propose()
        tuner.report(choice, torch.tensor(1.0))
    assert values == [0.2, 100.0, 1.0, 0.1]


def test_energies_separate_seen_from_unseen_and_samples_drift_to_the_data():
    """MVJ's loss on a ring of four clusters: it generates, it is not only a regulariser."""
    torch.manual_seed(0)
    centres = torch.tensor([[2.0, 2.0], [-2.0, 2.0], [-2.0, -2.0], [2.0, -2.0]])
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 4)
    )
    settings = SgldSettings(samples=32, steps=20, noise_divisor=10.0, adaptive=False)
    sampler = Sampler(settings, 4, (1, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    for _ in range(400):
        labels = torch.randint(4, (64,))
        data = (centres[labels] + 0.2 * torch.randn(64, 2))[:, None]
        logits = net(torch.cat([data, sampler.draw(net, labels)]))
        loss = nn.functional.cross_entropy(logits[:64], labels) + generative_loss(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    labels = torch.randint(4, (500,))
    seen = net((centres[labels] + 0.2 * torch.randn(500, 2))[:, None]).logsumexp(1)
    unseen = net(8 * torch.rand(500, 1, 2) - 4).logsumexp(1)
    auroc = (seen[:, None] > unseen[None]).float().mean()
    assert auroc >= 0.9
    drawn = sampler.draw(net, labels)[:, 0]
    nearest = torch.cdist(drawn, centres).min(1).values
    start = torch.cdist(torch.randn(500, 2), centres).min(1).values
    assert nearest.mean() < 0.6 * start.mean()
