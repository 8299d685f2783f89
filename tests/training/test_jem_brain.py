"""The losses of MVJ against brute force."""

import math

import pytest
import torch

from bdlib.training.jem_brain import (
    SemiSup,
    entropy_loss,
    generative_loss,
    plain_generative_loss,
)


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
