"""Repairs: what holds for all of them, and the equations of each."""

import copy
import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from bdlib.corpus import Batch
from bdlib.defenses.accuracy import accuracy, correct
from bdlib.defenses.base import CleanData, RepairDefense, Tried
from bdlib.defenses.repair.anp import AdversarialNeuronPruning, masked_loss
from bdlib.defenses.repair.clp import ChannelLipschitzPruning, lipschitz
from bdlib.defenses.repair.fine_pruning import FinePruning, embeddings
from bdlib.defenses.repair.fine_tuning import FineTuning, descent
from bdlib.defenses.repair.ft_sam import FtSam
from bdlib.defenses.repair.gradient_norm import GradientNorm
from bdlib.defenses.repair.i_bau import AdversarialUnlearning
from bdlib.defenses.repair.layers import conv_layers, feature_maps, recorded, watched_layers
from bdlib.defenses.repair.nad import AttentionDistillation
from bdlib.defenses.repair.tsbd import WeightReinitialisation
from bdlib.defenses.repair.tuning import Tuning, affordable, cross_entropy, tune
from bdlib.errors import InputError
from bdlib.features import FrontEnd
from bdlib.files import COMMON
from bdlib.models.classifier import SpeechClassifier
from bdlib.stages.document import Document, common

REPAIRS = [
    path.stem
    for path in sorted((COMMON / "defenses").glob("*.yaml"))
    if isinstance(common("defenses", path.stem).build()["defense"], RepairDefense)
]
# So small a net takes fewer steps.
BRIEF = {"repair_steps": 40, "teacher_steps": 20, "mask_steps": 60, "search_steps": 2}
OWN = {"i_bau": {"repair_steps": 10}}
# Attack success rate that each must get below, from 1, with clips that training heard.
REMOVES = {
    **dict.fromkeys(("fine_tuning", "gn_ft", "fine_pruning", "ft_sam", "nad", "i_bau"), 0.2),
    **{"tsbd": 0.2, "head_reset": 0.2},
}
# In two steps these find no trigger; test_inversion.py gives them more.
SEARCH = {"mask_inversion", "waveform_inversion"}
LEAVES = SEARCH | {
    "clp",
    "pruning",
}  # no channel stands out here, and the sleeping ones do not bear it
# Of ANP neither is sure: which channels reach its threshold hangs on the last bits of the net.

# What the three feature maps of a net are.
COMMON_NETS = {
    "keyword_resnet": ["ResidualBlock"] * 3,
    "smallcnn": ["ReLU"] * 3,
    "xvector_small": ["BatchNorm1d"] * 3,
    "ecapa_small": ["TDNNBlock", "SERes2NetBlock", "SERes2NetBlock"],
    "mvd_small": ["ViewBlock", "ViewBlock", "LeakyReLU"],
    "resnet_small": ["SEBasicBlock", "SEBasicBlock", "BasicBlock"],
}


def built(name, **settings):
    document = common("defenses", name)
    for key, value in settings.items():
        document.place(key, value)
    return document.build()["defense"]


def brief(name):
    """A repair as its yaml has it, but for its steps."""
    given = common("defenses", name).plain()
    return built(name, **{k: v for k, v in (BRIEF | OWN.get(name, {})).items() if k in given})


def recipe(model):
    return Document(COMMON.parent / "SpeechCommands" / "hparams" / f"{model}.yaml")


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def first_batch(tiny):
    return next(iter(tiny.clean().train(32)))


# --- every repair


