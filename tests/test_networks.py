"""Shapes, parameter counts, ranges, gradients and legal sizes of every GAN network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from faceforge.losses import discriminator_loss, generator_loss, gradient_penalty
from faceforge.networks import dcgan, sizes

PAIRS = {
    "published": (dcgan.PublishedConventionalGenerator, dcgan.PublishedDiscriminator),
    "taught": (dcgan.TutorialGenerator, dcgan.TutorialDiscriminator),
    "default": (dcgan.ConventionalGenerator, dcgan.ConventionalDiscriminator),
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def latents(network: nn.Module, batch: int) -> Tensor:
    draw = torch.rand if network.latent == "uniform" else torch.randn
    return draw(batch, *network.latent_shape, generator=torch.Generator().manual_seed(0))


def shapes(network: nn.Module, x: Tensor, kind: type[nn.Module] | tuple) -> list[tuple[int, ...]]:
    """Output shapes (without batch) of the layers of one kind, in the order of their execution."""
    seen: list[tuple[int, ...]] = []
    hooks = [
        m.register_forward_hook(lambda _m, _x, y: seen.append((*y.shape[1:],)))
        for m in network.modules()
        if isinstance(m, kind)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return seen


def test_published_networks_have_the_published_parameters():
    generator, discriminator = (network() for network in PAIRS["published"])
    by_layer = [count(m) for m in generator.layers if isinstance(m, nn.ConvTranspose2d)]
    assert by_layer == [5 * 128 * 16 + 128, 128 * 64 * 9 + 64, 64 * 32 * 16 + 32, 32 * 16 * 16 + 16, 16 * 3 * 4 + 3]
    assert count(generator) == 125_811
    assert count(discriminator) == 429_121


def test_published_layers_shape_by_shape():
    generator, discriminator = (network() for network in PAIRS["published"])
    expected = [(128, 4, 4), (64, 8, 8), (32, 16, 16), (16, 32, 32), (3, 64, 64)]
    assert shapes(generator, latents(generator, 2), nn.ConvTranspose2d) == expected
    images = torch.rand(2, 3, 64, 64)
    assert shapes(discriminator, images, nn.Conv2d) == [(32, 64, 64), (64, 32, 32), (128, 8, 8), (256, 4, 4)]
    assert shapes(discriminator, images, nn.AvgPool2d) == [(32, 32, 32), (64, 16, 16)]
    assert shapes(discriminator, images, nn.Flatten) == [(4096,)]


def test_published_order_is_relu_before_batch_norm_and_relu_at_the_end():
    kinds = [type(m).__name__ for m in dcgan.PublishedConventionalGenerator().layers]
    grow, normed = ["ConvTranspose2d", "ReLU"], ["ConvTranspose2d", "ReLU", "BatchNorm2d"]
    assert kinds == [*normed * 3, *grow * 2]


def test_published_output_is_not_bounded_above():
    generator = dcgan.PublishedConventionalGenerator()
    with torch.no_grad():
        generator.layers[-2].bias.fill_(2.0)
    images = generator(latents(generator, 2))
    assert images.min() >= 0
    assert images.max() > 1


def test_taught_networks_have_the_tutorial_parameters_and_shapes():
    generator, discriminator = (network() for network in PAIRS["taught"])
    assert (count(generator), count(discriminator)) == (3_576_704, 2_765_568)
    grown = [(512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 64, 64)]
    assert shapes(generator, latents(generator, 2), nn.ConvTranspose2d) == grown
    shrunk = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (1, 1, 1)]
    assert shapes(discriminator, torch.zeros(2, 3, 64, 64), nn.Conv2d) == shrunk
    convolutions = [m for n in (generator, discriminator) for m in n.modules() if hasattr(m, "kernel_size")]
    assert all(m.kernel_size == (4, 4) and m.bias is None for m in convolutions)


def test_taught_initialisation_has_the_tutorial_spread():
    for network in (dcgan.TutorialGenerator(), dcgan.TutorialDiscriminator()):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
                assert abs(module.weight.mean().item()) < 0.003
            if isinstance(module, nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1.0, abs=0.02)
                assert module.bias.abs().max() == 0


def test_default_layers_shape_by_shape():
    generator, discriminator = (network() for network in PAIRS["default"])
    grown = [(128, 8, 8), (64, 16, 16), (32, 32, 32), (3, 64, 64)]
    assert shapes(generator, latents(generator, 2), nn.ConvTranspose2d) == grown
    shrunk = [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert shapes(discriminator, torch.zeros(2, 3, 64, 64), nn.Conv2d) == shrunk


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [64, 8, 16, 80, 128, [160, 128], [24, 40], [64, 128]])
def test_default_makes_every_legal_size(size, channels):
    height, width = sizes.as_pair(size)
    generator = dcgan.ConventionalGenerator(size, channels, latent_size=7, width=4, max_width=8).eval()
    discriminator = dcgan.ConventionalDiscriminator(size, channels, width=4, max_width=8)
    for batch in (1, 3):
        images = generator(latents(generator, batch))
        assert images.shape == (batch, channels, height, width)
        assert images.abs().max() <= 1
        assert discriminator(images).shape == (batch,)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (70, "cannot upsample a small seed to 70x70; the nearest sizes are 64x64 or 80x80"),
        ([218, 178], "218x178; the nearest sizes are 192x160 or 224x192"),
        ([64, 70], "64x70; .* 64x64 or 64x80"),
        (5, "5x5; .* 8x8"),
        (0, "0x0; .* 8x8"),
    ],
)
@pytest.mark.parametrize("network", PAIRS["default"])
def test_illegal_sizes_name_the_nearest_legal_ones(network, size, message):
    with pytest.raises(ValueError, match=message):
        network(size)


@pytest.mark.parametrize("size", range(8, 200))
def test_the_sizes_named_as_nearest_are_legal_and_enclose_the_wish(size):
    wish = (size, size + 37)
    for pair in sizes.nearest_seeds(wish):
        doublings, seed = sizes.seed_of(pair)
        assert tuple(side * 2**doublings for side in seed) == pair
    below, above = sizes.nearest_seeds(wish)[0], sizes.nearest_seeds(wish)[-1]
    assert all(b <= w <= a for b, w, a in zip(below, wish, above, strict=True))


@pytest.mark.parametrize("network", [*PAIRS["published"], *PAIRS["taught"]])
def test_networks_of_one_size_say_so(network):
    with pytest.raises(ValueError, match="only 64x64, not 128x64; set the size to 64"):
        network([128, 64])


@pytest.mark.parametrize("name", PAIRS)
def test_fresh_outputs_lie_in_the_stated_range_and_logits_are_small(name):
    torch.manual_seed(0)
    generator, discriminator = (network() for network in PAIRS[name])
    images = generator(latents(generator, 4))
    low, high = generator.output_range
    assert low <= images.min()
    assert images.max() <= high
    assert images.std() > 0.005
    low, high = discriminator.input_range
    logits = discriminator(torch.rand(4, 3, 64, 64) * (high - low) + low)
    assert logits.shape == (4,)
    assert logits.abs().max() < 5


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("batch", [1, 2])
def test_generators_in_eval_mode_do_not_mix_the_batch(name, batch):
    torch.manual_seed(0)
    generator = PAIRS[name][0]().eval()
    z = latents(generator, 3)
    torch.testing.assert_close(generator(z[:batch]), generator(z)[:batch], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("objective", ["minimax", "non_saturating", "hinge", "least_squares", "relativistic"])
@pytest.mark.parametrize("name", PAIRS)
def test_every_parameter_receives_a_gradient_in_one_step(name, objective):
    torch.manual_seed(0)
    generator, discriminator = (network() for network in PAIRS[name])
    low, high = discriminator.input_range
    real = torch.rand(2, 3, 64, 64) * (high - low) + low
    discriminator_loss(
        objective, discriminator(real), discriminator(generator(latents(generator, 2)).detach())
    ).backward()
    missing = [n for n, p in discriminator.named_parameters() if p.grad is None or not p.grad.any()]
    # the published last bias shifts real and fake logits alike: no part in a difference, none inside both hinges
    cancels = {"layers.11.bias"} if objective in {"relativistic", "hinge"} else set()
    assert set(missing) <= cancels
    generator_loss(objective, discriminator(generator(latents(generator, 2))), discriminator(real)).backward()
    assert [n for n, p in generator.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_penalties_reach_the_default_discriminator():
    torch.manual_seed(0)
    discriminator = dcgan.ConventionalDiscriminator(16, width=4)
    gradient_penalty(discriminator, torch.randn(3, 3, 16, 16)).backward()
    weights = {n: p for n, p in discriminator.named_parameters() if n.endswith("weight")}
    assert [n for n, p in weights.items() if p.grad is None or not p.grad.any()] == []


def test_the_default_discriminator_sees_a_lack_of_variety():
    torch.manual_seed(0)
    discriminator = dcgan.ConventionalDiscriminator(16, width=4)
    image = torch.randn(1, 3, 16, 16)
    alike, varied = image.repeat(4, 1, 1, 1), torch.cat([image, torch.randn(3, 3, 16, 16)])
    assert abs(discriminator(alike)[0] - discriminator(varied)[0]) > 1e-3
    features = torch.randn(3, 5, 2, 2)
    expected = features.numpy().std(0).mean()
    assert dcgan.Variety()(features).shape == (3, 1, 2, 2)
    torch.testing.assert_close(dcgan.Variety()(features)[1, 0, 0, 0].item(), float(expected), atol=1e-6, rtol=1e-5)


def test_spectral_norm_bounds_every_layer_and_survives_a_deep_copy():
    torch.manual_seed(0)
    network = dcgan.ConventionalDiscriminator(16, width=4, spectral_norm=True)
    images = torch.randn(2, 3, 16, 16)
    for _ in range(50):  # power iteration settles
        network(images)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=1e-2)
    twin = copy.deepcopy(network).eval()
    torch.testing.assert_close(twin(images), network.eval()(images), rtol=0, atol=0)
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
    assert not torch.equal(twin(images), network(images))


def test_spectral_norm_is_off_unless_asked():
    assert "parametrizations" not in " ".join(dcgan.ConventionalDiscriminator(16).state_dict())


def test_default_networks_are_light():
    """Multiplications of one image through both, from the shapes: at most 0.3 of the taught pair's."""

    def work(network: nn.Module, x: Tensor) -> int:
        total, kinds = [0], (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)

        def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            places = (inputs[0] if isinstance(module, nn.ConvTranspose2d) else output).shape[2:].numel()
            total[0] += module.weight.numel() * places

        hooks = [m.register_forward_hook(add) for m in network.modules() if isinstance(m, kinds)]
        network(x)
        for hook in hooks:
            hook.remove()
        return total[0]

    cost = {name: work(g(), latents(g(), 2)) + work(d(), torch.zeros(2, 3, 64, 64)) for name, (g, d) in PAIRS.items()}
    assert cost["default"] < 0.3 * cost["taught"]
