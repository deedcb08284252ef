"""Scores of image pairs against hand computation and an SSIM written out."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from faceforge.metrics.pairs import PairScores, mae, mse, psnr, ssim


def pictures(n, channels, height, width, seed=0):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


def test_errors_by_hand():
    right = torch.zeros(2, 1, 2, 2)
    made = torch.tensor([[0.1, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 1.0]]).view(2, 1, 2, 2)
    assert mae(made, right).tolist() == pytest.approx([0.1, 0.25])
    assert mse(made, right).tolist() == pytest.approx([0.01, 0.25])
    assert psnr(made, right).tolist() == pytest.approx([20.0, 10 * math.log10(4)])


def test_psnr_of_equal_images_is_finite():
    assert psnr(torch.ones(1, 3, 5, 7), torch.ones(1, 3, 5, 7)).tolist() == [100.0]


def written_out(a, b):
    """Wang et al. 2004, eq. 13, in every place of one channel, mirrored borders."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2

    def blur(x):
        return ndimage.correlate(x, window, mode="mirror")

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean()


@pytest.mark.parametrize("shape", [(1, 1, 17, 13), (3, 3, 12, 21), (2, 1, 6, 6)])
def test_ssim_is_the_published_formula(shape):
    a, b = pictures(*shape).double(), pictures(*shape, seed=1).double()
    b = 0.7 * a + 0.3 * b
    planes = zip(a.flatten(0, 1).numpy(), b.flatten(0, 1).numpy(), strict=True)
    expected = np.reshape([written_out(x, y) for x, y in planes], shape[:2]).mean(1)
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_means_do_not_depend_on_chunks(chunk):
    made, right = pictures(7, 3, 9, 11) * 1.4 - 0.2, pictures(7, 3, 9, 11, seed=1)
    whole, parts = PairScores(), PairScores()
    whole.add(made, right)
    for a, b in zip(made.split(chunk), right.split(chunk), strict=True):
        parts.add(a, b)
    assert parts.means() == pytest.approx(whole.means(), rel=1e-6)
    assert whole.means()["mae"] == pytest.approx(float((made.clamp(0, 1) - right).abs().mean()), rel=1e-6)


def test_variance_ratio_tells_a_model_that_has_given_up():
    right = pictures(6, 1, 8, 8)
    same, flat = PairScores(), PairScores()
    same.add(right, right)
    flat.add(right.mean(0, keepdim=True).expand(6, -1, -1, -1), right)
    assert same.means()["variance_ratio"] == pytest.approx(1)
    assert flat.means()["variance_ratio"] == pytest.approx(0, abs=1e-6)
    expected = float((0.5 * right).var(0, correction=0).mean() / right.var(0, correction=0).mean())
    half = PairScores()
    half.add(0.5 * right, right)
    assert half.means()["variance_ratio"] == pytest.approx(expected, rel=1e-5)


def test_nothing_counted_gives_nothing():
    assert PairScores().means() == {}
