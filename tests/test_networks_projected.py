"""The styled generator and the discriminator of frozen feature maps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge import config
from faceforge.engine import training
from faceforge.errors import BadInput
from faceforge.losses import discriminator_loss, generator_loss, gradient_penalty
from faceforge.networks import sizes
from faceforge.networks.blocks import NearestConv
from faceforge.networks.projected import ProjectedDiscriminator
from faceforge.networks.styled import StyledGenerator, _Styled


class Features(nn.Module):
    """Maps of two sizes; it may see nothing outside [0, 1] but what an augmentation made."""

    name = "two"

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, 7, 3, 2, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = functional.relu(self.fine(images.expand(-1, 3, -1, -1)))
        return [fine, functional.relu(self.coarse(fine))]


def generator(size=16, channels=3, **changes) -> StyledGenerator:
    return StyledGenerator(size, channels, **{"latent_size": 7, "width": 4, "max_width": 8, **changes})


def judge(size=16, channels=3, **changes) -> ProjectedDiscriminator:
    small = {"width": 4, "max_width": 8, "coarsest": 2, "mixed": 6, "head_width": 5}
    return ProjectedDiscriminator(Features(), size, channels, **{**small, **changes})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 16, 80, [160, 128], [24, 40], [64, 128]])
def test_every_legal_size(size, channels):
    height, width = sizes.as_pair(size)
    network, discriminator = generator(size, channels).eval(), judge(size, channels)
    for batch in (1, 3):
        images = network(torch.randn(batch, 7))
        assert images.shape == (batch, channels, height, width)
        assert images.abs().max() <= 1
        assert discriminator(images).shape == (batch, 3)


@pytest.mark.parametrize("size", [70, [218, 178]])
def test_illegal_sizes_name_the_nearest_legal_ones(size):
    for network in (generator, judge):
        with pytest.raises(ValueError, match="the nearest sizes are"):
            network(size)


@pytest.mark.parametrize("doubles", [False, True])
def test_a_styled_layer_is_a_convolution_with_modulated_weights(doubles):
    """Karras et al. 2020, eq. 1 and 3, one image at a time."""
    torch.manual_seed(0)
    layer, x, style = _Styled(3, 4, 5, doubles), torch.randn(2, 3, 5, 6), torch.randn(2, 5)
    nn.init.normal_(layer.bias)
    for i, made in enumerate(layer(x, style)):
        scaled = layer.weight * layer.style(style[i])[None, :, None, None]
        scaled = scaled / (scaled.square().sum((1, 2, 3), keepdim=True) + 1e-6).sqrt()
        if doubles:
            plain = NearestConv(3, 4, bias=False)
            plain.weight.data = scaled.data
            right = plain(x[i : i + 1])
        else:
            right = functional.conv2d(x[i : i + 1], scaled, padding=1)
        right = functional.leaky_relu((2 / 1.04) ** 0.5 * right[0] + layer.bias[:, None, None], 0.2)
        torch.testing.assert_close(made, right, atol=1e-5, rtol=1e-5)


def test_a_styled_face_depends_on_its_own_z_alone():
    torch.manual_seed(0)
    network, z = generator(), torch.randn(3, 7)
    torch.testing.assert_close(network(z[1:2]), network(z)[1:2], atol=1e-6, rtol=1e-5)
    assert (network(z) - network(z.flip(0)))[0].abs().max() > 1e-3


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"mapping": -1}])
def test_a_styled_generator_without_layers_is_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1 and 0"):
        generator(**wrong)


@pytest.mark.parametrize("objective", ["hinge", "relativistic"])
@pytest.mark.parametrize("norm", [False, True])
def test_every_parameter_receives_a_gradient_in_one_step(objective, norm):
    torch.manual_seed(0)
    network, discriminator = generator(), judge(spectral_norm=norm)
    real = torch.rand(4, 3, 16, 16) * 2 - 1
    fake = network(torch.randn(4, 7))
    discriminator_loss(objective, discriminator(real), discriminator(fake.detach())).backward()
    assert [n for n, p in discriminator.named_parameters() if p.grad is None or not p.grad.any()] == []
    generator_loss(objective, discriminator(fake), discriminator(real)).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_features_and_projections_are_fixed_and_in_no_checkpoint():
    discriminator = judge()
    discriminator.requires_grad_(True).train()
    held = [*discriminator._frozen.features.parameters(), *discriminator._frozen.mix, *discriminator._frozen.blend]
    assert not any(tensor.requires_grad for tensor in held)
    assert not discriminator._frozen.features.training
    ours = {id(tensor) for tensor in (*discriminator.parameters(), *discriminator.buffers())}
    assert ours.isdisjoint(map(id, held))
    assert {name.split(".")[0] for name in discriminator.state_dict()} == {"pixels", "heads"}


def test_the_projections_are_the_same_at_every_start():
    torch.manual_seed(0)
    first = judge()
    torch.manual_seed(0)
    other = copy.deepcopy(judge())
    torch.manual_seed(1)
    third = judge()
    images = torch.rand(2, 3, 16, 16)
    for a, b in zip(first._frozen.project(images), other._frozen.project(images), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(first._frozen.blend, third._frozen.blend, strict=True):
        assert torch.equal(a, b)


def test_maps_mix_from_the_coarsest_on():
    """A change of the coarse map reaches the fine one's projection and not the reverse."""
    frozen, images = judge()._frozen, torch.rand(2, 3, 16, 16)
    fine, coarse = frozen.project(images)
    assert [fine.shape, coarse.shape] == [(2, 6, 8, 8), (2, 6, 4, 4)]
    frozen.mix[1] = 2 * frozen.mix[1]
    other_fine, other_coarse = frozen.project(images)
    torch.testing.assert_close(other_coarse, 2 * coarse)
    assert not torch.allclose(other_fine, fine)
    frozen.mix[0] = 2 * frozen.mix[0]
    assert torch.equal(frozen.project(images)[1], other_coarse)


def test_what_is_frozen_moves_along():
    discriminator = judge().double()
    assert discriminator(torch.rand(2, 3, 16, 16).double()).dtype == torch.float64
    assert discriminator._frozen.mix[0].dtype == torch.float64


def test_penalties_reach_every_weight():
    torch.manual_seed(0)
    discriminator = judge()
    gradient_penalty(discriminator, torch.rand(3, 3, 16, 16)).backward()
    weights = {n: p for n, p in discriminator.named_parameters() if n.endswith("weight")}
    assert [n for n, p in weights.items() if p.grad is None or not p.grad.any()] == []


def test_without_pixels_there_are_only_logits_of_maps():
    discriminator = judge(pixels=False, coarsest=1)
    assert discriminator(torch.rand(2, 3, 16, 16)).shape == (2, 1)


@pytest.mark.parametrize("coarsest", [0, 3])
def test_maps_that_are_not_there_are_refused(coarsest):
    with pytest.raises(ValueError, match=f"coarsest={coarsest}: must be 1 to 2"):
        judge(coarsest=coarsest)


SMALL = ["data.size=16", "model.generator.width=4", "model.generator.max_width=4", "model/discriminator=projected"]


def test_a_run_is_scored_by_other_features_than_it_trains_with():
    for features, fair in (("lite0", True), ("squeezenet", False)):
        composed = config.compose([*SMALL, f"evaluation/features={features}"])
        if fair:
            assert training.build(composed)[0].trained_by == "squeezenet"
        else:
            with pytest.raises(BadInput, match="evaluation/features=squeezenet: the discriminator sees these"):
                training.build(composed)
