"""The losses of MVJ against brute force."""

import math

import pytest
import speechbrain as sb
import torch

from bdlib.corpus import Batch
from bdlib.features import NormalizedFbank
from bdlib.models.wide_resnet import WideResNet
from bdlib.training.classifier_brain import Training
from bdlib.training.jem_brain import (
    SemiSup,
    ViewBrain,
    entropy_loss,
    generative_loss,
    plain_generative_loss,
)
from bdlib.training.schedule import Constant
from bdlib.training.sgld import SgldSettings


def by_hand(logits, labels):
    """-log p(x|y) of each real row, its partition a plain sum over all rows, averaged."""
    total = 0.0
    for row, label in enumerate(labels.tolist()):
        partition = sum(math.exp(logits[j, label]) for j in range(len(logits)))
        total -= math.log(math.exp(logits[row, label]) / partition)
    return total / len(labels)


def test_balanced_loss_by_hand_and_by_class_counts():
    torch.manual_seed(1)
    logits, labels = torch.randn(9, 4, dtype=torch.float64), torch.tensor([0, 0, 1, 3, 3, 3])
    found = generative_loss(logits, labels)
    assert abs(float(found) - by_hand(logits, labels)) < 1e-9
    counts = torch.bincount(labels, minlength=4)
    published = (counts * logits.logsumexp(0)).sum() - logits[range(6), labels].sum()
    assert torch.allclose(found, published / 6)


def test_no_samples_and_equal_logits_give_log_batch_size():
    labels = torch.tensor([0, 1, 2, 0, 1])
    assert math.isclose(
        float(generative_loss(torch.full((5, 3), 2.0), labels)), math.log(5), rel_tol=1e-6
    )


def test_very_unlikely_samples_change_nothing():
    torch.manual_seed(2)
    real, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    with_samples = torch.cat([real, torch.full((4, 3), -1e4)])
    assert torch.equal(generative_loss(real, labels), generative_loss(with_samples, labels))


def test_gradient_of_eq_4_on_a_tiny_net():
    """Automatic gradient of CE plus the balanced term against finite differences of brute force."""
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)
    ).double()
    rows, labels = torch.randn(7, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])

    def brute():
        with torch.no_grad():
            logits = net(rows)
            probabilities = logits[:4].softmax(1)[range(4), labels]
            return float(-probabilities.log().mean()) + by_hand(logits, labels)

    logits = net(rows)
    loss = torch.nn.functional.cross_entropy(logits[:4], labels) + generative_loss(logits, labels)
    loss.backward()
    for parameter in net.parameters():
        flat = parameter.data.view(-1)
        for place in range(len(flat)):
            old = flat[place].item()
            flat[place] = old + 1e-6
            above = brute()
            flat[place] = old - 1e-6
            slope = (above - brute()) / 2e-6
            flat[place] = old
            assert abs(slope - parameter.grad.view(-1)[place].item()) < 1e-6


def test_plain_jem_pushes_real_up_and_samples_down():
    logits = torch.zeros(5, 3, requires_grad=True)
    plain_generative_loss(logits, torch.tensor([0, 1, 2])).backward()
    assert (logits.grad[:3] < 0).all() and (logits.grad[3:] > 0).all()
    assert math.isclose(float(logits.grad.sum()), 0, abs_tol=1e-6)


def test_gamma_goes_from_a_tenth_to_0_475():
    gammas = [SemiSup().gamma(epoch) for epoch in range(26)]
    assert math.isclose(gammas[0], 0.1) and math.isclose(gammas[-1], 0.475)


def test_entropy_term():
    """For MVD it is the mean entropy; for MVJ each class adds -log p(x|c) - log p(c)."""
    torch.manual_seed(4)
    logits = torch.randn(6, 3, dtype=torch.float64)
    belief = logits[:4].softmax(1)
    entropy = -(belief * belief.log()).sum(1).mean()
    assert torch.allclose(entropy_loss(logits, 4, None), entropy)
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    total = 0.0
    for i in range(4):
        for c in range(3):
            given = logits[i, c] - logits[:, c].logsumexp(0)
            total += belief[i, c] * (-belief[i, c].log() - given - prior[c])
    assert torch.allclose(entropy_loss(logits, 4, prior), total / 4)


@pytest.mark.parametrize("detach", [False, True])
def test_beliefs_pass_gradients_unless_detached(detach):
    """Held beliefs are a cross entropy to themselves, whose gradient is nothing."""
    torch.manual_seed(5)
    logits = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    entropy_loss(logits, 1, None, detach).backward()
    belief = logits.detach().softmax(1)
    surprise = -belief.log()
    flows = belief * (surprise - (belief * surprise).sum())
    assert torch.allclose(logits.grad, torch.zeros_like(flows) if detach else flows)


SGLD = SgldSettings(samples=3, steps=2, more_steps=1, buffer=6, class_buffer=4)
COUNTS = (18, 12, 6)  # of the training labels


