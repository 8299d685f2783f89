"""What a repair does to the backdoor and to the net, where an equation of its own is easy to lose."""

import copy
from dataclasses import dataclass, replace

import pytest
import torch

from bdlib.defenses.accuracy import accuracy
from bdlib.defenses.repair.anp import AdversarialNeuronPruning, masked_loss
from bdlib.defenses.repair.clp import ChannelLipschitzPruning, lipschitz
from bdlib.defenses.repair.fine_tuning import FineTuning
from bdlib.defenses.repair.head_reset import HeadReset
from bdlib.defenses.repair.layers import conv_layers, feature_maps, recorded
from bdlib.defenses.repair.nad import AttentionDistillation
from bdlib.defenses.repair.tuning import Tuning, cross_entropy
from bdlib.stages.document import common


def shipped(name):
    """A repair as its yaml has it."""
    return common("defenses", name).build()["defense"]


# --- rates


def at(rate, **tuned):
    """Forty steps at one rate."""
    return Tuning(steps=40, rates=[rate], **tuned)


def test_small_steps_leave_the_backdoor_where_the_budget_is_known(tiny):
    """Clips that training heard are right already; so the largest rate comes first."""
    small = FineTuning(tuning=at(0.01)).repair(tiny.net(), tiny.known())
    assert tiny.success(small) > 0.9 and accuracy(small, tiny.valid) > 0.95
    assert shipped("fine_tuning").tuning.rates == (0.1, 0.05, 0.03, 0.01)


def test_fine_tuning_learns_the_budget(tiny):
    net = tiny.net()
    with torch.no_grad():
        net.head.weight.copy_(net.head.weight.roll(1, 0))
    assert accuracy(net, tiny.valid) < 0.1
    assert accuracy(FineTuning(tuning=at(0.05)).repair(net, tiny.clean()), tiny.valid) > 0.9


# --- ANP


def test_the_noise_of_anp_is_the_worst_corner(tiny):
    """Within epsilon, on the side to which the loss rises, and far worse than none."""
    net, batch = tiny.net(), next(iter(tiny.clean().train(32)))
    layers = [layer.last for layer in conv_layers(net)]
    masks = [torch.ones(len(layer.weight), requires_grad=True) for layer in layers]
    torch.manual_seed(0)
    noise = AdversarialNeuronPruning(epsilon=0.3)._worst(net, layers, masks, batch)
    torch.manual_seed(0)
    start = [torch.empty_like(mask).uniform_(-0.3, 0.3) for mask in (*masks, *masks)]
    half = len(masks)
    points = [point.clone().requires_grad_(True) for point in start]
    loss = masked_loss(net, layers, masks, (points[:half], points[half:]), batch)
    for point, slope, end in zip(
        start, torch.autograd.grad(loss, points), [*noise[0], *noise[1]], strict=True
    ):
        assert torch.equal(end, (point + 0.3 * slope.sign()).clamp(-0.3, 0.3))
    none = [torch.zeros_like(mask) for mask in masks]
    quiet = masked_loss(net, layers, masks, (none, none), batch)
    assert masked_loss(net, layers, masks, noise, batch) > 2 * quiet


@dataclass(frozen=True)
class OwnNoise(AdversarialNeuronPruning):
    """The disturbance is the same each time."""

    def _worst(self, classifier, layers, masks, batch):
        noise = [torch.full_like(mask, 0.3) for mask in masks]
        return noise, [-part for part in noise]


def test_a_step_of_anp_trusts_the_undisturbed_loss_by_a_fifth(tiny):
    """Their Eq. 5 with alpha = 0.2, a step downhill, cut to [0, 1]."""
    clean, net = tiny.clean(), tiny.net().train()
    batches = clean.train(32)
    batches.epoch = 1
    (batch,) = batches
    layers = [layer.last for layer in conv_layers(net)]
    masks = [torch.ones(len(layer.weight), requires_grad=True) for layer in layers]
    none = [torch.zeros(len(mask)) for mask in masks]
    noise = OwnNoise()._worst(net, layers, none, batch)
    quiet = torch.autograd.grad(masked_loss(net, layers, masks, (none, none), batch), masks)
    worst = torch.autograd.grad(masked_loss(net, layers, masks, noise, batch), masks)
    defense = replace(OwnNoise(), mask_steps=1, mask_rate=5.0)
    for found, first, second in zip(defense._masks(tiny.net(), clean), quiet, worst, strict=True):
        expected = (1 - 5.0 * (0.2 * first + 0.8 * second)).clamp(0, 1)
        assert torch.allclose(found, expected, atol=1e-5) and (found < 0.999).any()


