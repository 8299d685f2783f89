"""How far answers moved, against a sum written out by hand."""

import math

import pytest
import torch

from bdlib.checkpoints.moved import moved


def test_the_divergence_of_answers_from_those_before():
    before, after = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([[0.8, 0.2], [0.9, 0.1]])
    by_hand = 0.5 * (math.log(0.5 / 0.8) + math.log(0.5 / 0.2)) / 2  # of the second clip nothing
    assert moved(before.log(), after.log()) == pytest.approx(by_hand, rel=1e-5)
    assert moved(before.log(), before.log()) == 0
    assert moved(after.log(), before.log()) != pytest.approx(by_hand, rel=1e-2)
