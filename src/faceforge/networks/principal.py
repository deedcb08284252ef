"""An encoder and a decoder that start as principal component analysis and learn what it lacks.

Sirovich and Kirby 1987 and Turk and Pentland 1991 (eigenfaces) are the linear part: of all linear codes of a length it
has the least squared error. Convolutions add to its codes and to its pictures, from zero. Sizes as in
``networks.latent``.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import Residual, Upsampling, doubling, zero_
from faceforge.networks.sizes import Size, as_pair, halvings_of

FLOOR = 1e-3  # of the largest deviation: codes along directions that hardly vary are not scaled up further


class Principal(nn.Module):
    """Principal components of images, kept with the weights: a mean, K directions of length 1, and the deviations of
    faces along them. They are not trained. Until ``assign`` the directions are random.
    """

    def __init__(self, size: Size, channels: int, count: int) -> None:
        super().__init__()
        self.shape = (channels, *as_pair(size))
        values = prod(self.shape)
        directions = torch.randn(count, values) / sqrt(values)
        self.mean, self.directions, self.deviations = (
            nn.Parameter(start, requires_grad=False) for start in (torch.zeros(values), directions, torch.ones(count))
        )
        self.register_buffer("assigned", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def assign(self, mean: Tensor, directions: Tensor, deviations: Tensor) -> None:
        """Take the mean (D,), directions (K, D) and deviations (K,) that ``leading_components`` found."""
        self.mean.copy_(mean)
        self.directions.copy_(directions)
        most = float(deviations.max())
        self.deviations.copy_(deviations.clamp(min=FLOOR * most) if most else torch.ones_like(deviations))
        self.get_buffer("assigned").fill_(True)

    def codes(self, x: Tensor) -> Tensor:
        """Codes (B, K), of variance 1 for faces, of images (B, channels, H, W)."""
        return functional.linear(x.flatten(1) - self.mean, self.directions / self.deviations[:, None])

    def images(self, z: Tensor) -> Tensor:
        """Images (B, channels, H, W) of codes (B, K)."""
        return torch.addmm(self.mean, z * self.deviations, self.directions).unflatten(1, self.shape)


class PrincipalEncoder(nn.Module):
    """The codes of principal components, followed by features of convolutions.

    Squares of ``patch`` pixels a side become ``width`` channels, which double at every halving, at most ``max_width``;
    ``blocks`` residual blocks at every size. The last places have ``squeezed`` channels. No norm: features do not
    depend on the batch. ``LinearCode`` passes the former on and adds what it learns from the latter.
    """

    input_range = (-1.0, 1.0)

    def __init__(
        self,
        latent_size: int,
        size: Size = 64,
        channels: int = 3,
        width: int = 32,
        max_width: int = 128,
        blocks: int = 1,
        squeezed: int = 32,
        patch: int = 4,
    ) -> None:
        super().__init__()
        patch, widths, places = _levels(size, width, max_width, patch)
        self.principal = Principal(size, channels, latent_size)
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(patch),
            nn.Conv2d(channels * patch**2, widths[0], 3, padding=1),
            *_blocks(widths[0], blocks),
            *(layer for a, b in pairwise(widths) for layer in _halve(a, b, blocks)),
            nn.LeakyReLU(0.2),
            nn.Conv2d(widths[-1], squeezed, 1),
            nn.LeakyReLU(0.2),
        )
        self.features = latent_size + squeezed * prod(places)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, features) of images (B, channels, H, W) in [-1, 1]."""
        return torch.cat([self.principal.codes(x), self.layers(x).flatten(1)], 1)


class PrincipalDecoder(nn.Module):
    """The image of principal components, plus what convolutions see in it and in the code.

    The mirrored encoder; ``squeezed`` channels at the first places come from z by a linear layer. Outputs may leave
    the range: pictures are clamped where they are used.
    """

    output_range = (-1.0, 1.0)

    def __init__(
        self,
        latent_size: int,
        size: Size = 64,
        channels: int = 3,
        width: int = 32,
        max_width: int = 128,
        blocks: int = 1,
        squeezed: int = 32,
        upsampling: Upsampling = "transposed",
        patch: int = 4,
    ) -> None:
        super().__init__()
        patch, widths, self.places = _levels(size, width, max_width, patch)
        self.principal = Principal(size, channels, latent_size)
        self.expand = nn.Linear(latent_size, squeezed * prod(self.places))
        self.seen = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(channels * patch**2, widths[0], 3, padding=1))
        self.grown = nn.Sequential(
            nn.Conv2d(squeezed, widths[-1], 1),
            *(layer for a, b in pairwise(widths[::-1]) for layer in doubling(a, b, blocks, upsampling)),
        )
        self.layers = nn.Sequential(
            *_blocks(widths[0], blocks),
            nn.LeakyReLU(0.2),
            zero_(nn.Conv2d(widths[0], channels * patch**2, 3, padding=1)),
            nn.PixelShuffle(patch),
        )
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, H, W), about in [-1, 1], from z (B, latent_size)."""
        linear = self.principal.images(z)
        places = self.expand(z).unflatten(1, (-1, *self.places))
        return linear + self.layers(self.seen(linear) + self.grown(places))


def _levels(size: Size, width: int, max_width: int, patch: int) -> tuple[int, list[int], tuple[int, int]]:
    """Pixels per patch, channels at each size from patches downwards, and the smallest (height, width).

    It is twice that of ``networks.latent``: at least 8 places a side where there are as many.
    """
    if patch not in (1, 2, 4, 8):
        raise ValueError(f"patch={patch}: must be 1, 2, 4 or 8")
    height, bottom = as_pair(size)
    small = 2 ** max(halvings_of(size) - 1, 1)
    patch = min(patch, small)
    count = (small // patch).bit_length()
    return patch, [min(width * 2**i, max_width) for i in range(count)], (height // small, bottom // small)


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [Residual(channels, 0.2) for _ in range(count)]


def _halve(inputs: int, outputs: int, blocks: int) -> list[nn.Module]:
    return [nn.LeakyReLU(0.2), nn.Conv2d(inputs, outputs, 4, 2, 1), *_blocks(outputs, blocks)]
