"""A generator whose layers are scaled by a style: no norm over the batch, so that each face depends on its z alone.

It has `latent_shape`, `latent` and `output_range` as the generators of `dcgan`; sizes as in `seed_of`.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import GAIN, SLOPE, NearestConv, double_kernel, doubled
from faceforge.networks.sizes import Size, seed_of


class StyledGenerator(nn.Module):
    """A mapping network makes a style w of z; w decides the seed and scales the inputs of every convolution.

    The output of a scaled convolution is divided by the deviation that it has for inputs of variance 1 (weight
    demodulation, Karras et al. 2020, arXiv 1912.04958, eq. 3; applied to maps instead of weights). Every doubling is
    nearest upsampling with a 3x3 convolution, then ``depth - 1`` more; each resolution adds its RGB output to the
    upsampled image of the previous one (fig. 7). The last doubling goes straight to RGB, as maps of the full size
    would cost most. tanh. Channels: ``width`` at half the image size, doubling at every step towards the seed, at most
    ``max_width``.
    """

    latent = "normal"
    output_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        latent_size: int = 128,
        mapping: int = 2,
        width: int = 32,
        max_width: int = 256,
        depth: int = 1,
    ) -> None:
        super().__init__()
        if depth < 1 or mapping < 0:
            raise ValueError(f"depth={depth}, mapping={mapping}: must be at least 1 and 0")
        doublings, self.seed = seed_of(size)
        self.latent_shape = (latent_size,)
        widths = [min(width * 2**i, max_width) for i in range(doublings)][::-1]
        self.mapping = nn.Sequential(*(_Dense(latent_size) for _ in range(mapping)))
        self.expand = nn.Linear(latent_size, widths[0] * self.seed[0] * self.seed[1])
        self.first = _Styled(widths[0], widths[0], latent_size)
        self.stages = nn.ModuleList()
        for inputs, outputs in pairwise(widths):
            further = (_Styled(outputs, outputs, latent_size) for _ in range(depth - 1))
            self.stages.append(nn.ModuleList([_Styled(inputs, outputs, latent_size, doubles=True), *further]))
        self.colours = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.last = NearestConv(widths[-1], channels)
        self._initialise()
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, height, width) in [-1, 1] from z (B, latent_size)."""
        style = self.mapping(z)
        features = self.first(self.expand(style).unflatten(1, (*self.seed, -1)).permute(0, 3, 1, 2), style)
        image = self.colours[0](features)
        for stage, colour in zip(self.stages, self.colours[1:], strict=True):
            for layer in stage:  # type: ignore[union-attr]
                features = layer(features, style)
            image = colour(features) + doubled(image)
        return torch.tanh(self.last(features) + doubled(image))

    def _initialise(self) -> None:
        nn.init.normal_(self.expand.weight, 0.0, self.expand.in_features**-0.5)
        nn.init.zeros_(self.expand.bias)
        for layer in [*self.colours, self.last]:
            nn.init.normal_(layer.weight, 0.0, 0.1 / sqrt(layer.weight[0].numel()))  # type: ignore[arg-type, union-attr]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class _Dense(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        nn.init.normal_(self.linear.weight, 0.0, GAIN / sqrt(width))
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(self.linear(x), SLOPE)


class _Styled(nn.Module):
    """A 3x3 convolution of inputs scaled by a style, at twice the size if it ``doubles``; then bias and LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, style: int, doubles: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) / sqrt(9 * inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.style = nn.Linear(style, inputs)
        nn.init.normal_(self.style.weight, 0.0, style**-0.5)
        nn.init.ones_(self.style.bias)
        self.doubles = doubles

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, outputs, H, W) or twice the size of x (B, inputs, H, W) and a style (B, S)."""
        scale = self.style(style)
        power = scale.square() @ self.weight.square().sum((2, 3)).T
        x = x * scale[:, :, None, None]
        if self.doubles:
            x = functional.conv_transpose2d(x, double_kernel(self.weight), stride=2, padding=1)
        else:
            x = functional.conv2d(x, self.weight, padding=1)
        gain = GAIN * (power + 1e-6).rsqrt()
        return functional.leaky_relu(x * gain[:, :, None, None] + self.bias[:, None, None], SLOPE)
