"""How many clips of a called class are poisoned: bounds that hold, and that are not wide for nothing."""

import numpy as np
import pytest

from bdlib.scanning.amount import bounds

LINE = -0.3


def clean(share, seed, clips=400):
    """Scores of which this share is thinly spread between the line and 0.8."""
    draws = np.random.Generator(np.random.PCG64(seed))
    scores = draws.uniform(-1, LINE, clips)
    high = round(share * clips)
    scores[:high] = draws.uniform(LINE, 0.8, high)
    return scores


OTHERS = [clean(share, seed) for seed, share in enumerate((0.03, 0.04, 0.05, 0.06, 0.06, 0.09))]


@pytest.mark.parametrize("share", [0.02, 0.11])  # less and more than any other class
def test_a_class_is_confused_more_easily_than_the_others(share):
    low, high = bounds(np.append(clean(share, 9), np.full(77, 0.9)), OTHERS, LINE)
    assert 60 < low <= 77 <= high < 180


def test_poison_that_hides_below_the_line():
    hidden = np.random.Generator(np.random.PCG64(7)).normal(0.1, 0.35, 200).clip(-1, 1)
    seen = int((hidden > LINE).sum())
    low, high = bounds(np.append(clean(0.02, 9), hidden), OTHERS, LINE)
    assert seen < 200 and low <= 200 <= high


def test_where_all_classes_are_called_nothing_is_known():
    assert bounds(np.append(clean(0.05, 9), np.full(77, 0.9)), [], LINE) == (1, 477)