@pytest.mark.parametrize("name", REPAIRS)
def test_every_repair(name, tiny):
    """The net given is untouched, what it costs is bounded, the backdoor goes or is known to stay.

    The budget was trained on, which is the harder case: its clips are right already.
    """
    net, defense = tiny.net(), brief(name)
    before, clean = state(net), tiny.known()
    assert accuracy(net, tiny.valid) > 0.95 and tiny.success(net) > 0.95
    repaired = defense.repair(copy.deepcopy(net), clean).eval()
    assert same(state(net), before)
    assert state(repaired).keys() == before.keys() and not repaired.training
    limit = common("defenses", name).plain().get("max_drop", 1.0)
    assert affordable(correct(net, tiny.valid), correct(repaired, tiny.valid), limit)
    assert tiny.success(repaired) < REMOVES.get(name, 1.1)
    assert name not in LEAVES or tiny.success(repaired) > 0.9
    tunes = hasattr(defense, "tuning") and name not in SEARCH
    assert [each.kept for each in clean.tried] == [True] * tunes
    assert all(torch.isfinite(tensor).all() for tensor in repaired.state_dict().values())


@pytest.mark.parametrize("name", REPAIRS)
def test_the_seed_decides(name, tiny):
    defense = built(
        name, repair_steps=2, teacher_steps=1, mask_steps=2, search_steps=1, max_drop=1.0
    )
    results = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)  # what was drawn before must not matter
        results.append(state(defense.repair(tiny.net(), tiny.clean(seed))))
    assert same(results[0], results[1])
    if hasattr(defense, "tuning") and name not in SEARCH:
        assert not same(results[0], results[2])


def test_a_repair_without_data_asks_for_none(tiny):
    def refuse(*_):
        raise AssertionError("asked for data")

    built("clp").repair(tiny.net(), CleanData(refuse, refuse, 0, 0))
    assert not built("clp").clean_share and built("clp").selection == "fixed"


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("gn_ft", "alpha", 1.5),
        ("gn_ft", "radius", 0.0),
        ("gn_ft", "norm", "layer"),
        ("gn_ft", "repair_rates", 0.1),
        ("gn_ft", "repair_rates", []),
        ("gn_ft", "repair_steps", 0),
        ("gn_ft", "max_drop", -0.1),
        ("ft_sam", "rho", -1.0),
        ("fine_pruning", "prune_drop", 2.0),
        ("nad", "layers", 0),
        ("anp", "epsilon", 0.0),
        ("anp", "mask_steps", 0),
        ("anp", "mask_rate", 0.0),
        ("clp", "u", -1.0),
        ("i_bau", "bound", 0.0),
        ("tsbd", "neurons", 1.1),
        ("mask_inversion", "anomaly", 0.0),
        ("waveform_inversion", "success", 1.5),
        ("mask_inversion", "search_steps", 0),
    ],
)
def test_bad_settings_are_named(name, option, value):
    argument = option.removeprefix("repair_")
    with pytest.raises(InputError, match=re.escape(f"`{argument}` is {value}: give")):
        built(name, **{option: value})


def test_steps_are_whole_numbers():
    with pytest.raises(InputError, match=r"`steps` is 4\.0: give a whole number"):
        Tuning(steps=4.0)


# --- the tuning loop


class Line(SpeechClassifier):
    """A classifier of one parameter; positive classifies all as 1."""

    def __init__(self):
        super().__init__(FrontEndOfNothing())
        self.place = nn.Parameter(torch.tensor([5.0]))

    def embed(self, features, lens):
        return features[:, 0, :1] * 0 + self.place

    def classify(self, embeddings):
        return torch.cat([-embeddings, embeddings], 1)


class FrontEndOfNothing(FrontEnd):
    size = 1

    def compute(self, wavs, lens):
        return wavs[:, :, None]


def ones(count=4):
    batch = Batch(["a"] * count, torch.zeros(count, 3), torch.ones(count), torch.ones(count).long())

    class Once(list):
        epoch = 0

    return CleanData(lambda size: Once([batch, batch]), lambda: [batch], count, 0)


def push(step):
    def gradient(classifier, batch):
        classifier.place.grad = torch.tensor([step(classifier)])
        return torch.zeros(())

    return gradient


