"""Encoders, codes and decoders of face autoencoders.

Encoders give features (B, ``features``), codes turn features into z (B, latent_size), decoders turn z into images
(B, channels, H, W). Sizes are [height, width] or one int; unsupported sizes raise ValueError
naming the nearest valid ones.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf, prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import Residual, Upsampling, doubling, scale_
from faceforge.networks.sizes import Pair, Size, as_pair, halvings_of, multiple_of


class ReluCode(nn.Module):
    """The code of the published MSE autoencoder: a linear layer, batch norm, ReLU; z in [0, inf), about half zeros."""

    output_range = (0.0, inf)

    def __init__(self, features: int, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.layers = nn.Sequential(nn.Linear(features, latent_size), nn.BatchNorm1d(latent_size), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """z (B, latent_size) from features (B, features)."""
        return self.layers(features)


class SigmoidCode(nn.Module):
    """The code of the published BCE autoencoder: a linear layer, batch norm, sigmoid; z in (0, 1)."""

    output_range = (0.0, 1.0)

    def __init__(self, features: int, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.layers = nn.Sequential(nn.Linear(features, latent_size), nn.BatchNorm1d(latent_size), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """z (B, latent_size) from features (B, features)."""
        return self.layers(features)


class GaussianCode(nn.Module):
    """The posterior of a variational autoencoder, N(mean, exp(log variance)) for each unit (Kingma and Welling
    2014, arXiv 1312.6114).

    Initial variances are near ``exp(log_variance)`` with the default -4: small enough for the decoder to use the code
    from the first step. Log variances are clamped to [-12, 8].
    """

    def __init__(self, features: int, latent_size: int, log_variance: float = -4.0) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.mean = nn.Linear(features, latent_size)
        self.log_variance = nn.Linear(features, latent_size)
        scale_(self.log_variance, 0.1)
        nn.init.constant_(self.log_variance.bias, log_variance)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each (B, latent_size), from features (B, features)."""
        return self.mean(features), self.log_variance(features).clamp(-12.0, 8.0)


class LinearCode(nn.Module):
    """A deterministic code that starts as the first ``latent_size`` features, to which a linear layer of all features
    adds: with ``networks.principal`` these are the codes of principal components. What features lack starts at 0. No
    range.
    """

    def __init__(self, features: int, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.linear = nn.Linear(features, latent_size)
        scale_(self.linear, 0.0)

    def forward(self, features: Tensor) -> Tensor:
        """z (B, latent_size) from features (B, features)."""
        first = functional.pad(features, (0, self.latent_size - features.shape[1]))  # a negative number cuts
        return first + self.linear(features)


class Encoder(nn.Module):
    """Strided convolutions (kernel 4, stride 2, LeakyReLU 0.2) down to a few positions, and a downscaled copy.

    The features are those positions and the image itself, at most four times their size: with the copy, a linear code
    can represent principal components from the start, and the convolutions add the rest. Without it, reaching PCA
    quality takes many times longer. Channels: ``width`` at half the size, doubling at every halving, at most
    ``max_width``; ``blocks`` residual blocks after each. No norm: features do not depend on the batch; the code may
    have a norm. Sizes as in ``halvings_of``: all multiples of 16 up to 511, and more.
    """

    input_range = (-1.0, 1.0)

    def __init__(
        self, size: Size = 64, channels: int = 3, width: int = 32, max_width: int = 256, blocks: int = 0
    ) -> None:
        super().__init__()
        halvings, seed, sketch = _places(size)
        widths = [channels, *_widths(halvings, width, max_width)]
        self.layers = nn.Sequential(*(layer for a, b in pairwise(widths) for layer in _halve(a, b, blocks)))
        self.sketch = nn.AvgPool2d(as_pair(size)[0] // sketch[0])
        self.features = widths[-1] * prod(seed) + channels * prod(sketch)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, features) of images (B, channels, H, W) in [-1, 1]."""
        return torch.cat([self.layers(x).flatten(1), self.sketch(x).flatten(1)], 1)


class Decoder(nn.Module):
    """The mirrored encoder: a small image, linear in z and upscaled, plus an upsampling stack from a few positions;
    tanh.

    ``upsampling`` as in ``doubler``. Sizes, widths and blocks as in the encoder.
    """

    output_range = (-1.0, 1.0)

    def __init__(
        self,
        latent_size: int,
        size: Size = 64,
        channels: int = 3,
        width: int = 32,
        max_width: int = 256,
        blocks: int = 0,
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        halvings, self.seed, small = _places(size)
        widths = [*_widths(halvings, width, max_width)[::-1], channels]
        self.expand = nn.Linear(latent_size, widths[0] * prod(self.seed))
        self.layers = nn.Sequential(
            *(layer for a, b in pairwise(widths) for layer in doubling(a, b, blocks, upsampling))
        )
        self.sketch = nn.Sequential(
            nn.Linear(latent_size, channels * prod(small)),
            nn.Unflatten(1, (channels, *small)),
            nn.Upsample(as_pair(size), mode="bilinear", align_corners=False),
        )
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [-1, 1] from z (B, latent_size)."""
        places = self.expand(z).unflatten(1, (*self.seed, -1)).permute(0, 3, 1, 2)
        return torch.tanh(self.sketch(z) + self.layers(places))


class PublishedMseEncoder(nn.Module):
    """The encoder of the published autoencoder with MSE and a ReLU code; all three parts have 81,286,339 parameters
    at 128x128 in colour with a code of 1024.

    3x3 convolutions, ReLU only after batch norm, twice two convolutions with nothing between: 32-32, 64
    (stride 2), 128-128, 256 (2), 512-512, 512 (2), 128. PyTorch's defaults. The code is ``ReluCode``.
    """

    input_range = (0.0, 1.0)

    def __init__(self, size: Size = 128, channels: int = 3) -> None:
        super().__init__()
        height, width = _eighth(size)
        self.features = 128 * height * width
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            *_conv(32, 32),
            *_conv(32, 64, stride=2),
            nn.Conv2d(64, 128, 3, padding=1),
            *_conv(128, 128),
            *_conv(128, 256, stride=2),
            nn.Conv2d(256, 512, 3, padding=1),
            *_conv(512, 512),
            *_conv(512, 512, stride=2),
            *_conv(512, 128),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 2 H W) of images (B, channels, H, W) in [0, 1]."""
        return self.layers(x)


class PublishedMseDecoder(nn.Module):
    """The decoder of ``PublishedMseEncoder``: a linear layer with batch norm but no ReLU, then 3x3 transposed
    convolutions: 512, 512 (doubling), 512-256, 128 (doubling), 128-64, 32 (doubling), 32-channels, and a ReLU.

    The last ReLU leaves the output in [0, inf); kept as published.
    """

    output_range = (0.0, inf)

    def __init__(self, latent_size: int, size: Size = 128, channels: int = 3) -> None:
        super().__init__()
        seed = _eighth(size)
        self.layers = nn.Sequential(
            *(nn.Linear(latent_size, 128 * seed[0] * seed[1]), nn.BatchNorm1d(128 * seed[0] * seed[1])),
            nn.Unflatten(1, (128, *seed)),
            *_transposed(128, 512),
            *_transposed(512, 512, stride=2),
            nn.ConvTranspose2d(512, 512, 3, padding=1),
            *_transposed(512, 256),
            *_transposed(256, 128, stride=2),
            nn.ConvTranspose2d(128, 128, 3, padding=1),
            *_transposed(128, 64),
            *_transposed(64, 32, stride=2),
            nn.ConvTranspose2d(32, 32, 3, padding=1),
            *(nn.ConvTranspose2d(32, channels, 3, padding=1), nn.ReLU()),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [0, inf) from z (B, latent_size)."""
        return self.layers(z)