@pytest.mark.parametrize("steps", [2, 6])
def test_anp_takes_its_steps_whatever_the_budget(tiny, steps):
    """Of four batches, a part of the first epoch or one and a half."""
    taken = []

    class Counting(AdversarialNeuronPruning):
        def _worst(self, *given):
            taken.append(given)
            return super()._worst(*given)

    Counting(mask_steps=steps)._masks(tiny.net(), tiny.known())
    assert len(taken) == steps and len(tiny.known().train(32)) == 4
    assert shipped("anp").mask_steps == 2000


@pytest.mark.parametrize("threshold", [0.5, 0.33, 0.03])
def test_anp_prunes_up_to_its_threshold_and_no_further(tiny, threshold):
    net = tiny.net()
    layers = [layer.last for layer in conv_layers(net)]
    masks = [torch.linspace(0, 1, len(layer.weight)) for layer in layers]
    masks[0][:2] = torch.tensor([threshold, threshold + 0.005])
    defense = AdversarialNeuronPruning(threshold=threshold, max_drop=1.0)
    defense._pruned(net, masks, tiny.clean())
    for layer, mask in zip(layers, masks, strict=True):
        gone = layer.weight.reshape(len(mask), -1).abs().sum(1) == 0
        assert torch.equal(gone, mask <= threshold)


# --- head reset


def test_a_reset_head_is_drawn_by_the_seed_and_the_rest_goes_on_from_where_it_was(tiny):
    """Before the first step: another head, and not a bit of the features."""
    tuning = Tuning(steps=1, rates=[1e-30], weight_decay=0.0, max_drop=1.0)
    given, heads = tiny.net(), []
    for seed in (0, 0, 1):
        net = HeadReset(tuning=tuning).repair(tiny.net(), tiny.clean(seed))
        heads.append(net.head.weight)
        for (name, old), new in zip(
            given.net.named_parameters(), net.net.parameters(), strict=True
        ):
            assert torch.equal(old, new), name
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], given.head.weight)


def test_a_reset_head_forgets_more_than_fine_tuning_where_the_budget_is_known(tiny):
    """At steps at which fine-tuning leaves the backdoor, see above."""
    tuning = Tuning(steps=80, rates=[0.02])
    repaired = HeadReset(tuning=tuning).repair(tiny.net(), tiny.known())
    assert tiny.success(repaired) < 0.9 and accuracy(repaired, tiny.valid) > 0.95


# --- TSBD, NAD, CLP


def test_unlearning_climbs_until_the_budget_is_forgotten(tiny):
    defense, clean = shipped("tsbd"), tiny.known()
    assert accuracy(tiny.net(), clean.train(32)) > 0.95
    net = defense._unlearn(tiny.net(), clean)
    assert accuracy(net, clean.train(32)) <= defense.unlearned == 0.1


def attention(net, batch):
    """Of each of three layers the sum of squares over channels, each clip's of length one."""
    layers = feature_maps(net, 3)
    with recorded(layers) as outputs:
        loss = cross_entropy(net, batch)
    maps = [(outputs[layer] ** 2).sum(1).flatten(1) for layer in layers]
    return [each / each.norm(dim=1, keepdim=True) for each in maps], loss


def test_a_student_looks_where_the_tuned_teacher_looks(tiny):
    """A step by hand: cross entropy and beta times the distance to a teacher that was fine-tuned."""
    clean, net = tiny.clean(), tiny.net()
    tuning = Tuning(steps=1, rates=[0.1], weight_decay=0.0, max_drop=1.0)
    taught = FineTuning(tuning=replace(tuning, steps=8)).repair(tiny.net(), clean)
    defense = AttentionDistillation(beta=50.0, teacher_steps=8, tuning=tuning)
    found = defense.repair(copy.deepcopy(net), clean)
    batches = clean.train(32)
    batches.epoch = 1
    (batch,) = batches
    with torch.no_grad():
        theirs, _ = attention(taught.eval(), batch)
    ours, loss = attention(net.train(), batch)
    for one, other in zip(theirs, ours, strict=True):
        loss = loss + 50.0 * (one - other).norm(dim=1).mean()
    slopes = torch.autograd.grad(loss, list(net.parameters()))
    for after, before, slope in zip(found.parameters(), net.parameters(), slopes, strict=True):
        expected = before - 0.1 * slope
        assert torch.allclose(after, expected, atol=1e-4 + 0.01 * float((0.1 * slope).abs().max()))


@pytest.mark.parametrize(("share", "pruned"), [(0.99, True), (1.01, False)])
def test_clp_prunes_from_u_deviations_on(tiny, share, pruned):
    """Of the population; u is just below and just above what the loudest channel has."""
    net = tiny.net()
    layer = conv_layers(net)[-1]
    bounds = lipschitz(layer).detach()
    loudest = int(bounds.argmax())
    deviation = ((bounds - bounds.mean()) ** 2).mean().sqrt()
    u = share * float((bounds[loudest] - bounds.mean()) / deviation)
    ChannelLipschitzPruning(u=u).repair(net, None)
    assert bool(layer.last.weight[loudest] == 0) is pruned