@pytest.fixture
def brain_of(tones, tmp_path):
    """A brain that was told such label counts."""

    def make(**settings):
        torch.manual_seed(0)
        train, net = tones.train(), WideResNet(NormalizedFbank(8, 8000), 3, depth=10, width=1)
        train.counts = torch.tensor(COUNTS)
        cross_entropy = torch.nn.functional.cross_entropy
        training = Training(26, 6, torch.optim.Adam, 9, 0, 5.0, Constant(0.01), cross_entropy)
        run_opts = {"device": "cpu", "noprogressbar": True}
        return ViewBrain(net, training, train, tmp_path, 0, run_opts, **settings)

    return make


def a_batch():
    torch.manual_seed(7)
    labels = torch.tensor([0, 0, 2, 1, 0, 2])
    return Batch(list("abcdef"), torch.randn(6, 5600) / 10, torch.ones(6), labels)


def whole_loss(logits, labels, gamma, generative):
    """Eq. 8 of the rows that have a label, sum by sum; the other rows are samples."""
    rows, classes = logits.tolist(), range(3)
    supervised = unlabelled = 0.0
    for row, label in zip(rows, labels.tolist(), strict=False):
        partition = sum(math.exp(q) for q in row)
        for c in classes:
            belief = math.exp(row[c]) / partition
            loss, doubted = -math.log(belief), -math.log(belief)  # L_pyx
            if generative:
                of_class = sum(math.exp(other[c]) for other in rows)
                loss -= math.log(math.exp(row[c]) / of_class)  # L_pxy
                doubted = loss - math.log(COUNTS[c] / sum(COUNTS))
            supervised += loss if c == label else 0.0
            unlabelled += belief * doubted
    return ((1 - gamma) * supervised + gamma * unlabelled) / len(labels)


@pytest.mark.parametrize(("epoch", "gamma"), [(1, 0.1), (11, 0.25), (26, 0.475)])
@pytest.mark.parametrize("semi", [None, SemiSup(), SemiSup(0.0, 0.0)])
@pytest.mark.parametrize("sgld", [None, SGLD])
def test_whole_loss_of_a_step_by_hand(brain_of, sgld, semi, epoch, gamma):
    """MVD and MVJ, trusting the labels or not; gamma counts epochs from 0, SpeechBrain from 1."""
    brain, batch = brain_of(sgld=sgld, semi=semi), a_batch()
    brain.counter.current = epoch
    logits = 2 * torch.randn(9 if sgld else 6, 3)
    gamma = gamma if semi and semi.step else 0.0
    found = brain.compute_objectives(logits, batch, sb.Stage.TRAIN)
    expected = whole_loss(logits, batch.labels, gamma, generative=sgld is not None)
    assert math.isclose(float(found), expected, rel_tol=1e-5)


def test_validation_has_the_plain_loss(brain_of):
    brain, batch, logits = brain_of(sgld=SGLD, semi=SemiSup()), a_batch(), torch.randn(6, 3)
    brain.correct = brain.total = 0
    found = brain.compute_objectives(logits, batch, sb.Stage.VALID)
    assert torch.equal(found, torch.nn.functional.cross_entropy(logits, batch.labels))
    assert brain.total == 6


@pytest.mark.parametrize("bf16", [False, True])
def test_a_step_sees_the_views_and_then_the_samples(brain_of, bf16):
    """The last rows are of what the sampler wrote back; under autocast all is float32 still."""
    brain, batch = brain_of(sgld=SGLD), a_batch()
    before = brain.sampler.classes.clone(), brain.sampler.free.clone()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = brain.compute_forward(batch, sb.Stage.TRAIN)
        loss = brain.compute_objectives(logits, batch, sb.Stage.TRAIN)
        after = brain.sampler.classes, brain.sampler.free
        kept = [x[(x != y).any((-1, -2))] for x, y in zip(after, before, strict=True)]
        drawn = brain.classifier.view_logits(torch.cat(kept)).squeeze(1)
    assert logits.shape == (9, 3) and logits.dtype == loss.dtype == torch.float32
    distance = torch.cdist(logits, drawn).min(1).values
    assert (distance[6:] < 1e-2).all() and (distance[:6] > 2e-2).all()


class Around(torch.nn.Module):
    """What compiles a network, as torch does: its `forward` alone, and not what it calls beside it."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, []

    def forward(self, views, lens):
        self.seen.append((len(views), any(p.requires_grad for p in self.net.parameters())))
        return self.net(views, lens)


@pytest.mark.parametrize("sgld", [None, SGLD], ids=["mvd-semisup", "mvj"])
def test_every_pass_of_a_step_goes_through_what_compiles(brain_of, sgld):
    """Langevin steps without gradients for parameters, which a compiled network would compute."""
    brain, batch = brain_of(sgld=sgld, semi=SemiSup()), a_batch()
    around = brain.modules["classifier"] = Around(brain.classifier)
    logits = brain.compute_forward(batch, sb.Stage.TRAIN)
    chain = [(SGLD.samples, False)] * (SGLD.steps + 1) if sgld else []
    assert around.seen == [*chain, (len(logits), True)]
