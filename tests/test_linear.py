"""Principal components against numpy's SVD, linear filters against the filter they were made by."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from faceforge.metrics.linear import LinearFilter, Pca, leading_components


def images(n, channels, height, width, seed=0):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("n", "size"), [(9, 5), (40, 5), (40, 12)])  # fewer images than values, and more
def test_components_are_those_of_the_svd(n, size):
    x = images(n, 1, 3, 4)
    flat = x.flatten(1).double().numpy()
    _, singular, right = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    found = Pca(x, size)
    assert found.size == min(size, n - 1)
    assert found.mean.numpy() == pytest.approx(flat.mean(0), abs=1e-7)
    assert found.deviations.numpy() == pytest.approx(singular[: found.size] / np.sqrt(n - 1), rel=1e-5)
    along = (found.components.double().numpy() * right[: found.size]).sum(1)
    assert np.abs(along) == pytest.approx(np.ones(found.size), abs=1e-5)


def test_all_components_give_the_images_back():
    x = images(6, 3, 5, 7)
    pca = Pca(x, 100)
    assert pca.size == 5
    assert torch.allclose(pca.decode(pca.encode(x)), x, atol=1e-5)


def test_the_error_of_k_components_is_what_the_svd_says():
    """Eckart and Young: no linear code of this length does better on the fitted images."""
    x = images(30, 1, 6, 6)
    singular = np.linalg.svd((x - x.mean(0)).flatten(1).double().numpy(), compute_uv=False)
    pca = Pca(x, 8)
    error = (pca.decode(pca.encode(x)) - x).double().square().sum()
    assert float(error) == pytest.approx((singular[8:] ** 2).sum(), rel=1e-4)


def test_images_that_are_all_the_same_have_no_components():
    pca = Pca(torch.full((4, 1, 3, 3), 0.3), 2)
    assert pca.size == 0
    assert torch.allclose(pca.decode(pca.encode(torch.zeros(2, 1, 3, 3))), torch.full((2, 1, 3, 3), 0.3))
    assert Pca(torch.zeros(1, 1, 3, 3), 2).size == 0


def decaying(n, channels=2, height=5, width=6):
    """Images whose variances along random directions fall by a tenth from one to the next."""
    generator = torch.Generator().manual_seed(1)
    values = channels * height * width
    ways = torch.linalg.qr(torch.randn(values, values, generator=generator))[0]
    codes = torch.randn(n, values, generator=generator) * 0.95 ** torch.arange(values)
    return (codes @ ways + 0.3).unflatten(1, (channels, height, width))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("count", [1, 7])
def test_components_in_chunks_are_those_of_all_at_once(count, mirrored):
    x = decaying(90)
    whole = Pca(torch.cat([x, x.flip(3)]) if mirrored else x, count)
    mean, directions, deviations = leading_components(lambda: iter(x.split(32)), count, mirrored)
    assert torch.allclose(mean, whole.mean.float(), atol=1e-5)
    unbiased = (179 / 178) ** 0.5 if mirrored else 1  # mirrored faces are not counted as faces of their own
    assert deviations.numpy() == pytest.approx(unbiased * whole.deviations.numpy(), rel=1e-2)
    assert torch.allclose(directions @ directions.T, torch.eye(count), atol=1e-5)
    explained = (directions @ whole.components.T).square().sum() / count
    assert float(explained) == pytest.approx(1.0, abs=1e-2)
    if mirrored:
        images = directions.unflatten(1, x.shape[1:])
        parity = (images * images.flip(3)).flatten(1).sum(1)
        assert parity.abs().numpy() == pytest.approx(np.ones(count), abs=1e-5)


def test_components_beyond_the_rank_are_zero():
    x = images(3, 1, 4, 4)
    _, directions, deviations = leading_components(lambda: [x], 9, mirrored=False)
    assert (deviations > 0).tolist() == [True] * 2 + [False] * 7
    assert not directions[2:].any()
    mean, directions, deviations = leading_components(lambda: [x[:1]], 20, mirrored=True)
    assert torch.allclose(mean, ((x[:1] + x[:1].flip(3)) / 2).flatten(), atol=1e-6)
    assert directions.shape == (20, 16)
    with pytest.raises(ValueError, match="even width, not 3"):
        leading_components(lambda: [images(3, 1, 4, 3)], 2, mirrored=True)


@pytest.mark.parametrize(("side", "inputs", "outputs"), [(7, 1, 4), (3, 3, 3)])
def test_a_known_filter_is_found_again(side, inputs, outputs):
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(outputs, inputs, side, side, generator=generator).double()
    bias = torch.randn(outputs, generator=generator).double()
    x = images(8, inputs, 17, 12)
    y = F.conv2d(F.pad(x.double(), (side // 2,) * 4, mode="replicate"), kernel, bias)
    fitted = LinearFilter(zip(x.split(3), y.split(3), strict=True), side)
    assert torch.allclose(fitted.weights[:-1].T.unflatten(1, kernel.shape[1:]), kernel, atol=1e-6)
    assert torch.allclose(fitted.weights[-1], bias, atol=1e-6)
    assert torch.allclose(fitted(x).double(), y, atol=1e-4)


def test_the_fit_is_least_squares_and_does_not_depend_on_chunks():
    x, y = images(5, 1, 9, 7), images(5, 2, 9, 7, seed=1)
    padded = F.pad(x, (1,) * 4, mode="replicate")
    columns = F.unfold(padded, 3).movedim(1, -1).reshape(-1, 9).double().numpy()
    design = np.concatenate([columns, np.ones((len(columns), 1))], 1)
    expected = np.linalg.lstsq(design, y.movedim(1, -1).reshape(-1, 2).double().numpy(), rcond=None)[0]
    for chunk in (1, 2, 5):
        fitted = LinearFilter(zip(x.split(chunk), y.split(chunk), strict=True), 3)
        assert fitted.weights.numpy() == pytest.approx(expected, abs=1e-6)


def test_three_equal_channels_are_no_obstacle():
    grey = images(4, 1, 8, 8)
    y = torch.cat([0.5 * grey + 0.1, -grey, grey], 1)
    fitted = LinearFilter([(grey.expand(-1, 3, -1, -1), y)], 3)
    assert torch.allclose(fitted(grey.expand(-1, 3, -1, -1)), y, atol=1e-3)
    assert fitted(grey[:1].expand(-1, 3, -1, -1)).shape == (1, 3, 8, 8)