def test_tuning_steps_follow_a_cosine():
    """Of seven steps, three epochs and a half of two batches."""
    tuning = Tuning(steps=7, rates=[0.1], momentum=0.0, weight_decay=0.0)
    moved = tune(Line(), ones(), tuning, push(lambda c: 1.0)).place
    expected = sum(0.1 * (1 + math.cos(math.pi * n / 7)) / 2 for n in range(7))
    assert math.isclose(5 - moved.item(), expected, rel_tol=1e-5)


def test_tuning_warms_up_for_a_tenth_of_its_steps():
    """Of 30 steps three: a third of the rate, two thirds, and all of it."""
    rates, clean = [], ones()
    tuning = Tuning(steps=30, rates=[0.3], momentum=0.0, weight_decay=0.0)
    seen = push(lambda c: rates.append(c.place.item()) or 1.0)
    last = tune(Line(), clean, tuning, seen).place.item()
    found = [a - b for a, b in zip(rates, [*rates[1:], last], strict=True)]
    parts = [(1 + math.cos(math.pi * n / 30)) / 2 for n in range(30)]
    expected = [0.1, 0.2 * parts[1], *(0.3 * part for part in parts[2:])]
    assert found == pytest.approx(expected, abs=1e-5)


def test_tuning_has_momentum_and_decay():
    tuning = Tuning(steps=2, rates=[0.1], momentum=0.5, weight_decay=0.2)
    moved = tune(Line(), ones(), tuning, push(lambda c: 1.0)).place.item()
    velocity = 1 + 0.2 * 5
    first = 5 - 0.1 * velocity
    second = first - 0.05 * (0.5 * velocity + 1 + 0.2 * first)  # half-way down the cosine
    assert math.isclose(moved, second, rel_tol=1e-5)


def test_tuning_takes_the_first_rate_whose_last_state_is_affordable(capsys):
    """Of 4 steps at rate r the parameter falls by 2.5 r, and below 0 nothing is right."""
    tuning = Tuning(steps=4, rates=[4.0, 1.0, 0.1], momentum=0.0, weight_decay=0.0, max_drop=0.5)
    clean, given = ones(), Line()
    found = tune(Line(), clean, tuning, push(lambda c: 1.0), given)
    assert math.isclose(found.place.item(), 2.5, rel_tol=1e-5)  # from 5 again, not from -5
    assert clean.tried == [Tried(4.0, 1.0, 0.0, False), Tried(1.0, 1.0, 1.0, True)]
    all_of_it = replace(tuning, max_drop=1.0)
    assert tune(Line(), ones(), all_of_it, push(lambda c: 1.0)).place < 0
    clean = ones()
    back = tune(Line(), clean, tuning, push(lambda c: 100.0), given)
    assert back is given and "nothing is repaired" in capsys.readouterr().out
    assert [(each.rate, each.kept) for each in clean.tried] == [
        (4.0, False), (1.0, False), (0.1, False)
    ]  # fmt: skip
    wrong = tune(Line(), ones(), tuning, push(lambda c: math.nan))
    assert wrong.place.item() == 5


@pytest.mark.parametrize(("lost", "won", "fits"), [(7, 0, True), (8, 0, False), (14, 5, True)])
def test_a_drop_may_exceed_its_bound_by_one_paired_standard_error(lost, won, fits):
    """Of 100 clips 5 may be lost. For 7 lost the error is 2.6 clips, for 8 it is 2.7; for 14 lost and
    5 won 4.3."""
    before = torch.cat([torch.zeros(won), torch.ones(100 - won)])
    after = before.clone()
    after[:won], after[100 - lost :] = 1, 0
    assert affordable(before, after, 0.05) is fits


# --- GN-FT


def steps(defense, tiny):
    """Where a repair is after four steps."""
    tuned = replace(defense, tuning=Tuning(steps=4, rates=[0.01], max_drop=1.0))
    return state(tuned.repair(tiny.net(), tiny.clean()))


