"""Encoders, codes, decoders: counts, layers, shapes, ranges, gradients, sizes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks import latent
from faceforge.networks.latent import Decoder, Encoder, GaussianCode, ReluCode, SigmoidCode

PUBLISHED = {
    "mse": (latent.PublishedMseEncoder, ReluCode, latent.PublishedMseDecoder),
    "bce": (latent.PublishedBceEncoder, SigmoidCode, latent.PublishedBceDecoder),
}


def count(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters() if p.requires_grad)


def blind(network: nn.Module) -> list[str]:
    """Names of the parameters without a gradient."""
    return [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def made(name: str, size: int | list[int] = 16, latent_size: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    encoder, code, decoder = PUBLISHED[name]
    first = encoder(size)
    return nn.Sequential(first, code(first.features, latent_size), decoder(latent_size, size))


@pytest.mark.parametrize(("name", "features", "total"), [("mse", 32_768, 81_286_339), ("bce", 2048, 82_329_539)])
def test_the_published_counts(name, features, total):
    with torch.device("meta"):
        network = made(name, 128, 1024)
        assert count(network) == total
        assert network[0].features == features
        assert network(torch.empty(2, 3, 128, 128)).shape == (2, 3, 128, 128)


# The published tables. An encoder's step is outputs, stride and whether batch norm and ReLU follow; a doubling is
# a stride of 2 in the decoder.
MSE_ENCODER = [(32, 1, 0), (32, 1, 1), (64, 2, 1), (128, 1, 0), (128, 1, 1), (256, 2, 1)]
MSE_ENCODER += [(512, 1, 0), (512, 1, 1), (512, 2, 1), (128, 1, 1)]
MSE_DECODER = [(512, 1, 1), (512, 2, 1), (512, 1, 0), (256, 1, 1), (128, 2, 1), (128, 1, 0), (64, 1, 1), (32, 2, 1)]
MSE_DECODER += [(32, 1, 0), (3, 1, 0)]
BCE_ENCODER = [(32, 1, 1), (64, 2, 1), (128, 1, 1), (256, 2, 1), (512, 1, 1), (512, 2, 1)]
BCE_ENCODER += [(256, 1, 1), (128, 1, 1), (64, 1, 1)]
BCE_DECODER = [(128, 1, 1), (256, 1, 1), (512, 1, 1), (512, 2, 1), (256, 1, 1), (128, 2, 1), (64, 1, 1), (32, 2, 1)]
BCE_DECODER += [(3, 1, 0)]


def normed(x: Tensor, values: Iterator[Tensor]) -> Tensor:
    """Batch norm of training, by hand."""
    axes = (0, 2, 3) if x.dim() == 4 else (0,)
    shape = (1, -1, 1, 1) if x.dim() == 4 else (1, -1)
    x = (x - x.mean(axes, keepdim=True)) / (x.var(axes, keepdim=True, unbiased=False) + 1e-5).sqrt()
    return x * next(values).view(shape) + next(values).view(shape)


def chain(x: Tensor, table: list[tuple[int, int, int]], values: Iterator[Tensor], decoding: bool) -> Tensor:
    for outputs, stride, follows in table:
        weight, bias = next(values), next(values)
        if decoding:
            x = functional.conv_transpose2d(x, weight, bias, stride, 1, output_padding=stride - 1)
        else:
            x = functional.conv2d(x, weight, bias, stride, 1)
        assert x.shape[1] == outputs
        x = normed(x, values).relu() if follows else x
    return x


def dense(x: Tensor, values: Iterator[Tensor]) -> Tensor:
    return normed(functional.linear(x, next(values), next(values)), values)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_layers(name):
    """Against a chain of torch's own functions, written from the published tables, in training mode."""
    network = made(name, [16, 8])
    values = iter(dict(network.named_parameters()).values())
    x = torch.rand(4, 3, 16, 8)
    if name == "mse":
        y = chain(x, MSE_ENCODER, values, decoding=False).flatten(1)
        z = dense(y, values).relu()
        y = chain(dense(z, values).view(4, 128, 2, 1), MSE_DECODER, values, decoding=True).relu()
    else:
        y = chain(x, BCE_ENCODER, values, decoding=False).flatten(1)
        z = dense(dense(y, values).relu(), values).sigmoid()
        y = dense(dense(z, values).relu(), values).relu().view(4, 64, 2, 1)
        y = chain(y, BCE_DECODER, values, decoding=True).sigmoid()
    assert next(values, None) is None
    with torch.no_grad():
        torch.testing.assert_close(network[:2](x), z, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(network(x), y, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_learn_with_every_parameter(name):
    network = made(name)
    y = network(torch.rand(4, 3, 16, 16))
    assert y.shape == (4, 3, 16, 16)
    assert y.min() >= 0
    (y - torch.rand_like(y)).square().mean().backward()
    # batch norm takes away whatever the bias before it adds
    assert [n for n in blind(network) if not n.endswith("bias")] == []


def test_the_published_initialisation_is_torchs():
    """Uniform within 1 / sqrt(fan in), for weights and biases."""
    encoder = made("mse")[0]
    layer = encoder.layers[4]
    bound = (layer.in_channels * 9) ** -0.5
    for value in (layer.weight, layer.bias):
        assert bound * 0.9 < value.abs().max() <= bound


# --------------------------------------------------------------------------- codes


@pytest.mark.parametrize(("kind", "low", "high"), [(ReluCode, 0.0, 10.0), (SigmoidCode, 0.0, 1.0)])
def test_codes_are_a_linear_layer_a_norm_and_an_activation(kind, low, high):
    torch.manual_seed(0)
    code = kind(6, 4)
    features = torch.randn(32, 6)
    linear = functional.linear(features, code.layers[0].weight, code.layers[0].bias)
    whitened = (linear - linear.mean(0)) / (linear.var(0, unbiased=False) + 1e-5).sqrt()
    expected = whitened.relu() if kind is ReluCode else whitened.sigmoid()
    z = code(features)
    torch.testing.assert_close(z, expected, atol=1e-5, rtol=1e-4)
    assert low <= z.min()
    assert z.max() <= high
    assert code.latent_size == 4
    assert code.eval()(features[:1]).shape == (1, 4)


def test_the_gaussian_code_gives_mean_and_log_variance():
    torch.manual_seed(0)
    code = GaussianCode(6, 4, log_variance=-3.0)
    mean, log_variance = code(torch.randn(5, 6))
    assert mean.shape == log_variance.shape == (5, 4)
    assert log_variance.mean().item() == pytest.approx(-3.0, abs=0.2)
    assert mean.std() > 0.2
    _, extreme = code(torch.full((1, 6), 1e6))
    assert extreme.abs().max() <= 12
    (mean.sum() + log_variance.sum()).backward()
    assert blind(code) == []


# --------------------------------------------------------------------------- the backbone


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "places", "copy"),
    [
        *((64, (4, 4), (16, 16)), (128, (4, 4), (16, 16)), (8, (4, 4), (8, 8)), (16, (4, 4), (16, 16))),
        *(([160, 128], (5, 4), (20, 16)), ([48, 32], (6, 4), (24, 16)), ([144, 272], (9, 17), (36, 68))),
        (72, (9, 9), (36, 36)),
    ],
)
def test_any_size_and_any_code(size, places, copy, channels):
    height, width = (size, size) if isinstance(size, int) else size
    encoder = Encoder(size, channels, width=2, max_width=4)
    assert encoder.features == encoder.layers[-2].out_channels * places[0] * places[1] + channels * copy[0] * copy[1]
    decoder = Decoder(7, size, channels, width=2, max_width=4)
    for batch in (1, 2):
        features = encoder(torch.rand(batch, channels, height, width))
        assert features.shape == (batch, encoder.features)
        images = decoder(torch.randn(batch, 7))
        assert images.shape == (batch, channels, height, width)
        assert images.abs().max() <= 1


