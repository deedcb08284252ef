"""A residual generator and discriminator without norms, after R3GAN (Huang et al. 2024, arXiv 2501.05441, section 3).

They have ``latent_shape``, ``latent``, ``output_range`` and ``input_range`` as the networks of `dcgan`; sizes as in
`seed_of`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import SLOPE, doubled, he_init, scale_, zero_
from faceforge.networks.conditional import TakesLabels
from faceforge.networks.dcgan import Variety
from faceforge.networks.sizes import Size, seed_of


class ResidualGenerator(TakesLabels):
    """Residual blocks at every size up to half the image's, with bilinear upsampling between them, then tanh.

    No norm: each face depends on its z alone. What a norm does for the start of a training, the initialisation does
    (Fixup, Zhang et al. 2019, arXiv 1901.09321): the last convolution of each block is zero, and the first is scaled by
    the number of blocks to the power -1/2. Each size adds its RGB output to the upsampled image of the one before.
    Channels: ``width`` at half the image size, doubling at every step towards the seed, at most ``max_width``.
    """

    latent = "normal"
    output_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        latent_size: int = 128,
        width: int = 32,
        max_width: int = 256,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        doublings, self.seed = seed_of(size)
        self.latent_shape = (latent_size,)
        widths = _widths(doublings, width, max_width, blocks)[::-1]
        self.label_features = widths[0] * self.seed[0] * self.seed[1]
        self.expand = nn.Linear(latent_size, self.label_features)
        self.narrow = nn.ModuleList(_mix(a, b) for a, b in pairwise(widths))
        self.stages = nn.ModuleList(_blocks(width, blocks, blocks * len(widths)) for width in widths)
        self.colours = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)
        nn.init.normal_(self.expand.weight, 0.0, latent_size**-0.5)
        nn.init.zeros_(self.expand.bias)
        for layer in [*self.colours, self.last]:
            he_init(layer)
            scale_(layer, 0.1)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, channels, height, width) in [-1, 1] from z (B, latent_size) and labels (B, K), if it takes any."""
        features = (self.expand(z) + self.of_labels(labels)).unflatten(1, (*self.seed, -1)).permute(0, 3, 1, 2)
        features = self.stages[0](features)
        image = self.colours[0](features)
        for narrow, stage, colour in zip(self.narrow, self.stages[1:], self.colours[1:], strict=True):  # type: ignore[call-overload]
            features = stage(doubled(narrow(features)))
            image = colour(features) + doubled(image)
        return torch.tanh(self.last(doubled(features)) + doubled(image))


class ResidualDiscriminator(TakesLabels):
    """The mirrored generator: a convolution to half the size, residual blocks with 2x2 means between, a linear layer.

    One number per batch shows a lack of variety, as in `ConventionalDiscriminator`.
    """

    input_range = (-1.0, 1.0)

    def __init__(
        self, size: Size = 64, channels: int = 3, width: int = 32, max_width: int = 256, blocks: int = 1
    ) -> None:
        super().__init__()
        halvings, seed = seed_of(size)
        widths = _widths(halvings, width, max_width, blocks)
        self.first = nn.Conv2d(channels, widths[0], 4, 2, 1)
        he_init(self.first, SLOPE)
        self.widen = nn.ModuleList(_mix(a, b) for a, b in pairwise(widths))
        self.stages = nn.ModuleList(_blocks(width, blocks, blocks * len(widths)) for width in widths)
        self.variety = Variety()
        self.label_features = widths[-1]
        self.judge = nn.Linear((widths[-1] + 1) * seed[0] * seed[1], 1, bias=False)
        nn.init.normal_(self.judge.weight, 0.0, self.judge.in_features**-0.5)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B,) from images (B, channels, height, width) in [-1, 1] and labels (B, K), if it takes any."""
        features = self.stages[0](functional.leaky_relu(self.first(images), SLOPE))
        for widen, stage in zip(self.widen, self.stages[1:], strict=True):  # type: ignore[call-overload]
            features = stage(widen(functional.avg_pool2d(features, 2)))
        logits = self.judge(torch.cat([features, self.variety(features)], 1).flatten(1)).flatten()
        return logits + self.projected(features, labels)


class Block(nn.Module):
    """x + two 3x3 convolutions of it, each after a LeakyReLU; the second is zero at the start."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = zero_(nn.Conv2d(channels, channels, 3, padding=1))
        he_init(self.first, SLOPE)
        scale_(self.first, depth**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        inner = self.first(functional.leaky_relu(x, SLOPE))
        return x + self.second(functional.leaky_relu(inner, SLOPE))


def _widths(doublings: int, width: int, max_width: int, blocks: int) -> list[int]:
    """Channels at half the image size, a quarter, ... down to the seed."""
    if blocks < 1:
        raise ValueError(f"blocks={blocks}: must be at least 1")
    return [min(width * 2**i, max_width) for i in range(doublings)]


def _blocks(width: int, count: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width, depth) for _ in range(count)))


def _mix(inputs: int, outputs: int) -> nn.Module:
    """1x1, which commutes with resampling, so that it works on the smaller maps; nothing where channels stay."""
    if inputs == outputs:
        return nn.Identity()
    layer = nn.Conv2d(inputs, outputs, 1, bias=False)
    nn.init.normal_(layer.weight, 0.0, inputs**-0.5)
    return layer
