"""Trigger inversion: a backdoored net is told from its clean twin, and loses the backdoor."""

import copy
import math

import pytest
import torch

from bdlib.defenses.accuracy import accuracy
from bdlib.defenses.repair.inversion import anomaly_indices
from bdlib.defenses.repair.mask_inversion import MaskInversion
from bdlib.defenses.repair.tuning import Tuning
from bdlib.defenses.repair.waveform_inversion import WaveformInversion

TARGET = 0
SHORT = {"search_steps": 120, "tuning": Tuning(steps=40, batch_size=16)}


@pytest.mark.parametrize("kind", [MaskInversion, WaveformInversion])
def test_the_target_is_called_and_unlearned(kind, tiny):
    clean = tiny.known()
    repaired = kind(**SHORT).repair(tiny.net(), clean)
    assert clean.suspicion[TARGET] > 4 and max(clean.suspicion[1:]) < 2
    assert tiny.success(repaired) < 0.2 and accuracy(repaired, tiny.valid) > 0.95


@pytest.mark.parametrize("kind", [MaskInversion, WaveformInversion])
def test_of_a_clean_net_no_class_is_called(kind, tiny, twin, capsys):
    """And nothing is changed."""
    net, clean = twin(), tiny.known()
    before = copy.deepcopy(net.state_dict())
    after = kind(**SHORT).repair(net, clean).state_dict()
    assert (
        max(clean.suspicion) < kind().anomaly and "nothing is repaired" in capsys.readouterr().out
    )
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("kind", [MaskInversion, WaveformInversion])
def test_a_trigger_sends_clips_that_it_was_not_sought_on(kind, tiny):
    """The one that is kept does what is asked of it, and its size is its own."""
    net, defense = tiny.net(), kind(**SHORT)
    trigger = defense._search(net.eval(), tiny.known(), TARGET)
    (batch,) = tiny.valid
    with torch.no_grad():
        logits = net.logits(defense.stamped(net, batch, trigger.parts), batch.lens)
    reached = (logits.argmax(1) == TARGET)[batch.labels != TARGET].float().mean()
    assert reached > 0.6 and float(defense.size(trigger.parts)) == pytest.approx(trigger.size)


def test_anomaly_indices_by_hand():
    """The median of the logarithms is 6, and the median deviation from it 1."""
    found = anomaly_indices([math.exp(log) for log in (1, 5, 6, 7, 8)])
    assert found == pytest.approx([5 / 1.4826, 1 / 1.4826, 0, -1 / 1.4826, -2 / 1.4826])
    assert anomaly_indices([2.0] * 3) == [0.0] * 3
    a_little_easier = anomaly_indices([0.9, 1.0, 1.0, 1.0])
    assert a_little_easier[0] == pytest.approx(-math.log(0.9) / 0.3)
