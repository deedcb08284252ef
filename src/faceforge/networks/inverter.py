"""The encoder of a GAN: from a face to the z from which the generator would make it."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from faceforge.networks.sizes import Size, as_pair

SMALLEST = 4  # pixels of the longer side at which halving ends
GROUPS = 8  # of channels, which are normalised together


class Inverter(nn.Module):
    """Strided 3x3 convolutions with group norm and LeakyReLU 0.2, each to half the size, then a linear layer to z.

    Channels: ``width`` at half the size, doubling at every halving, at most eight times as many. No batch norm: the
    code of a face does not depend on the faces beside it. Any size from one pixel. Raises ValueError for a width that
    is no multiple of 8.
    """

    input_range = (-1.0, 1.0)

    def __init__(self, latent_size: int, size: Size, channels: int, width: int = 48) -> None:
        super().__init__()
        if width < GROUPS or width % GROUPS:
            raise ValueError(f"width={width}: must be a multiple of {GROUPS}")
        self.width = width
        sides, widths = list(as_pair(size)), [channels]
        while max(sides) > SMALLEST:
            sides = [(side + 1) // 2 for side in sides]
            widths.append(min(width * 2 ** (len(widths) - 1), 8 * width))
        halvings = [layer for a, b in pairwise(widths) for layer in _halve(a, b)]
        self.layers = nn.Sequential(*halvings, nn.Flatten(), nn.Linear(widths[-1] * sides[0] * sides[1], latent_size))

    def forward(self, x: Tensor) -> Tensor:
        """z (B, latent_size) of images (B, channels, H, W) in [-1, 1]."""
        return self.layers(x)


def _halve(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(GROUPS, outputs), nn.LeakyReLU(0.2)]
