"""Sliced Wasserstein distance of patches, per level of a Laplacian pyramid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceforge import counter_rng
from faceforge.io.images import from_uint8, to_uint8

BINS = 4096  # of a projection's range: the distance is then exact to a few parts in ten thousand
AT_ONCE = 32  # directions


class PatchSwd:
    """Sliced Wasserstein distance x 1000 of 7x7 patches to those of real images, at each level of a Laplacian pyramid.

    Karras et al. 2018 (ProGAN), section 5: ``patches`` per image and level, each channel normalised by its own mean and
    deviation over the set, ``directions`` random projections of the patches. The distance of two projections is the
    area between their distributions, counted in bins instead of sorted, which is four times as fast. Images are
    (N, C, H, W) in [-1, 1], rounded to 8 bits first. Raises ValueError for images below 7 pixels.
    """

    def __init__(
        self, real: Tensor, *, scales: int = 3, patches: int = 128, directions: int = 512, seed: int = 0
    ) -> None:
        if min(real.shape[2:]) < 7:
            raise ValueError(f"patches of 7x7 need images of at least 7 pixels a side: {tuple(real.shape[2:])}")
        self.shape, self.scales, self.patches, self.seed = real.shape[1:], scales, patches, seed
        lines = counter_rng.normal(seed, "swd/directions", np.arange(directions), (49 * real.shape[1],))
        lines /= np.linalg.norm(lines, axis=1, keepdims=True)
        self.lines = torch.from_numpy(lines.astype(np.float32)).split(AT_ONCE)
        self.levels = [[_Shares.of(points, part) for part in self.lines] for points in self._points(real)]

    def __call__(self, fake: Tensor) -> dict[int, float]:
        """{side: distance} to images (M, C, H, W); keys are the shorter side of a level, 64, 32, 16 for 64.

        Never negative, and positive even for two halves of one set: compare only at equal counts. Raises ValueError for
        images of another shape.
        """
        if fake.shape[1:] != self.shape:
            raise ValueError(f"patches need two sets of one size: {tuple(self.shape)}, {tuple(fake.shape[1:])}")
        sides = [min(level.shape[2:]) for level in self._pyramid(fake[:1])]
        found = {}
        for side, points, shares in zip(sides, self._points(fake), self.levels, strict=True):
            parts = [own.distances(points, part) for own, part in zip(shares, self.lines, strict=True)]
            found[side] = 1e3 * float(torch.cat(parts).mean())
        return found

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        return laplacian_pyramid(from_uint8(to_uint8(images.detach().cpu())), self.scales)

    def _points(self, images: Tensor) -> Iterator[Tensor]:
        """The normalised patches of each level (count, C * 49)."""
        for level in self._pyramid(images):
            yield _patches(level, self.patches * len(images), self.seed)


def patch_swd(
    real: Tensor, fake: Tensor, *, scales: int = 3, patches: int = 128, directions: int = 512, seed: int = 0
) -> dict[int, float]:
    """The distance of two sets, as `PatchSwd` computes it."""
    return PatchSwd(real, scales=scales, patches=patches, directions=directions, seed=seed)(fake)


@dataclass(frozen=True)
class _Shares:
    """The shares of points below the middle of each bin, along some directions (L, D): (L, BINS)."""

    low: Tensor  # (L, 1), where the first bin begins
    width: Tensor  # (L, 1) of a bin
    below: Tensor

    @classmethod
    def of(cls, points: Tensor, lines: Tensor) -> _Shares:
        low, high = (lines @ points.T).aminmax(dim=1, keepdim=True)
        width = ((high - low) / (BINS - 2)).clamp(min=1e-12)
        low -= width  # a bin of room on both sides, for rounding
        return cls(low, width, _below(_places(points, lines, low, width).clamp_(0, BINS - 1)))

    def distances(self, points: Tensor, lines: Tensor) -> Tensor:
        """The Wasserstein distance to other points (M, D) along each direction: (L,) float64."""
        places = _places(points, lines, self.low, self.width)
        inside = places.clamp(0, BINS - 1)
        least, most = places.aminmax()
        beyond = (places - inside).abs_().sum(1).double() / len(points) if least < 0 or most >= BINS else 0.0
        gaps = (self.below - _below(inside)).abs().sum(1, dtype=torch.float64)
        return (gaps + beyond) * self.width[:, 0]


def _places(points: Tensor, lines: Tensor, low: Tensor, width: Tensor) -> Tensor:
    """Projections of points (N, D) on lines (L, D), in bins: (L, N)."""
    return torch.addmm(-low / width, lines / width, points.T)


def _below(places: Tensor) -> Tensor:
    """The shares of places (L, N) in [0, BINS) that lie below the middle of each bin: (L, BINS)."""
    counts = np.stack([np.bincount(line, minlength=BINS) for line in places.to(torch.int32).numpy()])
    return torch.from_numpy((counts.cumsum(1) - counts / 2) / places.shape[1]).float()


def _blur(images: Tensor, gain: float, stride: int) -> Tensor:
    """The binomial filter 1 4 6 4 1 in both directions, borders mirrored: Burt and Adelson 1983, a = 3/8."""
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (gain * line[:, None] * line).expand(images.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), "reflect"), kernel, stride=stride, groups=images.shape[1])


def _enlarge(images: Tensor, like: Tensor) -> Tensor:
    spread = torch.zeros_like(like)
    spread[:, :, ::2, ::2] = images
    return _blur(spread, 4.0, 1)


def laplacian_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """(N, C, H, W) -> differences between successive sizes, then the smallest image; at most ``levels``.

    Sides are halved, rounding up, while the shorter stays at 7 or more, the side of a patch.
    """
    pyramid = [images]
    while len(pyramid) < levels and min(pyramid[-1].shape[2:]) > 12:
        small = _blur(pyramid[-1], 1.0, 2)
        pyramid[-1] = pyramid[-1] - _enlarge(small, pyramid[-1])
        pyramid.append(small)
    return pyramid


def _patches(images: Tensor, count: int, seed: int) -> Tensor:
    """``count`` 7x7 patches at random positions, image after image, channels normalised: (count, C * 49)."""
    n, channels, height, width = images.shape
    room = np.array([height - 6, width - 6])
    corner = (counter_rng.uniform(seed, f"swd/{height}x{width}", np.arange(count), (2,)) * room).astype(np.int64)
    rows = corner[:, :1] + np.arange(7)
    columns = corner[:, 1:] + np.arange(7)
    image = (np.arange(count) % n)[:, None, None]
    found = images.permute(0, 2, 3, 1).numpy()[image, rows[:, :, None], columns[:, None, :]]
    points = torch.from_numpy(found.reshape(count, 49, channels))
    deviation, mean = torch.std_mean(points, (0, 1), correction=0)
    points.sub_(mean).div_(torch.where(deviation > 0, deviation, 1))
    return points.view(count, -1)