@pytest.mark.parametrize("upsampling", ["nearest", "transposed", "pixel_shuffle"])
@pytest.mark.parametrize("blocks", [0, 1])
@pytest.mark.parametrize("kind", [ReluCode, SigmoidCode, GaussianCode])
def test_every_bottleneck_on_one_backbone_learns_with_every_parameter(kind, blocks, upsampling):
    torch.manual_seed(0)
    encoder = Encoder(16, width=4, max_width=8, blocks=blocks)
    code, decoder = kind(encoder.features, 6), Decoder(6, 16, 3, 4, 8, blocks, upsampling)
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    z = code(encoder(x))
    if isinstance(z, tuple):
        z = z[0] + torch.randn(4, 6) * (z[1] / 2).exp()
    (decoder(z) - x).square().mean().backward()
    assert blind(encoder) == []
    assert blind(decoder) == []
    # batch norm takes away whatever the bias before it adds
    assert [n for n in blind(code) if n != "layers.0.bias"] == []


def test_the_features_hold_a_small_copy_of_the_picture():
    torch.manual_seed(0)
    encoder = Encoder(64, width=4)
    x = torch.rand(2, 3, 64, 64)
    means = x.view(2, 3, 16, 4, 16, 4).mean((3, 5))
    torch.testing.assert_close(encoder(x)[:, -3 * 16 * 16 :], means.flatten(1))


def test_the_decoder_holds_a_linear_one():
    """With the doublings silent, the picture before tanh is an affine function of z."""
    torch.manual_seed(0)
    decoder = Decoder(5, 32, width=4)
    nn.init.zeros_(decoder.layers[-1].weight)
    nn.init.zeros_(decoder.layers[-1].bias)
    z = torch.randn(2, 5)
    first, second, middle = (decoder(each).atanh() for each in (z[:1], z[1:], z.mean(0, keepdim=True)))
    torch.testing.assert_close((first + second) / 2, middle, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Encoder(70), r"data.size=\[70,70\]: .* try \[68,68\] or \[72,72\]"),
        (lambda: Decoder(8, [218, 178]), r"\[216,176\] or \[224,184\]"),
        (lambda: latent.PublishedMseEncoder(70), r"data.size=\[70,70\]: .* \[64,64\] or \[72,72\]"),
        (lambda: latent.PublishedBceDecoder(8, [8, 9]), r"\[8,8\] or \[8,16\]"),
    ],
)
def test_what_cannot_be_made_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
