"""The residual networks without norms: sizes, what their first values are, and one image at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from faceforge.networks import sizes
from faceforge.networks.residual import Block, ResidualDiscriminator, ResidualGenerator

SMALL = {"width": 4, "max_width": 8}


def generator(size=16, channels=3, **changes):
    return ResidualGenerator(size, channels, **{"latent_size": 7, **SMALL, **changes})


def judge(size=16, channels=3, **changes):
    return ResidualDiscriminator(size, channels, **{**SMALL, **changes})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 16, 80, [160, 128], [24, 40]])
def test_every_legal_size(size, channels):
    height, width = sizes.as_pair(size)
    for batch in (1, 3):
        images = generator(size, channels, blocks=2)(torch.randn(batch, 7))
        assert images.shape == (batch, channels, height, width)
        assert images.abs().max() <= 1
        assert judge(size, channels, blocks=2)(images).shape == (batch,)


@pytest.mark.parametrize("network", [generator, judge])
def test_what_cannot_be_is_refused(network):
    with pytest.raises(ValueError, match="the nearest sizes are"):
        network(70)
    with pytest.raises(ValueError, match="blocks=0: must be at least 1"):
        network(blocks=0)


def test_a_block_starts_as_nothing_and_is_two_convolutions():
    torch.manual_seed(0)
    block, x = Block(4, 3), torch.randn(2, 4, 5, 6)
    assert torch.equal(block(x), x)
    torch.nn.init.normal_(block.second.weight)
    inner = functional.conv2d(x.where(x > 0, 0.2 * x), block.first.weight, padding=1)
    right = x + functional.conv2d(inner.where(inner > 0, 0.2 * inner), block.second.weight, padding=1)
    torch.testing.assert_close(block(x), right)


@pytest.mark.parametrize("blocks", [1, 4])
def test_depth_does_not_change_the_scale_at_the_start(blocks):
    """Every block is the identity then: faces and logits are those of the layers between them."""
    torch.manual_seed(0)
    faces = generator(64, latent_size=128, width=32, max_width=256, blocks=blocks)(torch.randn(16, 128))
    assert 0.05 < faces.std() < 0.5
    assert 0.01 < judge(64, width=32, max_width=256, blocks=blocks)(faces).std() < 1


def test_a_face_depends_on_its_own_z_alone():
    torch.manual_seed(0)
    network, z = generator(), torch.randn(3, 7)
    for block in network.modules():
        if isinstance(block, Block):
            torch.nn.init.normal_(block.second.weight, 0.0, 0.1)
    torch.testing.assert_close(network(z[1:2]), network(z)[1:2], atol=1e-6, rtol=1e-5)


def test_every_weight_learns():
    """After one step the zero convolutions have moved, and all others have a gradient."""
    torch.manual_seed(0)
    network, discriminator = generator(), judge()
    parameters = [*network.parameters(), *discriminator.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        discriminator(network(torch.randn(4, 7))).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in parameters)
