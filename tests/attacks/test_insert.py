"""A sound in a clip: where it lies, what it leaves alone, and the limits of [-1, 1]."""

from dataclasses import dataclass

import numpy as np
import pytest

from bdlib.attacks.insert import Insert
from bdlib.attacks.sounds import Sound
from bdlib.errors import InputError

RATE = 1000


@dataclass(frozen=True)
class Steps(Sound):
    """0.5 throughout, or the numbers given."""

    length: int = 40
    level: float = 0.5

    def synthesize(self):
        return np.full(self.length, self.level, np.float32), RATE


def clip(length=100, level=0.1):
    return (level * np.random.default_rng(0).uniform(-1, 1, length)).astype(np.float32)


def draw(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize(
    ("position", "begin"),
    [("start", 0), ("end", 60), (0, 0), (0.0, 0), (0.013, 13), (0.0134, 13), (0.06, 60)],
)
def test_every_sample_of_window_and_rest(position, begin):
    before = clip()
    after = Insert(Steps(), 0.4, position)(before, RATE, draw())
    wanted = before.copy()
    wanted[begin : begin + 40] += np.float32(0.4) * np.float32(0.5)
    assert np.array_equal(after, wanted)
    assert np.array_equal(before, clip())  # the clip given is not changed


def test_loud_sums_are_clipped_and_only_in_the_window():
    before = clip(level=0.99)
    for level in (0.9, -0.9):
        after = Insert(Steps(level=level), 1.0, 0.03)(before, RATE, draw())
        assert after.min() >= -1 and after.max() <= 1 and np.abs(after).max() == 1
        wanted = before.astype(np.float64)
        wanted[30:70] += np.float32(level)
        assert np.allclose(after, wanted.clip(-1, 1), atol=1e-6)
        assert after.dtype == np.float32


def test_the_level_of_the_clip_does_not_matter():
    quiet, loud = clip(level=0.001), clip(level=0.5)
    trigger = Insert(Steps(), 0.3)
    for before in (quiet, loud):
        assert np.allclose(trigger(before, RATE, draw())[:40] - before[:40], 0.15, atol=1e-6)


def test_random_places_are_uniform_over_all_that_fit():
    trigger, generator = Insert(Steps(), 1.0, "random"), draw()
    silence = np.zeros(43, np.float32)  # four places
    starts = [int(np.flatnonzero(trigger(silence, RATE, generator))[0]) for _ in range(2000)]
    assert set(starts) == {0, 1, 2, 3}
    assert all(abs(starts.count(place) - 500) < 80 for place in range(4))


def test_random_places_come_from_the_generator_alone():
    trigger = Insert(Steps(), 1.0, "random")
    first = trigger(clip(900), RATE, draw(5))
    np.random.seed(1)
    assert np.array_equal(first, trigger(clip(900), RATE, draw(5)))
    assert not np.array_equal(first, trigger(clip(900), RATE, draw(6)))


@pytest.mark.parametrize("position", ["start", "end", "random", 0.0])
def test_a_sound_as_long_as_the_clip_fits_and_one_longer_does_not(position):
    trigger = Insert(Steps(), 1.0, position)
    assert np.array_equal(trigger(np.zeros(40, np.float32), RATE, draw()), Steps().waveform(RATE))
    with pytest.raises(InputError, match=r"trigger of 40 samples .* fit a clip of 39; trim"):
        trigger(np.zeros(39, np.float32), RATE, draw())


@pytest.mark.parametrize("position", [0.061, -0.001, 9.0])
def test_places_outside_are_refused(position):
    with pytest.raises(InputError, match=f"at {round(1000 * position)} does not fit a clip of 100"):
        Insert(Steps(), 1.0, position)(clip(), RATE, draw())


def test_seconds_are_seconds_at_any_rate():
    after = Insert(Steps(), 1.0, 0.25)(np.zeros(2000, np.float32), 2000, draw())
    loud = np.flatnonzero(np.abs(after) > 0.25)
    assert abs(loud[0] - 500) <= 2 and abs(loud[-1] - 579) <= 2
