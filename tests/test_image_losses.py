"""Image losses and the divergence of codes against numpy, scipy, closed forms and hand-computed values."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from torch import nn
from torch.distributions import Normal, kl_divergence

from faceforge import losses

SHAPES = [(1, 1, 13, 17), (3, 3, 16, 12)]


def pair(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_pixel_losses_against_numpy(shape):
    a, b = pair(shape)
    x, y = a.double().numpy(), b.double().numpy()
    expected = {
        losses.L1(): np.abs(x - y).mean(),
        losses.MSE(): ((x - y) ** 2).mean(),
        losses.BCE(): -(y * np.log(x) + (1 - y) * np.log(1 - x)).mean(),
        losses.Charbonnier(0.05): np.sqrt((x - y) ** 2 + 0.05**2).mean(),
    }
    for loss, value in expected.items():
        assert float(loss(a, b)) == pytest.approx(value, rel=1e-5), type(loss).__name__


def test_the_least_bce_is_the_entropy_of_the_target():
    target = torch.full((1, 1, 2, 2), 0.25)
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert float(losses.BCE()(target, target)) == pytest.approx(entropy, rel=1e-6)
    assert float(losses.BCE()(torch.tensor([1.7]), torch.tensor([1.0]))) == 0.0, "an overshoot is brought back"


def reference_ssim(x, y):
    """Wang et al. 2004, eq. 13, with population statistics, borders mirrored."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(values):
        return correlate1d(correlate1d(values, window, axis=-1, mode="mirror"), window, axis=-2, mode="mirror")

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_against_its_definition(shape):
    a, b = pair(shape)
    b = 0.7 * a + 0.3 * b
    expected = np.mean([reference_ssim(x, y) for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)])
    assert float(losses.SSIM()(a, b)) == pytest.approx(1 - expected, abs=1e-5)
    assert float(losses.SSIM()(a, a)) == pytest.approx(0, abs=1e-6)


class TwoMaps(nn.Module):
    """Features that one can compute by hand: the picture, and its halved size."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, images):
        return [self.gain * images, nn.functional.avg_pool2d(images, 2)]


def test_perceptual_distance_by_hand_and_without_gradient_for_its_features():
    a, b = pair((2, 3, 4, 6))
    loss = losses.Perceptual(TwoMaps()).train()
    assert not loss.features.training
    expected = []
    for x, y in (a, b), (nn.functional.avg_pool2d(a, 2), nn.functional.avg_pool2d(b, 2)):
        x, y = x.numpy(), y.numpy()
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
        expected.append(((unit[0] - unit[1]) ** 2).sum(axis=1).mean())
    a.requires_grad_()
    value = loss(a, b)
    assert float(value) == pytest.approx(np.mean(expected), rel=1e-5)
    value.backward()
    assert a.grad is not None
    assert loss.features.gain.grad is None


def test_a_sum_of_losses():
    a, b = pair((2, 1, 12, 12))
    both = losses.Weighted([losses.L1(), losses.MSE()], [2.0, 0.5])
    assert float(both(a, b)) == pytest.approx(2 * float(losses.L1()(a, b)) + 0.5 * float(losses.MSE()(a, b)), rel=1e-6)
    with pytest.raises(ValueError, match="2 losses and 1 weights"):
        losses.Weighted([losses.L1(), losses.MSE()], [1.0])


def test_every_image_loss_is_the_same_for_repeated_batches_and_pixels():
    """The reduction is a mean: doubling batch or (but for SSIM's window) area changes nothing."""
    a, b = pair((2, 3, 16, 16))
    for loss in (losses.L1(), losses.MSE(), losses.BCE(), losses.Charbonnier(1e-3), losses.SSIM()):
        twice = loss(torch.cat([a, a]), torch.cat([b, b]))
        torch.testing.assert_close(twice, loss(a, b), rtol=1e-5, atol=1e-6)


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_divergence_against_torch_distributions(batch, units, seed):
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, batch, units, generator=generator, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(losses.kl_units(mean, log_variance), expected)


def test_free_nats_leave_quiet_units_alone():
    mean = torch.tensor([[0.1, 2.0]], requires_grad=True)
    units = losses.kl_units(mean, torch.zeros(1, 2))
    loss = losses.kl_loss(units, 0.5)
    assert float(loss.detach()) == pytest.approx(0.5 + 2.0)
    loss.backward()
    assert mean.grad is not None
    assert mean.grad.tolist() == [[0.0, 2.0]]
    assert float(losses.kl_loss(units.detach(), 0.0)) == pytest.approx(0.005 + 2.0)
