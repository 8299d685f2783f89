"""Learning rates: ends, peaks and steps at their places."""

import itertools
import math
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml

from bdlib.training.schedule import Constant, Cyclic, Linear, OneCycle, Staircase

TOTAL = 26 * 100
RECIPE = Path(__file__).parents[2] / "recipes" / "SpeechCommands" / "hparams"


def curve(schedule, total=TOTAL):
    return [schedule(step, total) for step in range(total)]


@pytest.mark.parametrize("make", [Constant, Linear, OneCycle, Staircase, Cyclic])
@pytest.mark.parametrize("total", [1, 2, 7, TOTAL])
def test_rates_scale_with_lr_and_stay_positive(make, total):
    rates, doubled = curve(make(0.01), total), curve(make(0.02), total)
    assert all(0 < rate <= 0.01 * (1 + 1e-9) for rate in rates)
    pairs = zip(rates, doubled, strict=True)
    assert all(math.isclose(2 * a, b, rel_tol=1e-2, abs_tol=2e-8) for a, b in pairs)


def test_constant():
    assert set(curve(Constant(0.01))) == {0.01}


def test_linear_goes_straight_from_lr_to_a_tenth():
    rates = curve(Linear(0.01))
    assert rates[0] == 0.01 and math.isclose(rates[-1], 0.001)
    steps = [b - a for a, b in itertools.pairwise(rates)]
    assert max(steps) - min(steps) < 1e-12 and steps[0] < 0


def test_one_cycle_rises_for_three_tenths_and_falls_to_nothing():
    rates = curve(OneCycle(0.01), 1000)
    assert math.isclose(rates[0], 0.04 * 0.01)
    assert rates.index(max(rates)) == 300 and rates[300] == 0.01
    assert rates[:301] == sorted(rates[:301]) and rates[300:] == sorted(rates[300:], reverse=True)
    assert rates[-1] < 2e-4 * 0.01
    # Half way up and half way down a cosine is in the middle of its range.
    assert math.isclose(rates[150], 0.01 * (1 + 0.04) / 2)
    assert math.isclose(rates[650], 0.01 * (1 + 1e-4) / 2)


@pytest.mark.parametrize("make", [Linear, OneCycle, Cyclic])
def test_no_jumps(make):
    rates = curve(make(1.0), 1000)
    assert max(abs(b - a) for a, b in itertools.pairwise(rates)) < 0.01


def test_a_staircase_without_warm_up():
    assert curve(Staircase(7e-5, warmup=0.0))[0] == 7e-5


def test_staircase_multiplies_by_six_tenths_at_seven_milestones():
    rates = curve(Staircase(7e-5))
    milestones = [5, 8, 11, 14, 17, 20, 23]
    for number, epoch in enumerate(milestones):
        assert math.isclose(rates[epoch * 100 - 1], 7e-5 * 0.6**number)
        assert math.isclose(rates[epoch * 100], 7e-5 * 0.6 ** (number + 1))
    assert math.isclose(rates[-1], 7e-5 * 0.6**7)
    drops = [i for i in range(200, TOTAL) if rates[i] < 0.99 * rates[i - 1]]
    assert drops == [100 * epoch for epoch in milestones]


def test_staircase_warms_up_over_the_first_1000_of_26_times_1336_steps():
    rates = curve(Staircase(7e-5), 26 * 1336)
    assert math.isclose(rates[0], 7e-5 / 1000)
    assert math.isclose(rates[499], 7e-5 / 2)
    assert rates[998] < 7e-5 * 0.9995 and math.isclose(rates[999], 7e-5)
    assert math.isclose(rates[2000], 7e-5)


def test_jem_warms_up_over_the_first_1000_of_200_times_1336_steps():
    """And multiplies by 0.3 at 160 and 180 epochs."""
    with (RECIPE / "jem.yaml").open() as file:
        schedule = load_hyperpyyaml(file)["model"]["schedule"](1e-4)
    total = 200 * 1336
    assert schedule(998, total) < 1e-4 * 0.9995 and math.isclose(schedule(999, total), 1e-4)
    assert math.isclose(schedule(499, total), 1e-4 / 2, rel_tol=1e-4)
    assert math.isclose(schedule(160 * 1336 - 1, total), 1e-4)
    assert math.isclose(schedule(160 * 1336, total), 3e-5)
    assert math.isclose(schedule(180 * 1336, total), 9e-6)


@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_cyclic_draws_its_triangles(cycles):
    rates = curve(Cyclic(0.01, cycles), 600)
    width = 600 // cycles
    tops = [i for i in range(1, 599) if rates[i - 1] < rates[i] > rates[i + 1]]
    assert tops == [width // 2 + cycle * width for cycle in range(cycles)]
    assert all(math.isclose(rates[top], 0.01) for top in tops)
    assert all(math.isclose(rates[cycle * width], 1e-8, abs_tol=1e-12) for cycle in range(cycles))
    assert math.isclose(rates[width // 4], 0.005, rel_tol=1e-3)
