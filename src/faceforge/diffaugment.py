"""Differentiable augmentation for training on few faces: Zhao et al. 2020 (arXiv 2006.10738), section 3.3.

The same random change is applied to real and generated images before the discriminator sees them, and
gradients flow through it to the generator. Randomness is an argument, so a run can be repeated and resumed
exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TRANSLATION_SHARE = 1 / 8  # largest shift as a fraction of the side, in both directions
CUTOUT_SHARE = 1 / 2  # side of the erased box as a fraction of the image side


def parse(policy: str) -> list[str]:
    """The steps of a policy such as "color,translation,cutout". Raises ValueError for an unknown step."""
    steps = [step.strip() for step in policy.split(",") if step.strip()]
    for step in steps:
        if step not in _STEPS:
            raise ValueError(f"unknown augmentation {step!r}; known: {', '.join(_STEPS)}")
    return steps


def uniforms_needed(policy: str) -> int:
    """K, the number of uniforms that `augment` needs per image: color 3, translation and cutout 2."""
    return sum(_STEPS[step][1] for step in parse(policy))


def augment(images: Tensor, policy: str, uniforms: Tensor) -> Tensor:
    """`images` (B, C, H, W), each augmented by its own row of `uniforms` (B, K) in [0, 1).

    K is `uniforms_needed(policy)`. An empty policy returns the images themselves. Values may leave
    [-1, 1] after `color`: clamping would block gradients.
    """
    steps, needed = parse(policy), uniforms_needed(policy)
    if uniforms.shape != (len(images), needed):
        raise ValueError(f"{policy!r} needs uniforms of shape {(len(images), needed)}, not {(*uniforms.shape,)}")
    uniforms, start = uniforms.to(images.device), 0
    for step in steps:
        function, count = _STEPS[step]
        images = function(images, uniforms[:, start : start + count])
        start += count
    return images


def color(images: Tensor, uniforms: Tensor) -> Tensor:
    """Brightness +-0.5, saturation x[0, 2) about each pixel's grey, contrast x[0.5, 1.5) about the mean."""
    brightness, saturation, contrast = uniforms.T.to(images.dtype)[:, :, None, None, None]
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def translation(images: Tensor, uniforms: Tensor) -> Tensor:
    """A shift by whole pixels, at most an eighth of the side, rounded; the border is filled with 0, mid grey."""
    height, width = images.shape[-2:]
    rows = _sources(height, uniforms[:, 0])
    columns = _sources(width, uniforms[:, 1])
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[
        batch, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]
    ]
    inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None]
    return (moved * inside[..., None]).permute(0, 3, 1, 2)


def cutout(images: Tensor, uniforms: Tensor) -> Tensor:
    """A box of half the sides set to 0, centred anywhere; it may extend over the edge."""
    height, width = images.shape[-2:]
    erased = _span(height, uniforms[:, 0])[:, :, None] & _span(width, uniforms[:, 1])[:, None]
    return images * ~erased[:, None]


def _sources(side: int, uniform: Tensor) -> Tensor:
    """(B, side): the input position of each output position, possibly outside [0, side)."""
    most = int(side * TRANSLATION_SHARE + 0.5)
    shift = (uniform * (2 * most + 1)).floor().long() - most
    return torch.arange(side, device=uniform.device) - shift[:, None]


def _within(positions: Tensor, side: int) -> Tensor:
    return (positions >= 0) & (positions < side)


def _span(side: int, uniform: Tensor) -> Tensor:
    """(B, side) bool: positions inside a span of half the side whose centre is floor(uniform * side)."""
    length = int(side * CUTOUT_SHARE + 0.5)
    first = (uniform * side).floor().long()[:, None] - length // 2
    positions = torch.arange(side, device=uniform.device)
    return (positions >= first) & (positions < first + length)


_STEPS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {  # and the number of uniforms of each
    "color": (color, 3),
    "translation": (translation, 2),
    "cutout": (cutout, 2),
}