class PublishedBceEncoder(nn.Module):
    """The encoder of the published autoencoder with BCE and a sigmoid code; all three parts have 82,329,539
    parameters at 128x128 in colour with a code of 1024.

    3x3 convolutions, each with batch norm and ReLU: 32, 64 (stride 2), 128, 256 (2), 512, 512 (2), 256, 128, 64;
    then a linear layer of 2048 with batch norm and ReLU. PyTorch's defaults. The code is ``SigmoidCode``.
    """

    input_range = (0.0, 1.0)

    def __init__(self, size: Size = 128, channels: int = 3) -> None:
        super().__init__()
        height, width = _eighth(size)
        self.features = 2048
        self.layers = nn.Sequential(
            *_conv(channels, 32),
            *_conv(32, 64, stride=2),
            *_conv(64, 128),
            *_conv(128, 256, stride=2),
            *_conv(256, 512),
            *_conv(512, 512, stride=2),
            *_conv(512, 256),
            *_conv(256, 128),
            *_conv(128, 64),
            nn.Flatten(),
            *_linear(64 * height * width, 2048),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 2048) of images (B, channels, H, W) in [0, 1]."""
        return self.layers(x)


class PublishedBceDecoder(nn.Module):
    """The decoder of ``PublishedBceEncoder``: linear layers, then 3x3 transposed convolutions, each with batch
    norm and ReLU: 128, 256, 512, 512 (doubling), 256, 128 (doubling), 64, 32 (doubling); the last has a sigmoid.
    """

    output_range = (0.0, 1.0)

    def __init__(self, latent_size: int, size: Size = 128, channels: int = 3) -> None:
        super().__init__()
        seed = _eighth(size)
        self.layers = nn.Sequential(
            *_linear(latent_size, 2048),
            *_linear(2048, 64 * seed[0] * seed[1]),
            nn.Unflatten(1, (64, *seed)),
            *_transposed(64, 128),
            *_transposed(128, 256),
            *_transposed(256, 512),
            *_transposed(512, 512, stride=2),
            *_transposed(512, 256),
            *_transposed(256, 128, stride=2),
            *_transposed(128, 64),
            *_transposed(64, 32, stride=2),
            *(nn.ConvTranspose2d(32, channels, 3, padding=1), nn.Sigmoid()),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [0, 1] from z (B, latent_size)."""
        return self.layers(z)


def _places(size: Size) -> tuple[int, Pair, Pair]:
    """The number of halvings, and (height, width) of the remaining positions and of the small copy."""
    height, width = as_pair(size)
    halvings = halvings_of(size)
    fewer = max(halvings - 2, 0)
    return halvings, (height >> halvings, width >> halvings), (height >> fewer, width >> fewer)


def _widths(halvings: int, width: int, max_width: int) -> list[int]:
    """Channels at half the image size, a quarter, ... ."""
    return [min(width * 2**i, max_width) for i in range(halvings)]


def _halve(inputs: int, outputs: int, blocks: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2), *(Residual(outputs, 0.2) for _ in range(blocks))]


def _eighth(size: Size) -> Pair:
    height, width = multiple_of(size, 8, "the published network halves three times: both sides must be multiples of 8")
    return height // 8, width // 8


def _conv(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()


def _transposed(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    grow = nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=1, output_padding=stride - 1)
    return grow, nn.BatchNorm2d(outputs), nn.ReLU()


def _linear(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()