@pytest.mark.parametrize("norm", ["tensor", "global"])
def test_alpha_0_is_fine_tuning(tiny, norm):
    assert same(steps(GradientNorm(alpha=0.0, norm=norm), tiny), steps(FineTuning(), tiny))


def test_alpha_1_is_sam(tiny):
    """Beside a SAM written down here, step by step."""
    net, clean = tiny.net().train(), tiny.clean()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, weight_decay=5e-4)
    batches = clean.train(32)
    for number in range(4):
        batches.epoch = number + 1
        (batch,) = batches
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * number / 4)) / 2
        optimizer.zero_grad()
        cross_entropy(net, batch).backward()
        buffers = [b.clone() for b in net.buffers()]
        norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
        old = [p.detach().clone() for p in net.parameters()]
        with torch.no_grad():
            for p in net.parameters():
                p += 0.05 * p.grad / norm
        optimizer.zero_grad()
        cross_entropy(net, batch).backward()
        with torch.no_grad():
            for p, before in zip(net.parameters(), old, strict=True):
                p.copy_(before)
            for b, before in zip(net.buffers(), buffers, strict=True):
                b.copy_(before)
        optimizer.step()
    expected = state(net)
    for sam in (
        GradientNorm(alpha=1.0, norm="global"),
        FtSam(rho=0.05, adaptive=False, smoothing=0.0),
    ):
        found = steps(sam, tiny)
        assert all(torch.allclose(found[k], expected[k], rtol=1e-4, atol=1e-6) for k in expected)
    assert not same(steps(FineTuning(), tiny), expected)


@pytest.mark.parametrize("defense", [GradientNorm(), GradientNorm(norm="global"), FtSam()])
def test_a_probe_leaves_no_trace(tiny, defense):
    """Parameters bit for bit as before; buffers and random numbers as after one plain pass."""
    probe = getattr(defense, "penalised", None) or defense.sharpness_aware
    nets, draws = [tiny.net().train() for _ in range(2)], []
    for net, gradient in zip(nets, (descent, probe), strict=True):
        torch.manual_seed(3)
        net.head = nn.Sequential(nn.Dropout(0.5), net.head)
        gradient(net, first_batch(tiny))
        draws.append(torch.get_rng_state())
    assert same(state(nets[0]), state(nets[1]))
    assert not same(state(nets[0].net), state(tiny.net().net))  # one pass moved the statistics
    assert torch.equal(*draws)


@pytest.mark.parametrize(
    "name", ["gn_ft", "ft_sam", "i_bau", "tsbd", "fine_tuning", "fine_pruning"]
)
def test_frozen_weights_stay_and_the_others_are_tuned(name, tiny):
    net = copy.deepcopy(tiny.net())
    for key, parameter in net.named_parameters():
        parameter.requires_grad_(key.startswith("head"))
    before = state(net)
    repaired = built(name, repair_steps=3, search_steps=1, max_drop=1.0).repair(net, tiny.known())
    changed = {key for key, value in repaired.named_parameters() if not value.equal(before[key])}
    assert changed and (name == "tsbd" or all(key.startswith("head") for key in changed))


