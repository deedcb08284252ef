"""Dense networks: counts, layers, shapes, gradients, what they start from and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from faceforge.networks.mlp import MlpAutoencoder, PublishedMlp


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def blind(network: nn.Module) -> list[str]:
    """Names of the parameters without a gradient."""
    return [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.fixture(scope="module")
def published() -> PublishedMlp:
    torch.manual_seed(0)
    return PublishedMlp()


def test_the_published_counts(published):
    by_layer = [count(m) for m in published.modules() if isinstance(m, nn.Linear)]
    assert by_layer == [313_856, 32_896, 33_024, 314_825, 6_007_400]
    assert count(published) == 6_702_001


def test_the_published_layers(published):
    """Against a chain of torch's own functions, written from the published table."""
    values = iter(dict(published.named_parameters()).values())
    x = torch.rand(3, 1, 35, 35)
    y = x.reshape(3, 1225)
    for units in (256, 128, 256, 1225):
        y = functional.linear(y, next(values), next(values)).relu()
        assert y.shape == (3, units)
    y = functional.linear(y, next(values), next(values)).sigmoid()
    assert next(values, None) is None
    torch.testing.assert_close(published(x), y.reshape(3, 1, 70, 70))


def test_the_published_initialisation_is_glorots(published):
    for layer in (m for m in published.modules() if isinstance(m, nn.Linear)):
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert bound * 0.98 < layer.weight.abs().max() <= bound
        assert not layer.bias.any()


FORMS = {
    "published": lambda *shape: PublishedMlp(*shape),
    "modern": lambda *shape: MlpAutoencoder(*shape, width=8, blocks=3),
    "with a code": lambda *shape: MlpAutoencoder(*shape, width=8, blocks=2, latent_size=3, base="none"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [([12, 20], 1, 1, 2), ([12, 20], 3, 3, 4), (9, 3, 1, 1), ([9, 6], 1, 1, 3)])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_size_and_factor_and_every_parameter_learns(form, shape, batch):
    torch.manual_seed(0)
    network = FORMS[form](*shape)
    size, channels, in_channels, factor = shape
    height, width = (size, size) if isinstance(size, int) else size
    y = network(torch.rand(batch, in_channels, height // factor, width // factor))
    assert y.shape == (batch, channels, height, width)
    (y - torch.rand_like(y)).square().mean().backward()
    assert blind(network) == []


def test_the_modern_form_starts_near_its_base():
    torch.manual_seed(0)
    x = torch.rand(2, 1, 35, 35) * 2 - 1
    larger = functional.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
    network = MlpAutoencoder()
    assert 0 < (network(x) - larger).abs().mean() < 0.1
    nn.init.zeros_(network.layers[-2].weight)
    torch.testing.assert_close(network(x), larger)


def test_a_code_is_a_bottleneck():
    """What comes out lies in as many dimensions as the code has, up to what one block bends: nothing else passes."""
    torch.manual_seed(0)
    network = MlpAutoencoder(6, factor=1, width=16, blocks=1, latent_size=2, base="none").double()
    x = torch.randn(1, 1, 6, 6, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(network, x).reshape(36, 36)
    assert torch.linalg.matrix_rank(jacobian, rtol=1e-9) == 2


@pytest.mark.parametrize("network", [PublishedMlp, MlpAutoencoder])
def test_what_cannot_be_made_is_refused(network):
    with pytest.raises(ValueError, match=r"data.size=\[71,70\]: .* factor 2; try \[70,70\] or \[72,70\]"):
        network([71, 70])
