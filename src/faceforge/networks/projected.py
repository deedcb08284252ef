"""A discriminator that sees images through a frozen network trained by others: Sauer et al. 2021 (arXiv 2111.01007)."""

from __future__ import annotations

from collections.abc import Callable
from math import log2, prod, sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge import counter_rng
from faceforge.networks.blocks import he_init, normalise_spectra
from faceforge.networks.conditional import TakesLabels
from faceforge.networks.dcgan import ConventionalDiscriminator
from faceforge.networks.sizes import Size, as_pair

SMALLEST = 4  # positions of a head's last maps, at most 7


class ProjectedDiscriminator(TakesLabels):
    """Small discriminators of the feature maps of a frozen network, one for each map, beside one of the pixels.

    ``features`` returns maps (B, C, H, W), finest first, for images in [0, 1], as `losses.Perceptual` wants them; the
    ``coarsest`` of them are used. Fixed random 1x1 convolutions to ``mixed`` channels, then, from the coarsest on, the
    sum with the coarser maps and a fixed random 3x3 convolution mix channels and scales, so that a discriminator cannot
    rest on a few features (section 3.2). Heads halve (kernel 4, stride 2, LeakyReLU 0.2) down to 4 to 7 positions a
    side, then are linear. ``spectral_norm`` divides their weights by their largest singular values; it is for losses
    without a gradient penalty. Random weights and features are no parameters and are not in checkpoints.

    ``pixels`` adds a `ConventionalDiscriminator` of ``width`` and ``max_width`` for what the features leave out.
    A score by the same features would be flattered (Kynkaanniemi et al. 2022, arXiv 2203.06026).
    """

    input_range = (-1.0, 1.0)

    def __init__(
        self,
        features: nn.Module,
        size: Size = 64,
        channels: int = 3,
        width: int = 32,
        max_width: int = 256,
        pixels: bool = True,
        coarsest: int = 3,
        mixed: int = 64,
        head_width: int = 64,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.pixels = ConventionalDiscriminator(size, channels, width, max_width) if pixels else None
        features.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        with torch.no_grad(), torch.device("cpu"):  # also where the rest is made elsewhere
            maps = features(_speckles(as_pair(size)))
            if not 1 <= coarsest <= len(maps):
                raise ValueError(f"coarsest={coarsest}: must be 1 to {len(maps)}, the number of maps of the features")
            self._frozen = _Frozen(features, maps[-coarsest:], mixed)
        self.heads = nn.ModuleList(_head(mixed, head_width, as_pair(m.shape[2:])) for m in maps[-coarsest:])
        if spectral_norm:
            normalise_spectra(self)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def take_labels(self, count: int) -> None:
        """As TakesLabels.take_labels, of the pixels' discriminator. Raises ValueError without one."""
        if self.pixels is None:
            raise ValueError("pixels=false: only the discriminator of the pixels can be told labels; must be true")
        self.pixels.take_labels(count)

    @property
    def extractor(self) -> str:
        """The name of the features, by which a score must not be."""
        return str(getattr(self._frozen.features, "name", ""))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B, N) from images (B, C, H, W) in [-1, 1]: of the pixels, then of each map, finest first.

        Labels (B, K), if it takes any, are for the pixels.
        """
        maps = self._frozen.project((images + 1) / 2)
        logits = [head(m) for head, m in zip(self.heads, maps, strict=True)]
        return torch.cat(logits if self.pixels is None else [self.pixels(images, labels)[:, None], *logits], 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ProjectedDiscriminator:
        """Move what is frozen too, in ``to``, ``cpu``, ``cuda`` and the like."""
        self._frozen.apply(fn)
        return super()._apply(fn, recurse)


class _Frozen:
    """The network of the features and the random projections; no module, so that nothing of it is a parameter."""

    def __init__(self, features: nn.Module, maps: list[Tensor], mixed: int) -> None:
        self.features = features
        self.mix = [_random(f"mix/{i}", (mixed, m.shape[1], 1, 1), _scale(m)) for i, m in enumerate(maps)]
        self.blend = [_random(f"blend/{i}", (mixed, mixed, 3, 3)) for i in range(len(maps))]

    def project(self, images: Tensor) -> list[Tensor]:
        """Mixed maps, finest first, of images in [0, 1]."""
        mixed: list[Tensor] = []
        for m, mix, blend in reversed(
            list(zip(self.features(images)[-len(self.mix) :], self.mix, self.blend, strict=True))
        ):
            here = functional.conv2d(m, mix)
            if mixed:
                coarser = functional.interpolate(mixed[-1], here.shape[2:], mode="bilinear", align_corners=False)
                here = (here + coarser) * sqrt(0.5)
            mixed.append(functional.conv2d(here, blend, padding=1))
        return mixed[::-1]

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move or convert all of it."""
        self.features._apply(fn)
        self.mix, self.blend = [fn(w) for w in self.mix], [fn(w) for w in self.blend]


def _random(name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """N(0, 1 / inputs) times ``scale``, the same on every machine."""
    return _normal(name, shape) * (scale / sqrt(prod(shape[1:])))


def _scale(m: Tensor) -> float:
    """What brings the values of a map to about 1; a power of two, so that rounding elsewhere does not change it."""
    return 2.0 ** -round(log2(max(float(m.square().mean().sqrt()), 1e-6)))


def _speckles(size: tuple[int, int]) -> Tensor:
    """An image (1, 3, H, W) in [0, 1] with structures of every size."""
    image, side = torch.zeros(1, 3, *size), 2
    while side <= max(size):
        image = image + functional.interpolate(_normal(f"speckles/{side}", (1, 3, side, side)), size, mode="bilinear")
        side *= 2
    return torch.sigmoid(image)


def _normal(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(counter_rng.normal(0, f"projected/{name}", np.arange(1), shape)[0].astype(np.float32))


def _head(inputs: int, width: int, size: tuple[int, int]) -> nn.Sequential:
    """(B, 1) from a map of a size."""
    layers: list[nn.Module] = []
    while min(size) >= 2 * SMALLEST or not layers:
        halves = min(size) >= 2 * SMALLEST
        layers += [nn.Conv2d(inputs, width, *((4, 2, 1) if halves else (3, 1, 1))), nn.LeakyReLU(0.2)]
        inputs, size = width, (size[0] // 2, size[1] // 2) if halves else size
    # no bias: it would cancel in a relativistic loss and get no gradient
    linear = nn.Linear(width * prod(size), 1, bias=False)
    nn.init.normal_(linear.weight, 0.0, linear.in_features**-0.5)
    return nn.Sequential(*layers, nn.Flatten(), linear).apply(he_init)
