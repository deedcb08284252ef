"""Sliced Wasserstein distance of patches, per level of a Laplacian pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from faceforge import counter_rng
from faceforge.io.images import from_uint8, to_uint8

BINS = 2048  # of a projection's range: distances are then right to a thousandth
LINES, POINTS = 256, 8192  # projected at a time, so that the results stay in a CPU's cache
IMAGES = 32  # looked at together, for the same reason
FLAT = 1e-6  # of the mean square; a channel that varies less is constant, but for rounding


@dataclass(frozen=True)
class Patches:
    """Points (count, C * 49) of a level, channels last, with the mean and deviation (C,) of each channel over all."""

    points: Tensor
    mean: Tensor
    deviation: Tensor

    def lines(self, lines: Tensor) -> tuple[Tensor, Tensor]:
        """Directions (D, C * 49) and offsets (D, 1) that project points as lines project normalised ones."""
        pixels = lines.shape[1] // len(self.mean)
        scaled = lines / self.deviation.repeat(pixels)
        return scaled, -(scaled @ self.mean.repeat(pixels))[:, None]


class PatchSwd:
    """Sliced Wasserstein distance x 1000 of 7x7 patches at each level of a Laplacian pyramid.

    Karras et al. 2018 (ProGAN), section 5: ``patches`` per image and level, each channel normalised by its own mean and
    deviation over the set, ``directions`` random projections of the patches. The distance of two projections is the
    area between their distributions, counted in bins instead of sorted, which is several times as fast. Images are
    (N, C, H, W) in [-1, 1] of one ``shape`` (C, H, W), rounded to 8 bits first.
    """

    key = "swd"

    def __init__(
        self, shape: Sequence[int], *, scales: int = 3, patches: int = 128, directions: int = 512, seed: int = 0
    ) -> None:
        """Raises ValueError for sides below 7 pixels."""
        if min(shape[1:]) < 7:
            raise ValueError(f"patches of 7x7 need images of at least 7 pixels a side, not {shape[1]}x{shape[2]}")
        self.shape, self.scales, self.patches, self.seed = tuple(shape), scales, patches, seed
        lines = counter_rng.normal(seed, "swd/directions", np.arange(directions), (49 * shape[0],))
        lines /= np.linalg.norm(lines, axis=1, keepdims=True)
        self.lines = torch.from_numpy(lines.astype(np.float32))

    @property
    def protocol(self) -> dict[str, str]:
        """All that other shares would follow from."""
        numbers = (self.scales, self.patches, len(self.lines), BINS, self.seed)
        return {"levels, patches, directions, bins, seed": ", ".join(map(str, numbers)), "sums": "float64"}

    def numbers(self, images: int) -> tuple[int, ...]:
        """The shape of the shares of so many images, which is that of any."""
        levels = len(laplacian_pyramid(torch.zeros(1, *self.shape), self.scales))
        return levels, len(self.lines), 2 + BINS

    def shares(self, real: Tensor) -> Tensor:
        """Of each level's patches, along each direction: where bins begin, their width, and the share of patches below
        the middle of each bin: (levels, directions, 2 + BINS). Computed once for real images.
        """
        return torch.stack([self._of_level(patches) for patches in self._patches(real)])

    def _of_level(self, patches: Patches) -> Tensor:
        lines, offset = patches.lines(self.lines)
        ends = [(lines @ part.T).aminmax(dim=1, keepdim=True) for part in patches.points.split(POINTS)]
        low, high = torch.cat([e.min for e in ends], 1).amin(1), torch.cat([e.max for e in ends], 1).amax(1)
        low, high = low + offset[:, 0], high + offset[:, 0]
        width = ((high - low) / (BINS - 2)).clamp(min=1e-12)
        low -= width  # a bin of room on both sides, for rounding
        below, _ = self._below(patches, low, width)
        return torch.cat([low[:, None], width[:, None], below], 1)

    def __call__(self, shares: Tensor, fake: Tensor) -> dict[int, float]:
        """{side: distance} from the shares of real images to images; keys are the shorter side of a level, 64, 32, 16
        for 64.

        Never negative, and positive even for two halves of one set: compare only at equal counts. Raises ValueError for
        images of another shape.
        """
        if tuple(fake.shape[1:]) != self.shape:
            raise ValueError(f"patches need two sets of one size: {self.shape}, {tuple(fake.shape[1:])}")
        sides = [min(level.shape[1:3]) for level in self._pyramid(fake[:1])]
        levels = zip(sides, self._patches(fake), shares, strict=True)
        return {side: 1e3 * float(self.distances(patches, real).mean()) for side, patches, real in levels}

    def distances(self, patches: Patches, shares: Tensor) -> Tensor:
        """The Wasserstein distance of patches to those of a level's shares, along each direction: float64."""
        low, width, real = shares[:, 0], shares[:, 1], shares[:, 2:]
        below, beyond = self._below(patches, low, width)
        return ((below - real).abs().sum(1, dtype=torch.float64) + beyond) * width

    def _below(self, patches: Patches, low: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Shares of points below the middle of each bin, and their mean distance to all bins, in bins."""
        counts, beyond = np.zeros((len(low), BINS), np.int64), torch.zeros(len(low), dtype=torch.float64)
        lines, offset = patches.lines(self.lines)
        scaled, start = lines / width[:, None], (offset - low[:, None]) / width[:, None]
        for part in patches.points.split(POINTS):
            for first in range(0, len(low), LINES):
                some = slice(first, first + LINES)
                places = torch.addmm(start[some], scaled[some], part.T)
                least, most = places.aminmax()
                if least < 0 or most >= BINS:
                    inside = places.clamp(0, BINS - 1)
                    beyond[some] += (places - inside).abs_().sum(1)
                    places = inside
                for count, line in zip(counts[some], places.to(torch.int32).numpy(), strict=True):
                    count += np.bincount(line, minlength=BINS)
        points = len(patches.points)
        return torch.from_numpy((counts.cumsum(1) - counts / 2) / points).float(), beyond / points

    def _patches(self, images: Tensor) -> Iterator[Patches]:
        """The patches of each level."""
        for level in self._pyramid(images):
            yield _patches_of(level, self.patches, self.seed)

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        """The levels of images rounded to 8 bits, channels last: (N, h, w, C) each."""
        found: list[Tensor] = []
        for first in range(0, len(images), IMAGES):
            some = images[first : first + IMAGES].detach().cpu()
            levels = laplacian_pyramid(from_uint8(to_uint8(some)), self.scales)
            found = found or [one.new_empty(len(images), *one.shape[2:], one.shape[1]) for one in levels]
            for whole, level in zip(found, levels, strict=True):
                whole[first : first + IMAGES] = level.permute(0, 2, 3, 1)
        return found


def patch_swd(
    real: Tensor, fake: Tensor, *, scales: int = 3, patches: int = 128, directions: int = 512, seed: int = 0
) -> dict[int, float]:
    """The distances of two sets, as `PatchSwd` computes them."""
    swd = PatchSwd(real.shape[1:], scales=scales, patches=patches, directions=directions, seed=seed)
    return swd(swd.shares(real), fake)


def _blur(images: Tensor, gain: float, stride: int) -> Tensor:
    """The binomial filter 1 4 6 4 1 in both directions, borders mirrored: Burt and Adelson 1983, a = 3/8.

    Sums of shifted images: for one small filter on every channel they take a third of a convolution's time.
    """
    padded = F.pad(images, (2, 2, 2, 2), "reflect")
    return _line(_line(padded, 2, gain, stride), 3, 1.0, stride)


def _line(images: Tensor, dimension: int, gain: float, stride: int) -> Tensor:
    """The filter along a dimension, which becomes 4 shorter."""
    length, before = images.shape[dimension] - 4, (slice(None),) * dimension
    a, b, c, d, e = (images[(*before, slice(n, n + length, stride))] for n in range(5))
    return (a + e).add_(b + d, alpha=4).add_(c, alpha=6).mul_(gain / 16)


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


def _patches_of(images: Tensor, each: int, seed: int) -> Patches:
    """``each`` 7x7 patches of each image (N, H, W, C) at random positions, image after image."""
    n, height, width, channels = images.shape
    room = np.array([height - 6, width - 6])
    corners = counter_rng.uniform(seed, f"swd/{height}x{width}", np.arange(each * n), (2,)) * room
    corners = corners.astype(np.int64).reshape(each, n, 2).swapaxes(0, 1)
    windows = sliding_window_view(images.numpy(), (7, 7), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    points = torch.empty(n * each, 49 * channels)
    sums, squares = torch.zeros(2, channels, dtype=torch.float64)
    for first in range(0, n, IMAGES):
        some = corners[first : first + IMAGES]
        found = windows[first : first + IMAGES][np.arange(len(some))[:, None], some[..., 0], some[..., 1]]
        part = points[first * each : (first + len(some)) * each]
        part.copy_(torch.from_numpy(found.reshape(part.shape)))
        sums += part.sum(0).view(49, channels).sum(0, dtype=torch.float64)
        squares += part.square().sum(0).view(49, channels).sum(0, dtype=torch.float64)
    mean, square = sums / (49 * n * each), squares / (49 * n * each)
    variance = square - mean**2
    deviation = torch.where(variance > FLAT * square, variance.clamp(min=0).sqrt(), 1)
    return Patches(points, mean.float(), deviation.float())
