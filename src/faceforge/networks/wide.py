"""Generators that map an image of noise to a face, with few channels at both ends and many in the middle.

They have ``latent_shape`` (3, height, width), ``latent`` (the distribution of z: "normal" is N(0, 1), "uniform" is
U[0, 1)) and ``output_range``. Sizes are [height, width] or one int; unsupported sizes raise ValueError naming the
nearest valid ones.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf, sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import Residual
from faceforge.networks.conditional import TakesLabels
from faceforge.networks.recompute import Recomputing
from faceforge.networks.sizes import Size, as_pair, halvings_of, multiple_of


class PublishedCnnGenerator(Recomputing):
    """The "CNN" generator of the published GAN: 1,961,859 parameters; 395,395 in its first, ``depthwise`` form.

    Convolutions that keep the size: 3x3 to 64, 5x5 to 128, 7x7 to 256 with LeakyReLU 0.01, 3x3 to 64 and to RGB
    with ReLU; depthwise, the 7x7 is depthwise followed by a 1x1. The receptive field is 17 pixels, too small for a
    face's layout. The last ReLU leaves the output in [0, inf); kept as published. The first form also multiplied its
    output by 255; not reproduced, since the range is stated instead.
    """

    latent = "uniform"
    output_range = (0.0, inf)

    def __init__(
        self, size: Size = 64, channels: int = 3, depthwise: bool = False, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        self.latent_shape = (3, *multiple_of(size, 1, "both sides must be at least 1"))
        widest = [nn.Conv2d(128, 128, 7, padding=3, groups=128), nn.Conv2d(128, 256, 1)]
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 64, 3, padding=1), nn.LeakyReLU(0.01)),
            *(nn.Conv2d(64, 128, 5, padding=2), nn.LeakyReLU(0.01)),
            *(widest if depthwise else [nn.Conv2d(128, 256, 7, padding=3)]),
            *(nn.LeakyReLU(0.01), nn.Conv2d(256, 64, 3, padding=1)),
            *(nn.ReLU(), nn.Conv2d(64, channels, 3, padding=1), nn.ReLU()),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, height, width) in [0, inf) from z (B, 3, height, width) in [0, 1)."""
        if not self.gradient_checkpointing:
            return self.layers(z)
        for first in range(0, len(self.layers), 2):
            z = self.run(self.layers[first : first + 2], z)
        return z


class CnnGenerator(Recomputing, TakesLabels):
    """The wide generator made trainable: the same image of noise, at every resolution.

    Noise has no large structures that convolutions could find: its block means vanish with the block size. So each
    resolution receives the block sums scaled to unit variance: the coarsest ones, through a linear layer, decide the
    layout, and every upsampling (transposed convolution, kernel 4, stride 2) adds the noise of its own resolution,
    batch norm, LeakyReLU 0.2 and a residual block; the last receives the noise itself. Channels: ``width`` at half the
    size, doubling at every step towards the middle, at most ``max_width``. tanh.
    """

    output_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        width: int = 32,
        max_width: int = 256,
        latent: Literal["normal", "uniform"] = "normal",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        height, breadth = as_pair(size)
        halvings = halvings_of(size)
        self.seed = (height >> halvings, breadth >> halvings)
        self.latent, self.latent_shape = latent, (3, height, breadth)
        widths = [min(width * 2**i, max_width) for i in range(halvings)][::-1]
        places = self.seed[0] * self.seed[1]
        self.label_features = widths[0] * places
        self.layout = nn.Linear(3 * places, self.label_features, bias=False)
        self.first = nn.Sequential(nn.BatchNorm2d(widths[0]), nn.LeakyReLU(0.2), _residual(widths[0]))
        self.growth = nn.ModuleList(_Growth(a, b) for a, b in pairwise(widths))
        self.last = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1)
        self.grain = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self._initialise()
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, channels, height, width) in [-1, 1] from z (B, 3, height, width) of the ``latent`` kind, and
        labels (B, K), if it takes any.
        """
        noise = self._pyramid(z)
        features = self.layout(noise.pop().flatten(1)) + self.of_labels(labels)
        features = features.unflatten(1, (*self.seed, -1)).permute(0, 3, 1, 2)
        features = self.run(self.first, features)
        for growth in self.growth:
            features = self.run(growth, features, noise.pop())
        return torch.tanh(self.last(features) + self.grain(noise.pop()))

    def _pyramid(self, z: Tensor) -> list[Tensor]:
        """The noise at full size, half size, ... down to the seed, each with variance 1."""
        noise = [z if self.latent == "normal" else (z - 0.5) * sqrt(12)]
        for _ in range(len(self.growth) + 1):
            noise.append(2 * functional.avg_pool2d(noise[-1], 2))
        return noise

    def _initialise(self) -> None:
        nn.init.normal_(self.layout.weight, 0.0, self.layout.in_features**-0.5)
        for module in [*(growth.grow for growth in self.growth), self.last]:
            nn.init.normal_(module.weight, 0.0, 0.02)  # pyright: ignore[reportArgumentType]
        nn.init.normal_(self.grain.weight, 0.0, 0.002)  # otherwise fine noise is visible from the start
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]


class _Growth(nn.Module):
    """Upsampling by two, with the noise of that size added."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
        self.noise = nn.Conv2d(3, outputs, 3, padding=1, bias=False)
        self.after = nn.Sequential(nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2), _residual(outputs))
        nn.init.normal_(self.noise.weight, 0.0, 0.02)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.after(self.grow(x) + self.noise(noise))


def _residual(channels: int) -> Residual:
    return Residual(channels, 0.2, hidden=max(channels // 2, 1))
