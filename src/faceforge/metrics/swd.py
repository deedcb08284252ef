"""Sliced Wasserstein distance of patches, per level of a Laplacian pyramid."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from faceforge import counter_rng
from faceforge.io.images import from_uint8, to_uint8


def patch_swd(
    real: Tensor, fake: Tensor, *, scales: int = 3, patches: int = 128, directions: int = 512, seed: int = 0
) -> dict[int, float]:
    """Sliced Wasserstein distance x 1000 of 7x7 patches at each level of a Laplacian pyramid: {side: distance}.

    Karras et al. 2018 (ProGAN), section 5: ``patches`` per image and level, each channel normalised by its own
    mean and deviation over the set, ``directions`` random projections of the patches. (N, C, H, W) and
    (M, C, H, W) in [-1, 1], rounded to 8 bits first; keys are the shorter side of a level, 64, 32, 16 for 64.
    Never negative, and positive even for two halves of one set: compare only at equal counts. Raises ValueError
    for images below 7 pixels or of different shapes.
    """
    if real.shape[1:] != fake.shape[1:] or min(real.shape[2:]) < 7:
        raise ValueError(f"patches of 7x7 need two sets of one size, at least 7: {real.shape[1:]}, {fake.shape[1:]}")
    sets = [laplacian_pyramid(from_uint8(to_uint8(images.detach().cpu())), scales) for images in (real, fake)]
    count = patches * max(len(real), len(fake))
    lines = counter_rng.normal(seed, "swd/directions", np.arange(directions), (49 * real.shape[1],))
    lines = (lines / np.linalg.norm(lines, axis=1, keepdims=True)).astype(np.float32)
    return {
        min(a.shape[2:]): 1e3 * _sliced_wasserstein(_patches(a, count, seed), _patches(b, count, seed), lines)
        for a, b in zip(*sets, strict=True)
    }


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


def _patches(images: Tensor, count: int, seed: int) -> NDArray[np.float32]:
    """``count`` 7x7 patches at random positions, image after image, channels normalised: (count, C * 49)."""
    n, channels, height, width = images.shape
    room = np.array([height - 6, width - 6])
    corner = (counter_rng.uniform(seed, f"swd/{height}x{width}", np.arange(count), (2,)) * room).astype(np.int64)
    rows = corner[:, :1] + np.arange(7)
    columns = corner[:, 1:] + np.arange(7)
    image = (np.arange(count) % n)[:, None, None]
    found = images.permute(0, 2, 3, 1).numpy()[image, rows[:, :, None], columns[:, None, :]]
    found = found.reshape(count, 49, channels)
    mean, deviation = found.mean((0, 1), dtype=np.float64), found.std((0, 1), dtype=np.float64)
    scaled = (found - mean) / np.where(deviation > 0, deviation, 1)
    return scaled.astype(np.float32).reshape(count, -1)


def _sliced_wasserstein(a: NDArray[np.float32], b: NDArray[np.float32], directions: NDArray[np.float32]) -> float:
    """Mean over directions of the 1-D Wasserstein distance, from sorted projections at equal counts."""
    total = 0.0
    for part in np.array_split(directions, max(1, len(directions) // 32)):
        gap = np.sort(part @ a.T, axis=1) - np.sort(part @ b.T, axis=1)
        total += float(np.abs(gap).mean(1, dtype=np.float64).sum())
    return total / len(directions)
