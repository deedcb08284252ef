"""Droplets: small blobs in generated images, far darker than their surroundings and than the image should be there.

Generators with instance norm make them to carry brightness past the norm (Karras et al. 2020, arXiv 1912.04958,
section 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

MARGIN = 0.2  # how much darker, of the range 1
LEAST = 4  # pixels of a blob
RADIUS = 1 / 16  # of the shorter side: the largest radius of a blob, and how far a dark place may have moved


def droplets(made: Tensor, references: Sequence[Tensor]) -> Tensor:
    """Droplets in each image, int64 (N,); images (N, C, H, W) in [0, 1].

    A droplet is a blob of at least ``LEAST`` pixels, each darker by ``MARGIN`` than a morphological closing of the
    image, which fills what is narrower than two ``RADIUS``, and darker by ``MARGIN`` than the darkest pixel within
    ``RADIUS`` of each reference: the true image, and what the input alone lets expect.
    """
    radius = max(1, round(min(made.shape[2:]) * RADIUS))
    ours = _lightness(made)
    filled = -_largest(-_largest(ours, radius), radius)
    dark = filled - ours > MARGIN
    for reference in references:
        dark &= ours < -_largest(-_lightness(reference), radius) - MARGIN
    return torch.tensor([_blobs(plane) for plane in dark[:, 0].cpu().numpy()], dtype=torch.int64)


def _lightness(images: Tensor) -> Tensor:
    return images.float().mean(1, keepdim=True)


def _largest(planes: Tensor, radius: int) -> Tensor:
    """The largest value within a square; borders repeat."""
    return max_pool2d(pad(planes, (radius,) * 4, mode="replicate"), 2 * radius + 1, 1)


def _blobs(plane: np.ndarray) -> int:
    count, _, sizes, _ = cv2.connectedComponentsWithStats(plane.astype(np.uint8), connectivity=8)
    return sum(int(sizes[n, cv2.CC_STAT_AREA]) >= LEAST for n in range(1, count))