def test_a_gradient_that_is_one_tensor_for_two_weights_is_mixed_once(tiny):
    """As of a low-rank change that is added to a weight."""

    class Added(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.bias = layer.bias
            self.one, self.other = nn.Parameter(layer.weight / 2), nn.Parameter(layer.weight / 2)

        def forward(self, x):
            return nn.functional.linear(x, self.one + self.other, self.bias)

    net, batch = copy.deepcopy(tiny.net()), first_batch(tiny)
    net.head = Added(net.head)
    net.train()
    GradientNorm(alpha=0.7, norm="global").penalised(net, batch)
    assert torch.allclose(net.head.one.grad, net.head.other.grad)
    here = copy.deepcopy(net)
    GradientNorm(alpha=0.0, norm="global").penalised(here, batch)
    there = copy.deepcopy(net)
    GradientNorm(alpha=1.0, norm="global").penalised(there, batch)
    mixed = 0.3 * here.head.one.grad + 0.7 * there.head.one.grad
    assert torch.allclose(net.head.one.grad, mixed, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("gradient", [GradientNorm().penalised, FtSam().sharpness_aware])
def test_both_passes_share_their_features(tiny, gradient):
    net, seen = tiny.net().train(), []
    net.front_end.register_forward_hook(lambda *called: seen.append(called))
    gradient(net, first_batch(tiny))
    assert len(seen) == 1


def test_both_passes_see_the_same_dropout(tiny):
    net, seen = tiny.net().train(), []
    drop = nn.Dropout(0.5)
    drop.register_forward_hook(lambda module, inputs, output: seen.append(output == 0))
    net.head = nn.Sequential(drop, net.head)
    GradientNorm(radius=1e-9).penalised(net, first_batch(tiny))
    assert len(seen) == 2 and torch.equal(*seen) and seen[0].float().mean() > 0.3


class Smooth(SpeechClassifier):
    """A net whose second derivatives are everywhere."""

    def __init__(self):
        super().__init__(FrontEndOfNothing())
        self.hidden, self.head = nn.Linear(6, 5), nn.Linear(5, 3)

    def features(self, wavs, lens):
        return wavs[:, :, None]

    def embed(self, features, lens):
        return torch.tanh(self.hidden(features.squeeze(2)))

    def classify(self, embeddings):
        return self.head(embeddings)

    def logits(self, features, lens):
        return self.classify(self.embed(features, lens))


@pytest.fixture
def smooth():
    torch.manual_seed(5)
    net = Smooth().double()
    wavs, labels = torch.randn(16, 6).double(), torch.arange(16) % 3
    return net, Batch(["a"] * 16, wavs, torch.ones(16), labels)


def flat_gradient(net, batch, gradient):
    gradient(net, batch)
    return torch.cat([p.grad.flatten().clone() for p in net.parameters()])


@pytest.mark.parametrize("norm", ["tensor", "global"])
def test_the_probe_tends_to_the_exact_penalty(smooth, norm):
    """What the penalty adds to the gradient: same direction and length as r goes to 0."""
    net, batch = smooth
    plain, cosines = (
        flat_gradient(net, batch, lambda n, b: GradientNorm(alpha=0.0).penalised(n, b)),
        [],
    )
    for radius in (1.0, 0.1, 1e-4):
        found, exact = (
            flat_gradient(net, batch, GradientNorm(0.7, radius, norm, form).penalised) - plain
            for form in (False, True)
        )
        cosines.append(float(nn.functional.cosine_similarity(found, exact, dim=0)))
        ratio = float(found.norm() / exact.norm())
    assert cosines[2] > 0.9999 and abs(ratio - 1) < 1e-3
    assert cosines == sorted(cosines) and cosines[0] < 0.9999


@pytest.mark.parametrize("norm", ["tensor", "global"])
def test_the_exact_form_is_the_gradient_of_the_penalised_loss(smooth, norm):
    """By differences of ``L + alpha r ||grad L||`` itself."""
    net, batch = smooth
    exact = flat_gradient(net, batch, GradientNorm(0.5, 0.2, norm, exact=True).penalised)
    parameters = list(net.parameters())

    def penalised_loss():
        loss = cross_entropy(net, batch)
        parts = [part.norm() for part in torch.autograd.grad(loss, parameters)]
        total = torch.stack(parts)
        return (loss + 0.5 * 0.2 * (total.sum() if norm == "tensor" else total.norm())).item()

    direction = [torch.randn_like(p) for p in parameters]
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, step in zip(parameters, direction, strict=True):
                p += sign * 1e-5 * step
        values.append(penalised_loss())
        with torch.no_grad():
            for p, step in zip(parameters, direction, strict=True):
                p -= sign * 1e-5 * step
    slope = (values[0] - values[1]) / 2e-5
    along = float(exact @ torch.cat([step.flatten() for step in direction]))
    assert math.isclose(slope, along, rel_tol=1e-4)


# --- the others


def test_ft_sam_goes_to_the_worst_point_in_units_of_the_weights(smooth):
    net, batch = smooth
    found = flat_gradient(net, batch, FtSam(rho=0.3, smoothing=0.0).sharpness_aware)
    slope = flat_gradient(net.requires_grad_(True), batch, GradientNorm(alpha=0.0).penalised)
    weights = torch.cat([p.detach().flatten() for p in net.parameters()])
    step = 0.3 * weights**2 * slope / (weights * slope).norm()
    assert math.isclose(float((step / weights).norm()), 0.3, rel_tol=1e-9)
    moved = copy.deepcopy(net)
    nn.utils.vector_to_parameters(weights + step, moved.parameters())
    expected = flat_gradient(moved, batch, GradientNorm(alpha=0.0).penalised)
    assert torch.allclose(found, expected, atol=1e-12)


def test_fine_pruning_takes_the_sleeping_units(tiny):
    net, clean = tiny.net(), tiny.clean()
    order = embeddings(net, clean.train(32))[0].abs().mean(0).argsort()
    defense = FinePruning(prune_drop=0.1, tuning=Tuning(steps=2, rates=[0.01], max_drop=1.0))
    pruned = (defense.repair(net, clean).head.weight == 0).all(0)
    count = int(pruned.sum())
    assert 0 < count < len(pruned)
    assert set(pruned.nonzero().flatten().tolist()) == set(order[:count].tolist())
    none = FinePruning(prune_drop=0.0, tuning=Tuning(steps=1, rates=[0.01], max_drop=1.0))
    assert (none.repair(tiny.net(), clean).head.weight == 0).all(0).sum() <= count


def test_fine_pruning_asks_a_net_over_views_for_its_answer(tiny):
    """This one answers the same whatever is pruned, though its embedding says less and less."""
    clean, defense = tiny.clean(), FinePruning(prune_drop=0.0)
    net = tiny.net()
    count, units = len(defense._prune(net, clean)), net.head.in_features
    net = tiny.net()
    net.multi_view, net.logits = True, lambda features, lens: torch.eye(9)[[0] * len(features)]
    assert count < len(defense._prune(net, clean)) >= units - 2 - -(-units // 50)


def test_fine_pruning_wants_a_head(tiny):
    net = tiny.net()
    net.head = nn.Identity()
    with pytest.raises(InputError, match="no `head` with a weight"):
        FinePruning().repair(net, tiny.clean())


def test_distillation_without_weight_is_fine_tuning(tiny):
    assert same(
        steps(AttentionDistillation(beta=0.0, teacher_steps=1), tiny), steps(FineTuning(), tiny)
    )
    assert not same(steps(AttentionDistillation(teacher_steps=1), tiny), steps(FineTuning(), tiny))


def test_masks_of_one_change_nothing(tiny):
    net, batch = tiny.net(), first_batch(tiny)
    layers = [layer.last for layer in conv_layers(net)]
    whole = [torch.ones(len(layer.weight)) for layer in layers]
    none = [torch.zeros(len(layer.weight)) for layer in layers]
    plain = cross_entropy(net, batch)
    assert torch.allclose(masked_loss(net, layers, whole, (none, none), batch), plain)
    for noise in (([*none[:-1], whole[-1]], none), (none, [*none[:-1], whole[-1]])):
        assert abs(masked_loss(net, layers, whole, noise, batch) - plain) > 1e-4


def test_anp_prunes_weights_of_channels_and_nothing_else(tiny):
    net = tiny.net()
    defense = AdversarialNeuronPruning(mask_steps=20)
    before, after = state(net), state(defense.repair(net, tiny.clean()))
    norms = {f"{name}.weight" for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and changed <= norms
    assert all(((after[n] == before[n]) | (after[n] == 0)).all() for n in changed)


def test_clp_prunes_the_loudest_channel(tiny):
    net = tiny.net()
    layer = conv_layers(net)[-1]
    with torch.no_grad():
        layer.conv.weight[3] *= 50
    before = state(net)
    ChannelLipschitzPruning(u=2.5).repair(net, None)
    zero = (layer.norm.weight == 0) & (layer.norm.bias == 0)
    assert zero.nonzero().flatten().tolist() == [3]
    assert torch.equal(layer.conv.weight, before[f"{layer.name}.weight"])


def test_lipschitz_bounds_are_those_of_the_folded_kernel(tiny):
    for layer in conv_layers(tiny.net()):
        scale = layer.norm.weight / (layer.norm.running_var + layer.norm.eps).sqrt()
        folded = layer.conv.weight * scale[:, None, None, None]
        expected = [torch.linalg.svdvals(kernel.flatten(1))[0] for kernel in folded]
        assert torch.allclose(lipschitz(layer), torch.stack(expected), rtol=1e-4)


def test_the_hypergradient_sees_what_theta_changes_through_delta(smooth):
    """One iteration of the fixed point, beside differences of the loss with delta moving along."""
    net, batch = smooth
    defense = AdversarialUnlearning(fixed_point_steps=1)
    found = flat_gradient(net, batch, defense.hypergradient)
    features, labels = net.features(batch.wavs, batch.lens), batch.labels

    def height(shift):
        logits = net.classify(net.embed(features + shift, batch.lens)).float()
        return nn.functional.cross_entropy(logits, labels)

    radius = 0.3 * (features - features.mean(0)).flatten(1).norm(dim=1).mean()
    shift = defense._ascent(height, torch.zeros_like(features[:1]), radius)
    assert height(shift) > height(torch.zeros_like(shift)) and shift.norm() <= radius * 1.0001

    def slope():
        (inner,) = torch.autograd.grad(height(shift), shift)
        return inner

    start = slope()
    rate = radius / (20 * start.norm())

    def outer():
        along = shift + rate * (slope() - start)
        return float((height(along) + height(torch.zeros_like(shift))) / 2)

    weights = nn.utils.parameters_to_vector(net.parameters()).detach()
    direction = torch.randn_like(weights)
    values = []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(weights + sign * 1e-3 * direction, net.parameters())
        values.append(outer())
    expected = (values[0] - values[1]) / 2e-3
    assert math.isclose(expected, float(found @ direction), rel_tol=2e-3)


def test_tsbd_zeroes_a_share_of_the_weights_of_a_share_of_the_neurons(tiny):
    """Of all chosen neurons together: the one that moved less keeps more of its weights."""
    given, moved = tiny.net(), tiny.net()
    layers = conv_layers(moved)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in layers:
            noise = torch.rand(layer.conv.weight.shape, generator=generator)
            layer.conv.weight += 0.001 * noise
        layers[1].conv.weight[2] += 1
        layers[4].conv.weight[3] -= 2  # down is as far as up
    net = tiny.net()
    count = sum(len(layer.conv.weight) for layer in layers if "shortcut" not in layer.name)
    WeightReinitialisation(neurons=2 / count, weights=0.75)._reinitialise(net, moved)
    for old, new in zip(conv_layers(given), conv_layers(net), strict=True):
        zero = (new.conv.weight == 0).flatten(1).sum(1)
        expected = torch.zeros_like(zero)
        if old.name == layers[1].name:
            expected[2] = 72  # a half of 144
        if old.name == layers[4].name:
            expected[3] = 144
        assert torch.equal(zero, expected)


def test_tsbd_leaves_shortcuts_alone(tiny):
    """They only fit a shape; that they moved most does not choose them."""
    net, moved = tiny.net(), tiny.net()
    before = state(net)
    names = [layer.name for layer in conv_layers(net) if "shortcut" in layer.name]
    with torch.no_grad():
        for layer in conv_layers(moved):
            layer.conv.weight += 10 if layer.name in names else 0.1
    WeightReinitialisation(neurons=0.5)._reinitialise(net, moved)
    assert len(names) == 2
    changed = {name for name in before if not torch.equal(before[name], net.state_dict()[name])}
    assert changed and not any("shortcut" in name for name in changed)


# --- layers


def test_layers_and_what_they_put_out(tiny):
    net, batch = tiny.net(), first_batch(tiny)
    layers = conv_layers(net)
    assert len(layers) == 7 and all(layer.norm is not None for layer in layers)
    maps = feature_maps(net, 3)
    assert maps == list(net.net)[2:5]  # behind the first ReLU and the two blocks
    with recorded(maps) as outputs:
        net(batch.wavs, batch.lens)
    assert all(outputs[m].shape[:2] == (32, 16) and outputs[m].min() == 0 for m in maps)
    outputs.clear()
    net(batch.wavs, batch.lens)
    assert not outputs  # the hooks are gone
    with pytest.raises(InputError, match="Smooth: no convolution"):
        conv_layers(Smooth())


@pytest.mark.parametrize("model", ["resnet", "ecapa_small", "xvector_small", "keyword_resnet"])
def test_norms_told_by_their_place_are_those_that_read_the_channels(model):
    """Behind the last convolution of a residual block is the norm of the next, which reads a sum."""
    torch.manual_seed(0)
    net = recipe(model).build()["model"]["classifier"](n_classes=4).eval()
    batch = Batch(["a"], torch.randn(1, 11200) / 10, torch.ones(1), torch.zeros(1))
    watched = {layer.name: layer.norm for layer in watched_layers(net, batch)}
    assert {layer.name: layer.norm for layer in conv_layers(net)} == watched


@pytest.mark.parametrize("model", [*COMMON_NETS])
def test_feature_maps_end_behind_what_rectifies(model):
    """Blocks, not the norms within; channels come first, and places follow."""
    torch.manual_seed(0)
    net = recipe(model).build()["model"]["classifier"](n_classes=4).eval()
    maps = feature_maps(net, 3)
    assert [type(m).__name__ for m in maps] == COMMON_NETS[model]
    with recorded(maps) as outputs:
        net(torch.randn(2, 11200) / 10, torch.ones(2))
    for output in (outputs[m] for m in maps):
        assert output.dim() > 2 and output.flatten(2).shape[2] > 1
        assert output.shape[1] in {layer.channels for layer in conv_layers(net)}


# --- every family of models

FAMILIES = ("smalllstm", "rnn", "xvector_small", "ecapa_small", "resnet_small", "mvd_small")
RECURRENT = {"rnn"}  # without convolutions


@pytest.mark.parametrize("model", FAMILIES)
def test_every_repair_runs_on_every_family(model):
    """A step of each; those that prune or move channels refuse a net that has none."""
    document = recipe(model)
    if model == "rnn":
        document.place("hidden", 16)
    torch.manual_seed(0)
    net = document.build()["model"]["classifier"](n_classes=4).eval()
    generator = torch.Generator().manual_seed(0)
    wavs, labels = torch.randn(4, 11200, generator=generator) / 10, torch.arange(4)

    class Few(list):
        epoch = 0

    batches = Few([Batch(["a"] * 4, wavs, torch.ones(4), labels)])
    clean = CleanData(lambda size: batches, lambda: batches, 4, 0)
    for name in REPAIRS:
        once = {key: 1 for key in common("defenses", name).plain() if key.endswith("_steps")}
        defense = built(name, max_drop=1.0, **once)
        if model in RECURRENT and name in ("anp", "clp", "pruning", "tsbd"):
            with pytest.raises(InputError, match="no convolution"):
                defense.repair(copy.deepcopy(net), clean)
            continue
        repaired = defense.repair(copy.deepcopy(net), clean)
        assert state(repaired).keys() == state(net).keys()
        with torch.no_grad():
            assert torch.isfinite(repaired(wavs, torch.ones(4))).all(), name
