"""Degradations that photos have, for inputs of super-resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceforge import counter_rng_torch
from faceforge.errors import BadInput
from faceforge.io.images import from_uint8, through_jpeg, to_uint8

MOST_BLUR, BEST_JPEG = 10, 95


@dataclass(frozen=True)
class Degradation:
    """A face is blurred, made small, noisy, and saved as JPEG (Wang et al. 2021, Real-ESRGAN, arXiv 2107.10833, eq. 1).

    Each face has its own draws, a function of ``seed``, stream and position. ``blur`` is the largest deviation of a
    Gaussian in pixels of the face, ``noise`` that of normal noise in the range 0 to 1, both drawn from 0 on; ``jpeg``
    is the lowest quality of Pillow's JPEG, drawn up to 95. 0 leaves each out.
    """

    blur: float
    noise: float
    jpeg: int
    seed: int

    def __post_init__(self) -> None:
        for key, value, most in (("blur", self.blur, MOST_BLUR), ("noise", self.noise, 1)):
            if not 0 <= value <= most:
                raise BadInput(f"task.degrade.{key}={value}: must be from 0 to {most}")
        if self.jpeg != 0 and not 1 <= self.jpeg <= BEST_JPEG:
            raise BadInput(f"task.degrade.jpeg={self.jpeg}: must be 0 (none) or a quality from 1 to {BEST_JPEG}")

    def __str__(self) -> str:
        parts = [f"blurred by up to {self.blur:g} pixels"] if self.blur else []
        parts += [f"noisy by up to {self.noise:g} of the range"] if self.noise else []
        parts += [f"saved as JPEG of quality {self.jpeg} to {BEST_JPEG}"] if self.jpeg else []
        return ", ".join(parts) or "not degraded"

    def check(self, height: int, width: int) -> None:
        """Raise BadInput if the blur would reach beyond the mirrored border."""
        if _reach(self.blur) >= min(height, width):
            most = (min(height, width) - 1) // 3
            raise BadInput(f"task.degrade.blur={self.blur}: at most {most} for data.size=[{height},{width}]")

    def __call__(self, faces: Tensor, reduce: Callable[[Tensor], Tensor], counters: Tensor, stream: str) -> Tensor:
        """Small faces (B, C, h, w) in [-1, 1] of faces (B, C, H, W); ``counters`` (B,) key the draws."""
        if not len(faces):
            return reduce(faces)
        purpose = f"task/degrade/{stream}"
        draws = counter_rng_torch.uniform(self.seed, purpose, counters, (3,)).float().to(faces.device)
        small = reduce(blurred(faces, draws[:, 0] * self.blur, self.blur) if self.blur else faces)
        if self.noise:
            normal = counter_rng_torch.normal(self.seed, f"{purpose}/noise", counters, tuple(small.shape[1:]))
            deviation = 2 * self.noise * draws[:, 1, None, None, None]
            small = (small + deviation * normal.float().to(faces.device)).clamp(-1, 1)
        if self.jpeg:
            qualities = self.jpeg + torch.floor(draws[:, 2] * (BEST_JPEG + 1 - self.jpeg))
            small = _saved(small, [int(quality) for quality in qualities])
        return small


def _reach(deviation: float) -> int:
    """Pixels on each side of its centre at which a Gaussian is cut off."""
    return math.ceil(3 * deviation)


def blurred(images: Tensor, deviations: Tensor, most: float) -> Tensor:
    """Each image (B, C, H, W) by a Gaussian of its own deviation (B,), at most ``most``; borders are mirrored."""
    count, channels, height, width = images.shape
    reach = _reach(most)
    away = torch.arange(-reach, reach + 1, device=images.device)
    line = torch.exp(-((away / deviations.clamp(min=1e-3)[:, None]) ** 2) / 2)
    line = (line / line.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    planes = F.pad(images.reshape(1, count * channels, height, width), (reach,) * 4, "reflect")
    planes = F.conv2d(planes, line[:, None, None, :], groups=len(line))
    return F.conv2d(planes, line[:, None, :, None], groups=len(line)).view_as(images)


def _saved(images: Tensor, qualities: Sequence[int]) -> Tensor:
    """Images (B, 1|3, H, W) written and read as JPEG, on their device."""
    pixels = to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()
    read = [through_jpeg(picture, quality) for picture, quality in zip(pixels, qualities, strict=True)]
    return from_uint8(torch.from_numpy(np.stack(read))).permute(0, 3, 1, 2).contiguous().to(images.device)
