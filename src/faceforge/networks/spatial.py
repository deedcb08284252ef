"""An encoder and a decoder whose code has places: numbers for every square of the image, as in latent diffusion.

Rombach et al. 2022, arXiv 2112.10752. Each describes its surroundings; nothing describes the face as a whole.
Sizes must be multiples of the square's side.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import Residual, Upsampling, doubling, scale_, zero_
from faceforge.networks.sizes import Pair, Size, multiple_of

SQUARES = (4, 8, 16, 32)


class SpatialEncoder(nn.Module):
    """Strided convolutions and residual blocks down to one place per square of ``square`` pixels a side.

    ``latent_size`` numbers are shared evenly by the places: at 64x64 with squares of 8, each of the 64 places has 16
    numbers of a code of 1024. The first of them start as the mean colour of the square. Channels: ``width`` at half
    the size, doubling at every halving, at most ``max_width``. ``LinearCode`` passes the code on.
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
        square: int = 8,
    ) -> None:
        super().__init__()
        maps, _ = _maps(latent_size, size, channels, square)
        widths = _widths(square, width, max_width)
        self.layers = nn.Sequential(
            *(layer for a, b in pairwise([channels, *widths]) for layer in _halve(a, b, blocks)),
            nn.Conv2d(widths[-1], maps, 1),
        )
        scale_(self.layers[-1], 0.1)  # type: ignore[arg-type]
        self.square, self.features = square, latent_size
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        """The code (B, latent_size), map by map, of images (B, channels, H, W) in [-1, 1]."""
        code, means = self.layers(x), functional.avg_pool2d(x, self.square)
        return (code + functional.pad(means, (0, 0, 0, 0, 0, code.shape[1] - means.shape[1]))).flatten(1)


class SpatialDecoder(nn.Module):
    """The mirrored encoder: the mean colours, upscaled, plus what convolutions make of the code, from zero.

    Outputs may leave the range: pictures are clamped where they are used.
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
        upsampling: Upsampling = "transposed",
        square: int = 8,
    ) -> None:
        super().__init__()
        self.channels, self.square = channels, square
        maps, self.places = _maps(latent_size, size, channels, square)
        widths = _widths(square, width, max_width)[::-1]
        self.first = nn.Conv2d(maps, widths[0], 3, padding=1)
        self.layers = nn.Sequential(
            *(layer for a, b in pairwise(widths) for layer in doubling(a, b, blocks, upsampling)),
            *(Residual(widths[-1], 0.2) for _ in range(blocks)),
            nn.LeakyReLU(0.2),
            zero_(nn.Conv2d(widths[-1], 4 * channels, 3, padding=1)),
            nn.PixelShuffle(2),
        )
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, H, W), about in [-1, 1], from z (B, latent_size)."""
        code = z.unflatten(1, (-1, *self.places))
        means = code[:, : self.channels]
        base = functional.interpolate(means, scale_factor=self.square, mode="bilinear", align_corners=False)
        return base + self.layers(self.first(code))


def _maps(latent_size: int, size: Size, channels: int, square: int) -> tuple[int, Pair]:
    """Numbers per place, and (height, width) of the places. Raises ValueError for a code that these do not share."""
    if square not in SQUARES:
        raise ValueError(f"square={square}: must be {', '.join(map(str, SQUARES[:-1]))} or {SQUARES[-1]}")
    height, width = multiple_of(size, square, f"both sides must be multiples of square={square}")
    places = height // square, width // square
    maps, rest = divmod(latent_size, places[0] * places[1])
    if rest or maps < channels:
        least = f"at least {channels} for each of the {places[0]}x{places[1]} places"
        raise ValueError(f"latent_size={latent_size}: must be a multiple of {places[0] * places[1]}, {least}")
    return maps, places


def _widths(square: int, width: int, max_width: int) -> list[int]:
    return [min(width * 2**n, max_width) for n in range(square.bit_length() - 1)]


def _halve(inputs: int, outputs: int, blocks: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 4, 2, 1), *(Residual(outputs, 0.2) for _ in range(blocks)), nn.LeakyReLU(0.2)]
