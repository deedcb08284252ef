"""Networks of super-resolution: counts, layers, shapes, gradients, what they start from and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import chroma_of
from faceforge.networks.superres import (
    ConvSuperres,
    PublishedConv,
    PublishedSuperres,
    PublishedSuperresDiscriminator,
)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def blind(network: nn.Module) -> list[str]:
    """Names of the parameters without a gradient."""
    return [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.fixture(scope="module")
def published() -> PublishedConv:
    torch.manual_seed(0)
    return PublishedConv()


def test_the_published_counts(published):
    """2,367,873 is without the second convolution of 128 at the code, which was built there but not connected."""
    by_layer = [count(m) for m in published.modules() if isinstance(m, nn.Conv2d)]
    assert by_layer == [5_120, 1_179_904, 295_040, 147_584, 147_584, 147_584, 147_584, 295_168, 2_305]
    assert count(published) == 2_367_873
    assert count(PublishedSuperres()) == 81 * 3 * 64 + 64 + 9 * 64 * 64 + 64 + 81 * 64 * 3 + 3 == 68_099
    assert count(PublishedSuperres(factor=4)) == 68_099 + 36_928
    with torch.device("meta"):
        body = sum(9 * a * b + 3 * b for a, b in [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)])
        body += 9 * 3 * 64 + 64 + 9 * 512 * 512 + 3 * 512
        assert count(PublishedSuperresDiscriminator(64)) == body + 512 * 1024 + 1024 + 1025
        assert count(PublishedSuperresDiscriminator([512, 640])) == body + 20 * 512 * 1024 + 1024 + 1025


def test_the_published_conv_layer_by_layer(published):
    """Against a chain of torch's own functions, written from the published table."""
    values = iter(dict(published.named_parameters()).values())

    def conv(x: Tensor) -> Tensor:
        return functional.conv2d(x, next(values), next(values), padding=1)

    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    x = torch.rand(2, 1, 16, 8)
    y = conv(conv(conv(x).relu()).relu()).relu()
    y = functional.max_pool2d(y, 2)
    y = functional.max_pool2d(conv(conv(y).relu()).relu(), 2)
    assert y.shape == (2, 128, 4, 2)
    y = conv(y).relu()
    y = conv(twice(y)).relu()
    y = conv(twice(y)).relu()
    y = conv(twice(y)).sigmoid()
    assert next(values, None) is None
    torch.testing.assert_close(published(x), y, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_published_superres_layer_by_layer(factor):
    torch.manual_seed(0)
    network = PublishedSuperres([12, 20], factor=factor)
    values = iter(dict(network.named_parameters()).values())
    x = torch.rand(2, 3, 12 // factor, 20 // factor) * 2 - 1
    y = functional.conv2d(x, next(values), next(values), padding=4).relu()
    for _ in range(factor // 2):
        y = functional.conv2d(y, next(values), next(values), padding=1)
        y = functional.leaky_relu(y.repeat_interleave(2, 2).repeat_interleave(2, 3), 0.2)
    y = functional.conv2d(y, next(values), next(values), padding=4).tanh()
    assert next(values, None) is None
    torch.testing.assert_close(network(x), y, atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def judge() -> PublishedSuperresDiscriminator:
    torch.manual_seed(0)
    return PublishedSuperresDiscriminator([20, 33])


def test_the_published_discriminator_layer_by_layer(judge):
    """An even side is padded by 0 and 1, an odd one by 1 and 1: 20 33 -> 10 17 -> 5 9 -> 3 5 -> 2 3 -> 1 2 -> 1 1."""
    values = iter(dict(judge.named_parameters()).values())
    x = torch.rand(3, 3, 20, 33) * 2 - 1
    y = functional.leaky_relu(functional.conv2d(x, next(values), next(values), padding=1), 0.2)
    seen = []
    for _ in range(7):
        height, width = y.shape[-2:]
        y = functional.pad(y, (width % 2, 1, height % 2, 1))
        y = functional.leaky_relu(functional.conv2d(y, next(values), next(values), 2), 0.2)
        mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), keepdim=True, unbiased=False)
        y = (y - mean) / (variance + 1e-3).sqrt() * next(values).view(1, -1, 1, 1) + next(values).view(1, -1, 1, 1)
        seen.append((*y.shape[-2:],))
    assert seen == [(10, 17), (5, 9), (3, 5), (2, 3), (1, 2), (1, 1), (1, 1)]
    y = functional.leaky_relu(functional.linear(y.flatten(1), next(values), next(values)), 0.2)
    y = functional.linear(y, next(values), next(values))
    assert next(values, None) is None
    torch.testing.assert_close(judge.train()(x, x), y.view(3, 1, 1, 1), atol=1e-5, rtol=1e-4)


def test_the_published_discriminator_does_not_look_at_the_source(judge):
    target = torch.rand(2, 3, 20, 33)
    judge.eval()
    torch.testing.assert_close(judge(torch.zeros(2, 3, 10, 16), target), judge(torch.ones(2, 3, 10, 16), target))


def test_the_published_initialisation_is_glorots(published):
    for layer in (m for m in published.modules() if isinstance(m, nn.Conv2d)):
        bound = (6 / (9 * (layer.in_channels + layer.out_channels))) ** 0.5
        assert bound * 0.98 < layer.weight.abs().max() <= bound
        assert layer.bias is not None
        assert not layer.bias.any()


FORMS = {
    "published conv": lambda: PublishedConv([16, 8]),
    "published superres": lambda: PublishedSuperres([16, 8], channels=1, in_channels=1),
    "modern": lambda: ConvSuperres([16, 8], width=8, blocks=2),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_parameter_receives_a_gradient_in_one_step(form, batch):
    torch.manual_seed(0)
    network = FORMS[form]()
    y = network(torch.rand(batch, 1, 8, 4))
    assert y.shape == (batch, 1, 16, 8)
    (y - torch.rand_like(y)).square().mean().backward()
    assert blind(network) == []


def test_the_discriminator_passes_a_gradient_to_every_parameter(judge):
    judge.train()
    functional.softplus(judge(torch.zeros(3, 3, 20, 33), torch.rand(3, 3, 20, 33))).mean().backward()
    assert blind(judge) == []


@pytest.mark.parametrize(("channels", "in_channels"), [(1, 1), (3, 3), (3, 1)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("base", ["bicubic", "bilinear", "none"])
def test_the_modern_form_at_every_factor(factor, channels, in_channels, base):
    torch.manual_seed(0)
    network = ConvSuperres([24, 36], channels, in_channels, factor, width=4, blocks=1, base=base)
    for batch in (1, 2):
        y = network(torch.rand(batch, in_channels, 24 // factor, 36 // factor))
        assert y.shape == (batch, channels, 24, 36)


def test_the_modern_form_starts_near_its_base():
    torch.manual_seed(0)
    x = torch.rand(2, 1, 16, 16) * 2 - 1
    larger = functional.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
    assert 0 < (ConvSuperres(32)(x) - larger).abs().mean() < 0.1
    grey = ConvSuperres(16, 3, 1, factor=1)(x)
    assert 0 < (grey - x).abs().mean() < 0.1
    assert ConvSuperres(32, base="none")(x).abs().mean() < 0.1


def test_lightness_is_corrected_under_the_colours_of_the_input():
    torch.manual_seed(0)
    network = ConvSuperres([12, 10], 3, 3, width=8, blocks=2, output="lightness")
    x = torch.rand(1, 3, 6, 5) * 2 - 1
    larger, made = functional.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False), network(x)
    assert torch.allclose(chroma_of(made), chroma_of(larger), atol=1e-6)
    assert (made - larger).abs().mean() > 0
    made.square().mean().backward()
    assert blind(network) == []
    assert count(network.tail) == 4 * 8 * 9 + 4


def test_a_fresh_pixel_shuffle_makes_no_checkerboard():
    torch.manual_seed(0)
    y = ConvSuperres(64, blocks=2, width=8)(torch.full((1, 1, 32, 32), 0.3))
    assert y[..., 20:-20, 20:-20].std() < 1e-6


def test_the_base_is_added_untouched():
    """With a silent tail the network is the linear enlargement: of one pixel, torch's bicubic kernel, a = -0.75."""
    network = ConvSuperres(16, width=4, blocks=1)
    nn.init.zeros_(network.tail.weight)
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 4, 4] = 1.0

    def kernel(t: float, a: float = -0.75) -> float:
        t = abs(t)
        near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
        return near if t <= 1 else far if t < 2 else 0.0

    weights = torch.tensor([kernel((i + 0.5) / 2 - 0.5 - 4) for i in range(16)])
    torch.testing.assert_close(network(x)[0, 0], weights[:, None] * weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PublishedConv(70), r"data.size=\[70,70\]: .* multiples of 8; try \[64,64\] or \[72,72\]"),
        (lambda: PublishedConv(factor=4), "task.factor=4: this network is as published, .*; must be 2"),
        (lambda: PublishedSuperres(factor=1), "task.factor=1: .*; must be 2 or 4"),
        (lambda: PublishedSuperres(30, factor=4), r"\[28,28\] or \[32,32\]"),
        (
            lambda: ConvSuperres([33, 32]),
            r"data.size=\[33,32\]: both sides must be multiples of 2; try \[32,32\] or \[34,32\]",
        ),
        (lambda: ConvSuperres(33, factor=1), r"\[32,32\] or \[34,34\]"),
        (lambda: ConvSuperres(32, channels=1, in_channels=3), "in_channels=3: must be 1 or channels=1"),
        (lambda: ConvSuperres(32, base="cubic"), "base=cubic: must be one of bicubic, bilinear, none"),
        (lambda: ConvSuperres(32, output="lightness"), "output=lightness: channels=1, in_channels=1; must both be 3"),
        (
            lambda: ConvSuperres(32, 3, 3, base="none", output="lightness"),
            "output=lightness: base=none; must be",
        ),
        (lambda: PublishedSuperresDiscriminator(0), r"try \[1,1\]"),
    ],
)
def test_what_cannot_be_made_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
