"""Differences by attribute against loops over resamples, and how often one of many intervals misses."""

import numpy as np
import pytest

from faceforge.metrics.bootstrap import RESAMPLES, Resamples
from faceforge.metrics.group_gaps import gaps, people_on, sides


def test_sides_of_labels_and_of_numbers():
    labels = np.array([0, 1, np.nan, 1], np.float32)
    assert np.array_equal(sides(labels), labels, equal_nan=True)
    ages = np.array([20, 30, np.nan, 40, 50, 33], np.float32)
    assert np.array_equal(sides(ages), [0, 0, np.nan, 1, 1, 0], equal_nan=True)


def test_people_are_counted_on_each_side():
    side = np.array([1, 1, 0, np.nan, 1, 0, 0])
    assert people_on(side, ["a", "a", "a", "b", None, None, "c"]) == (2, 3)


def test_gaps_are_those_of_loops_over_the_same_resamples():
    random = np.random.default_rng(0)
    groups = [f"p{n // 3}" for n in range(90)]
    values = {"psnr": random.normal(20, 1, 90), "mae": random.normal(0.1, 0.01, 90)}
    attributes = {"Hat": (random.random(90) < 0.4).astype(float), "Young": (random.random(90) < 0.5).astype(float)}
    attributes["Hat"][:7] = np.nan
    found = gaps(values, attributes, groups, seed=3)
    assert [(gap.score, gap.attribute) for gap in found] == [(s, a) for s in values for a in attributes]
    who, unit = Resamples(groups, 3), np.arange(90) // 3
    draws = np.empty((RESAMPLES, 4))
    for n, gap in enumerate(found):
        value, side = values[gap.score], attributes[gap.attribute]
        assert gap.with_it == pytest.approx(value[side == 1].mean())
        assert gap.without == pytest.approx(value[side == 0].mean())
        for draw in range(RESAMPLES):
            weight = who._weights[draw][unit].astype(float)
            one, zero = weight * (side == 1), weight * (side == 0)
            draws[draw, n] = (one @ value) / one.sum() - (zero @ value) / zero.sum()
    errors, differences = draws.std(0), np.array([gap.difference for gap in found])
    c = np.quantile(np.abs((draws - differences) / errors).max(1), 0.95)
    assert np.allclose([gap.low for gap in found], differences - c * errors, rtol=1e-4)
    assert np.allclose([gap.high for gap in found], differences + c * errors, rtol=1e-4)
    assert np.allclose([gap.t for gap in found], differences / errors, rtol=1e-4)


def test_a_group_that_is_served_worse_is_seen_and_chance_is_not():
    """Thirty attributes without effect: any interval misses 0 in about one set in twenty."""
    alarms = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        groups = [f"p{n // 2}" for n in range(120)]
        value = np.repeat(random.normal(0, 1, 60), 2) + random.normal(0, 0.5, 120)  # faces of a person are alike
        attributes = {str(n): np.repeat(random.random(60) < 0.5, 2).astype(float) for n in range(30)}
        found = gaps({"mae": value}, attributes, groups, seed)
        alarms += any(gap.low > 0 or gap.high < 0 for gap in found)
        if seed == 0:
            harmed = gaps({"mae": value + 2 * attributes["4"]}, attributes, groups, seed)
            assert harmed[4].low > 0
    assert alarms <= 10  # expected 3; more than 10 has a chance of 0.1 %


def test_nothing_to_compare_is_no_gap():
    assert gaps({}, {"Hat": np.ones(3)}, ["a", "b", "c"], 0) == []
    assert gaps({"mae": np.ones(3)}, {}, ["a", "b", "c"], 0) == []
