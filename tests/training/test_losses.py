"""The angular margin against its formula."""

import math

import pytest
import torch

from bdlib.models.classifier import CosineHead
from bdlib.training.losses import AngularMarginLoss


def by_hand(cosines, labels, margin, scale):
    """-log softmax of s cos(theta + m) for the true class and s cos(theta) for the others."""
    total = 0.0
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        logits = [scale * cosine for cosine in row]
        logits[label] = scale * math.cos(math.acos(row[label]) + margin)
        total -= logits[label] - math.log(sum(math.exp(logit) for logit in logits))
    return total / len(labels)


@pytest.mark.parametrize(("margin", "scale"), [(0.2, 30.0), (0.5, 30.0), (0.2, 10.0), (0.0, 30.0)])
def test_by_hand(margin, scale):
    torch.manual_seed(0)
    cosines, labels = 1.8 * torch.rand(6, 4) - 0.9, torch.tensor([0, 1, 2, 3, 1, 1])
    found = AngularMarginLoss(margin, scale)(scale * cosines, labels)
    assert found.dim() == 0
    assert math.isclose(float(found), by_hand(cosines, labels, margin, scale), rel_tol=1e-4)


def test_no_margin_is_cross_entropy_and_a_margin_costs():
    torch.manual_seed(0)
    logits, labels = 30 * (1.6 * torch.rand(8, 5) - 0.8), torch.randint(5, (8,))
    plain = torch.nn.functional.cross_entropy(logits, labels)
    assert torch.allclose(AngularMarginLoss(0.0)(logits, labels), plain, rtol=1e-4)
    assert AngularMarginLoss(0.2)(logits, labels) > plain + 0.5


def test_gradient_is_finite_at_perfect_and_opposite_cosines():
    logits = torch.tensor([[30.0, -30.0], [-30.0, 30.0]], requires_grad=True)
    AngularMarginLoss()(logits, torch.tensor([0, 0])).backward()
    assert torch.isfinite(logits.grad).all()


def test_separates_classes_through_a_cosine_head():
    torch.manual_seed(0)
    head, loss = CosineHead(2, 3), AngularMarginLoss()
    points = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]]))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss(head(points), torch.arange(3)).backward()
        optimizer.step()
    assert torch.equal(head(points).argmax(1), torch.arange(3))
