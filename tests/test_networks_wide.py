"""Generators that start from a picture of noise: counts, layers, shapes, gradients, what they make of noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.wide import CnnGenerator, PublishedCnnGenerator


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def blind(network: nn.Module) -> list[str]:
    """Names of the parameters without a gradient."""
    return [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def latents(network: nn.Module, batch: int) -> Tensor:
    draw = torch.rand if network.latent == "uniform" else torch.randn
    return draw(batch, *network.latent_shape, generator=torch.Generator().manual_seed(0))


def test_the_published_counts():
    network = PublishedCnnGenerator()
    by_layer = [count(m) for m in network.layers if isinstance(m, nn.Conv2d)]
    assert by_layer == [1_792, 204_928, 1_605_888, 147_520, 1_731]
    assert count(network) == 1_961_859
    depthwise = PublishedCnnGenerator(depthwise=True)
    by_layer = [count(m) for m in depthwise.layers if isinstance(m, nn.Conv2d)]
    assert by_layer == [1_792, 204_928, 6_400, 33_024, 147_520, 1_731]
    assert count(depthwise) == 395_395


@pytest.mark.parametrize("depthwise", [False, True])
def test_the_published_layers(depthwise):
    """Against a chain of torch's own functions, written from the published table."""
    torch.manual_seed(0)
    network = PublishedCnnGenerator([10, 12], depthwise=depthwise)
    values = iter(dict(network.named_parameters()).values())

    def conv(x: Tensor, padding: int, groups: int = 1) -> Tensor:
        return functional.conv2d(x, next(values), next(values), 1, padding, groups=groups)

    z = latents(network, 2)
    assert z.shape == (2, 3, 10, 12)
    y = functional.leaky_relu(conv(z, 1), 0.01)
    y = functional.leaky_relu(conv(y, 2), 0.01)
    y = conv(conv(y, 3, groups=128), 0) if depthwise else conv(y, 3)
    y = conv(functional.leaky_relu(y, 0.01), 1).relu()
    y = conv(y, 1).relu()
    assert next(values, None) is None
    torch.testing.assert_close(network(z), y, atol=1e-6, rtol=1e-5)


def test_the_published_output_is_not_bounded_above():
    network = PublishedCnnGenerator(8)
    with torch.no_grad():
        network.layers[-2].bias.fill_(2.0)
    images = network(latents(network, 2))
    assert images.min() >= 0
    assert images.max() > 1
    assert (network.latent, network.output_range) == ("uniform", (0.0, float("inf")))


def test_the_published_generator_sees_17_pixels():
    torch.manual_seed(0)
    network = PublishedCnnGenerator(32, channels=1)
    with torch.no_grad():
        network.layers[-2].bias.fill_(5.0)  # away from the last ReLU's foot
    z = latents(network, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(network(z)[0, 0, 16, 16], z)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == 3 + 4 + 6 + 2 + 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [64, 8, 72, [48, 32], [160, 128]])
def test_the_default_makes_every_legal_size(size, channels):
    height, width = (size, size) if isinstance(size, int) else size
    network = CnnGenerator(size, channels, width=4, max_width=8).eval()
    for batch in (1, 2):
        images = network(latents(network, batch))
        assert images.shape == (batch, channels, height, width)
        assert images.abs().max() <= 1


@pytest.mark.parametrize("latent", ["normal", "uniform"])
@pytest.mark.parametrize("make", [PublishedCnnGenerator, CnnGenerator])
def test_every_parameter_receives_a_gradient_in_one_step(make, latent):
    torch.manual_seed(0)
    network = make(16) if make is PublishedCnnGenerator else make(16, latent=latent)
    (network(latents(network, 3)) - 0.3).square().mean().backward()
    assert blind(network) == []


@pytest.mark.parametrize("latent", ["normal", "uniform"])
def test_noise_has_unit_variance_from_every_distance(latent):
    network = CnnGenerator(64, width=2, latent=latent)
    levels = network._pyramid(latents(network, 64))
    assert [level.shape[-1] for level in levels] == [64, 32, 16, 8, 4]
    for level in levels:
        assert level.mean().abs() < 5 / level.numel() ** 0.5
        assert level.var().item() == pytest.approx(1.0, abs=0.1)
    blocks = latents(network, 64)[0, 0, :8, :8]
    blocks = blocks if latent == "normal" else (blocks - 0.5) * 12**0.5
    assert levels[3][0, 0, 0, 0].item() == pytest.approx(blocks.sum().item() / 8, abs=1e-5)


def test_the_layout_reaches_every_pixel():
    """Each picture of a fresh network depends on all noise, however far away."""
    torch.manual_seed(0)
    network = CnnGenerator(64, width=4).eval()
    z = latents(network, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(network(z)[0, 0, 0, 0], z)
    assert gradient.ne(0).all()


def test_a_fresh_generator_varies_from_face_to_face():
    torch.manual_seed(0)
    network = CnnGenerator(32, width=8)
    images = network(latents(network, 8))
    assert 0.01 < images.std(0).mean() < 0.5


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match=r"data.size=\[70,70\]: .* try \[68,68\] or \[72,72\]"):
        CnnGenerator(70)
    with pytest.raises(ValueError, match=r"data.size=\[0,0\]: .* try \[1,1\]"):
        PublishedCnnGenerator(0)
