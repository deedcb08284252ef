"""Dense networks for super-resolution and restoration.

They take (B, in_channels, H / factor, W / factor) and return (B, channels, H, W) in their ``output_range``. ``size``
is the target's, [height, width] or one int; a size that is no multiple of the factor raises ValueError naming the
nearest valid ones.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from faceforge.networks.blocks import Base, Enlarge, keras_init, scale_
from faceforge.networks.sizes import Size, multiple_of


class PublishedMlp(nn.Module):
    """The dense autoencoder of the published super-resolution project, 6,702,001 parameters for 35x35 to 70x70.

    Layers of 256, 128 (the code), 256 and as many units as the input has values, all with ReLU, and a sigmoid
    unit for each value of the image. Keras' defaults.
    """

    input_range = (0.0, 1.0)
    output_range = (0.0, 1.0)

    def __init__(self, size: Size = 70, channels: int = 1, in_channels: int = 1, factor: int = 2) -> None:
        super().__init__()
        small, large = _shapes(size, channels, in_channels, factor)
        widths = [prod(small), 256, 128, 256, prod(small)]
        self.layers = nn.Sequential(
            nn.Flatten(),
            *(layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())),
            *(nn.Linear(prod(small), prod(large)), nn.Sigmoid(), nn.Unflatten(1, large)),
        )
        self.apply(keras_init)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) in [0, 1] from (B, in_channels, H/factor, W/factor) in [0, 1]."""
        return self.layers(x)


class MlpAutoencoder(nn.Module):
    """A dense correction to a linear upscaling: residual blocks of ``width``.

    Each block is layer norm, a linear layer, GELU and another linear layer, added to its input. ``latent_size`` puts
    a narrow code between the two halves of the blocks: a true autoencoder, needed if ``base`` is none and the input is
    the image itself; null: no bottleneck. The output is not squashed and may leave [-1, 1] slightly.
    """

    input_range = (-1.0, 1.0)
    output_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = 70,
        channels: int = 1,
        in_channels: int = 1,
        factor: int = 2,
        width: int = 512,
        blocks: int = 2,
        latent_size: int | None = None,
        base: Base = "bicubic",
    ) -> None:
        super().__init__()
        small, large = _shapes(size, channels, in_channels, factor)
        self.base = Enlarge(factor, in_channels, channels, base)
        code = [nn.Linear(width, latent_size), nn.Linear(latent_size, width)] if latent_size else []
        last = nn.Linear(width, prod(large))
        scale_(last, 0.1)
        self.layers = nn.Sequential(
            *(nn.Flatten(), nn.Linear(prod(small), width)),
            *(_Block(width) for _ in range(blocks // 2)),
            *code,
            *(_Block(width) for _ in range(blocks - blocks // 2)),
            *(last, nn.Unflatten(1, large)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) from (B, in_channels, H/factor, W/factor), both on the [-1, 1] scale."""
        return self.base(x) + self.layers(x)


class _Block(nn.Module):
    """x + two dense layers of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _shapes(size: Size, channels: int, in_channels: int, factor: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the input and of the output: (channels, height, width)."""
    height, width = multiple_of(size, factor, f"both sides must be multiples of the factor {factor}")
    return (in_channels, height // factor, width // factor), (channels, height, width)
