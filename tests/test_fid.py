"""FID against Gaussians by hand, scipy's root of a matrix and deletions made one by one; coverage of intervals."""

import numpy as np
import pytest
import torch
from scipy import linalg

from faceforge.metrics.fid import fid


def points(n, d, shift=0.0, scale=1.0, seed=0):
    return torch.from_numpy(scale * np.random.default_rng(seed).normal(size=(n, d)) + shift)


def by_scipy(x, y):
    """The definition, with the root of a product of covariances."""
    x, y = x.numpy().astype(np.float64), y.numpy().astype(np.float64)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(a @ b)
    gap = x.mean(0) - y.mean(0)
    return float(gap @ gap + np.trace(a) + np.trace(b) - 2 * np.trace(root).real)


def by_eigenvalues(x, y):
    """The same where the root does not exist: fewer points than dimensions."""
    x, y = x.numpy().astype(np.float64), y.numpy().astype(np.float64)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(a @ b).real, 0)).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * roots)


def test_normal_densities_by_hand():
    """In one dimension (m - m')^2 + (s - s')^2; in several with independent axes their sum."""
    x, y = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[3.0], [5.0], [7.0], [5.0]])
    s, t = 1.0, (8 / 3) ** 0.5
    assert fid(x, y).value == pytest.approx((1 - 5) ** 2 + (s - t) ** 2)
    corners = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    wide = corners * torch.tensor([3.0, 5.0]) + torch.tensor([1.0, 2.0])
    axis = (2 / 3) ** 0.5
    assert fid(corners, wide).value == pytest.approx(1 + 4 + (2 * axis) ** 2 + (4 * axis) ** 2)


@pytest.mark.parametrize(("n", "m", "d"), [(40, 31, 6), (25, 90, 11), (9, 8, 3)])
def test_it_is_the_definition_with_more_points_than_dimensions(n, m, d):
    x, y = points(n, d), points(m, d, 0.3, 1.7, seed=1)
    assert fid(x, y).value == pytest.approx(by_scipy(x, y), rel=1e-9)
    assert fid(y, x).value == pytest.approx(fid(x, y).value, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(7, 5, 30), (6, 40, 13), (40, 6, 13), (13, 13, 13)])
def test_fewer_points_than_dimensions_are_no_special_case(n, m, d):
    x, y = points(n, d), points(m, d, 0.3, 1.7, seed=1)
    score = fid(x, y)
    assert score.value == pytest.approx(by_eigenvalues(x, y), rel=1e-6)
    assert "fewer images than the" in score.protocol["caution"]


def test_the_ends_of_the_scale():
    x = points(50, 4)
    assert fid(x, x).value == pytest.approx(0, abs=1e-10)
    assert fid(x, x + 2).value == pytest.approx(4 * 2**2)
    same = torch.zeros(20, 4)
    score = fid(x, same)  # one face repeated: the other set's spread and distance
    assert score.value == pytest.approx(float((x.mean(0) ** 2).sum() + x.var(0).sum()))
    assert score.low <= score.value <= score.high
    assert "caution" not in fid(x, x).protocol


@pytest.mark.parametrize(
    ("n", "m", "d", "people"),
    [
        (12, 9, 4, None),
        (6, 7, 11, None),  # every deletion takes a dimension away
        (5, 30, 9, None),
        (14, 8, 3, [0, 0, 0, 1, 2, 2, None, None, 3, 3, 3, 3, 4, 5]),
        (14, 8, 20, [0, 0, 0, 1, 2, 2, None, None, 3, 3, 3, 3, 4, 5]),
        (30, 8, 6, [0] * 20 + [1] * 7 + [2, 3, 3]),  # a person with most of the images
    ],
)
def test_deletions_are_those_made_one_by_one(n, m, d, people):
    x, y = points(n, d), points(m, d, 0.5, 1.3, seed=1)
    score = fid(x, y, people)
    labels = [(k,) if who is None else who for k, who in enumerate(people or [None] * n)]
    value = fid(x, y).value
    kept = [[k for k in range(n) if labels[k] != who] for who in dict.fromkeys(labels)]
    expected = [by_eigenvalues(x[k], y) - value for k in kept]
    assert score.parts["without_real"].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6 * value)
    expected = [by_eigenvalues(x, torch.cat([y[:k], y[k + 1 :]])) - value for k in range(m)]
    assert score.parts["without_fake"].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6 * value)


def test_the_interval_is_of_the_jackknife():
    x, y = points(30, 3), points(20, 3, 0.5, seed=1)
    score = fid(x, y)
    variance = sum(
        (len(part) - 1) / len(part) * float(((part - part.mean()) ** 2).sum()) for part in score.parts.values()
    )
    assert score.high - score.value == pytest.approx(1.96 * variance**0.5)
    assert score.value - score.low == pytest.approx(1.96 * variance**0.5)


@pytest.mark.parametrize(("n", "m", "d", "shift"), [(60, 40, 5, 0.5), (100, 100, 5, 0.0), (20, 30, 25, 0.3)])
def test_intervals_cover_what_other_samples_of_these_sizes_give(n, m, d, shift):
    """Also with fewer points than dimensions; the truth is the mean over many samples of the same sizes."""
    scores = [fid(points(n, d, seed=k), points(m, d, shift, seed=10_000 + k)) for k in range(200)]
    truth = np.mean([score.value for score in scores])
    assert np.mean([score.low <= truth <= score.high for score in scores]) >= 0.92
    spread = np.std([score.value for score in scores])
    assert np.median([score.high - score.value for score in scores]) < 1.96 * 2 * spread  # nor much too wide


def test_people_widen_the_interval():
    x, y = points(20, 3).repeat_interleave(4, 0), points(60, 3, 0.2, seed=1)
    people = [k // 4 for k in range(80)]
    alone, grouped = fid(x, y), fid(x, y, people)
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 1.3 * (alone.high - alone.low)
    assert grouped.protocol["units"] == "20 and 60 groups"


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="3 independent images"):
        fid(points(5, 4), points(2, 4))
    with pytest.raises(ValueError, match="3 independent images"):
        fid(points(5, 4), points(5, 4), ["one"] * 5)
