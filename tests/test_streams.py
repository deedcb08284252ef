import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from faceforge import counter_rng
from faceforge.clock import Clock


def test_uniform_is_splitmix64_of_the_counter():
    """Against the reference recurrence, in plain Python integers."""
    mask = 2**64 - 1

    def mix(x):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    golden, start = 0x9E3779B97F4A7C15, counter_rng.key(3, "flip")
    row = mix((start + 8 * golden) & mask)
    expected = [mix((row + (j + 1) * golden) & mask) for j in range(3)]
    assert counter_rng.bits(3, "flip", [7], (3,))[0].tolist() == expected
    assert counter_rng.uniform(3, "flip", [7], (3,))[0, 0] == (expected[0] >> 11) / 2**53


@given(st.integers(0, 2**31), st.lists(st.integers(0, 10**12), min_size=1, max_size=20), st.integers(1, 5))
def test_draws_do_not_depend_on_the_batch(seed, counters, width):
    together = counter_rng.normal(seed, "z", counters, (width,))
    alone = np.concatenate([counter_rng.normal(seed, "z", [c], (width,)) for c in counters])
    assert np.array_equal(together, alone)


def test_distributions_and_independence():
    uniform = counter_rng.uniform(0, "a", np.arange(2000), (50,))
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(counter_rng.normal(0, "a", np.arange(2000), (50,)).ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(uniform[:-1].ravel(), uniform[1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(uniform[:, :-1].ravel(), uniform[:, 1:].ravel())[0, 1]) < 0.01
    other = counter_rng.uniform(0, "b", np.arange(2000), (50,))
    assert abs(np.corrcoef(uniform.ravel(), other.ravel())[0, 1]) < 0.01


def test_no_value_is_drawn_twice():
    """1e5 draws over four ranks: no z shared (REL-8)."""
    ranks = [
        counter_rng.bits(0, "z", np.arange(rank * 8, rank * 8 + 8) + 32 * step)
        for step in range(3125)
        for rank in range(4)
    ]
    assert len(np.unique(np.concatenate(ranks))) == 100_000


@pytest.mark.parametrize("n", [1, 7, 64])
def test_order_visits_everything_once_each_epoch(n):
    items = counter_rng.order(5, n, np.arange(3 * n))
    for epoch in range(3):
        assert sorted(items[epoch * n : (epoch + 1) * n]) == list(range(n))
    assert n < 7 or not np.array_equal(items[:n], items[n : 2 * n])
    assert np.array_equal(counter_rng.order(5, n, [2 * n, 0]), items[[2 * n, 0]])


def test_keys_differ_by_seed_and_by_every_word():
    keys = {
        counter_rng.key(0, "a", 1),
        counter_rng.key(1, "a", 1),
        counter_rng.key(0, "a1"),
        counter_rng.key(0, "a", 11),
        counter_rng.key(0, "b", 1),
    }
    assert len(keys) == 5


def test_clock_round_trip():
    clock = Clock()
    clock.images, clock.generator_steps, clock.seconds = 96, 3, 1.5
    other = Clock()
    other.load_state_dict(clock.state_dict())
    assert other.state_dict() == {"images": 96, "generator_steps": 3, "seconds": 1.5}


@given(st.integers(1, 9), st.integers(1, 3), st.lists(st.integers(-2, 3), min_size=1, max_size=60), st.integers(0, 99))
def test_what_is_drawn_ahead_is_what_is_asked_for(count, world, moves, first):
    """Steps forward, the same step again, jumps and ways back; the draws are those of single calls."""
    ahead = counter_rng.BatchedDraws(lambda counters: counter_rng.normal(5, "z", counters, (2, 3)))
    for move in moves:
        first = max(0, first + (1 if move < 2 else move - 2) * count * world)
        wanted = range(first, first + count)
        assert np.array_equal(ahead(wanted), counter_rng.normal(5, "z", list(wanted), (2, 3)))


def test_steps_that_follow_one_another_are_drawn_together():
    asked = []

    def draw(counters):
        asked.append(len(counters))
        return counter_rng.uniform(0, "x", counters)

    ahead = counter_rng.BatchedDraws(draw)
    for step in range(40):
        ahead(range(step * 4, step * 4 + 4))
    assert asked == [4, 64, 64, 64]
    ahead(range(8, 12))
    assert asked[-1] == 4
